"""A hash table of words with 64-bit counts: the inner loop of counting.

A short word, of up to sixteen bytes as nearly all are, is two numbers: its bytes. They lie beside its count, so that to
count it costs one look at memory. The bytes of longer ones lie end to end in one buffer of their own, so that no text
has to be kept, and a slot of theirs holds some bits of the hash beside the place.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy import int64, uint64

from pipeline.text.hashing import GOLDEN, MIX, span_hash, tail64
from pipeline.text.jit import njit
from pipeline.text.kernels import borrow, load64, prefetch
from pipeline.tokenization.encoding import pretokenize


class WordTable(NamedTuple):
    short: (
        np.ndarray
    )  # uint64 [a power of two, 3]: the first and the last eight bytes of a short word (0: free), its count
    long: np.ndarray  # uint64 [a power of two, 2]: top bits of the hash | 1 + place in ``words`` (0: free), its count
    words: np.ndarray  # uint64, for each longer word its length and its bytes, eight in a number, filled up with zeros
    size: np.ndarray  # int64 [3]: short words, longer ones, numbers of ``words`` in use


_PLACE = uint64((1 << 40) - 1)  # the bits of a slot that hold the place
_ALL = uint64((1 << 64) - 1)


@njit(cache=True, nogil=True)
def empty(capacity: int) -> WordTable:
    """Room for ``capacity`` words, a power of two; ``add`` makes more."""
    return WordTable(
        np.zeros((2 * capacity, 3), np.uint64),
        np.zeros((capacity, 2), np.uint64),
        np.empty(2 * capacity, np.uint64),
        np.zeros(3, np.int64),
    )


@njit(cache=True, nogil=True, forceinline=True)
def _numbers(data: np.ndarray, start: int, length: int) -> tuple[np.uint64, np.uint64]:
    """The short word ``data[start:start + length]`` as two numbers, its first byte lowest; 0, 0 for another word.

    Nor is one short that ends in a zero byte: the numbers would not tell how long it is.
    """
    if uint64(length - 1) >= uint64(16):
        return uint64(0), uint64(0)
    if start + 16 <= len(data):
        beyond = uint64(4 * max(length - 8, 0))  # twice: a number is not shifted by all its bits at once
        first = load64(data, start) & (_ALL >> uint64(64 - 8 * min(length, 8)))
        second = load64(data, start + 8) & ~(_ALL << beyond << beyond)
    else:
        first = load64(data, start) if length >= 8 else tail64(data, start, length)
        second = tail64(data, start + 8, length - 8) if length > 8 else uint64(0)
    if data[start + length - 1] == 0:
        return uint64(0), uint64(0)
    return first, second


@njit(cache=True, nogil=True)
def add(data: np.ndarray, starts: np.ndarray, ends: np.ndarray, weights: np.ndarray, table: WordTable) -> WordTable:
    """``table`` with ``weights[i]`` (int64; none: 1) added for span i; it takes the place of the given one."""
    i = 0
    while True:
        i = _add(data, starts, ends, weights, i, table.short, table.long, table.words, table.size)
        if i == len(starts):
            return table
        table = _with_room(table, ends[i] - starts[i])


@njit(cache=True, nogil=True)
def _add(
    data: np.ndarray,
    starts: np.ndarray,
    ends: np.ndarray,
    weights: np.ndarray,
    i: int,
    short: np.ndarray,
    long: np.ndarray,
    words: np.ndarray,
    size: np.ndarray,
) -> int:
    """Count the spans from i on up to the first for which there may be no room; its number."""
    weighted = len(weights) > 0
    few, most, many, used = size[0], _most(short), size[1], size[2]
    while i < len(starts) and few < most:
        start, length = starts[i], ends[i] - starts[i]
        times = uint64(weights[i]) if weighted else uint64(1)
        first, second = _numbers(data, start, length)
        if first | second:
            slot = _short_slot(short, first, second)
            if short[slot, 0] | short[slot, 1] == 0:
                short[slot, 0], short[slot, 1] = first, second
                few += 1
            short[slot, 2] += times
        else:
            if many >= _most(long) or used + _room(length) > len(words):
                break
            key = span_hash(data, start, length)
            slot = _long_slot(data, start, length, key, long, words)
            if long[slot, 0] == 0:
                long[slot, 0] = (key & ~_PLACE) | uint64(used + 1)
                used = _append(data, start, length, words, used)
                many += 1
            long[slot, 1] += times
        i += 1
    size[0], size[1], size[2] = few, many, used
    return i


def add_texts(
    data: np.ndarray,
    offsets: np.ndarray,
    classes: np.ndarray,
    kind: int,
    alone: int | np.uint8,
    weights: np.ndarray,
    table: WordTable,
) -> WordTable:
    """``table`` with the pre-tokens of texts, cut as ``pretokenize.cut_all`` cuts them; it takes the place of the given
    one. Each of text i counts ``weights[i]`` times (int64; none: once).
    """
    state = np.array([0, offsets[0], offsets[0]])
    room = np.empty((pretokenize.SPANS, 3), np.int64), np.empty((pretokenize.SPANS, 3), np.uint64)
    while not _add_texts(data, offsets, classes, kind, alone, weights, state, *room, *table):
        table = _with_room(table, int(room[0][0, 1] - room[0][0, 0]))
    return table


@njit(cache=True, nogil=True)
def _add_texts(data, offsets, classes, kind, alone, weights, state, spans, keys, short, long, words, size):
    """Go on from ``state``; whether all texts are done. If not, there may be no room for the word ``spans[0]``."""
    data, offsets, classes, weights = borrow(data), borrow(offsets), borrow(classes), borrow(weights)
    short, long, words, spans, keys = borrow(short), borrow(long), borrow(words), borrow(spans), borrow(keys)
    text, at, border = state
    few, many, used, slots = size[0], size[1], size[2], short.reshape(short.size)
    mask, most, done = uint64(len(short) - 1), _most(short) - pretokenize.SPANS, True
    while text < len(offsets) - 1 and done:
        first, end = offsets[text], offsets[text + 1]
        times = uint64(weights[text]) if len(weights) else uint64(1)
        some = pretokenize.TOGETHER
        while some >= pretokenize.TOGETHER:  # cut some, have their slots fetched, and then count those
            some, at, border = pretokenize.next_spans(data, at, border, first, end, classes, kind, alone, spans)
            for k in range(some):
                low, high = _numbers(data, spans[k, 0], spans[k, 1] - spans[k, 0])
                slot = _slot(low, high, mask)
                prefetch(slots, int64(3 * slot))
                keys[k, 0], keys[k, 1], keys[k, 2] = low, high, slot
            k, done = 0, few < most or some == 0
            while k < some and done:
                low, high, slot = keys[k, 0], keys[k, 1], keys[k, 2]
                if low | high:
                    while short[slot, 0] != low or short[slot, 1] != high:
                        if short[slot, 0] | short[slot, 1] == 0:
                            short[slot, 0], short[slot, 1] = low, high
                            few += 1
                            break
                        slot = (slot + uint64(1)) & mask
                    short[slot, 2] += times
                    k += 1
                    continue
                start, length = spans[k, 0], spans[k, 1] - spans[k, 0]
                done = many < _most(long) and used + _room(length) <= len(words)
                if done:
                    key = span_hash(data, start, length)
                    place = _long_slot(data, start, length, key, long, words)
                    if long[place, 0] == 0:
                        long[place, 0] = (key & ~_PLACE) | uint64(used + 1)
                        used = _append(data, start, length, words, used)
                        many += 1
                    long[place, 1] += times
                    k += 1
            if not done:
                at = border = spans[k, 2]
                spans[0, 0], spans[0, 1] = spans[k, 0], spans[k, 1]
                break
        if done:
            text += 1
            at = border = end
    state[0], state[1], state[2] = text, at, border
    size[0], size[1], size[2] = few, many, used
    return done


@njit(cache=True, nogil=True)
def holds(data: np.ndarray, start: int, length: int, short: np.ndarray, long: np.ndarray, words: np.ndarray) -> bool:
    """Whether the table with these parts holds the word ``data[start:start + length]``."""
    first, second = _numbers(data, start, length)
    if first | second:
        slot = _short_slot(short, first, second)
        return bool(short[slot, 0] | short[slot, 1])
    key = span_hash(data, start, length)
    return bool(long[_long_slot(data, start, length, key, long, words), 0])


@njit(cache=True, nogil=True, forceinline=True)
def _most(slots: np.ndarray) -> int:
    """How many of the slots may be taken."""
    return len(slots) // 4 * 3


@njit(cache=True, nogil=True, forceinline=True)
def _slot(first: np.uint64, second: np.uint64, mask: np.uint64) -> np.uint64:
    return (uint64(first * GOLDEN + second * MIX) >> uint64(32)) & mask


@njit(cache=True, nogil=True, forceinline=True)
def _short_slot(short: np.ndarray, first: np.uint64, second: np.uint64) -> np.uint64:
    """Where a short word is, or the free slot for it."""
    mask = uint64(len(short) - 1)
    slot = _slot(first, second, mask)
    while (short[slot, 0] != first or short[slot, 1] != second) and short[slot, 0] | short[slot, 1] != 0:
        slot = (slot + uint64(1)) & mask
    return slot


@njit(cache=True, nogil=True, forceinline=True)
def _long_slot(
    data: np.ndarray, start: int, length: int, key: np.uint64, long: np.ndarray, words: np.ndarray
) -> np.uint64:
    """Where a longer word of hash ``key`` is, or the free slot for it."""
    mask = uint64(len(long) - 1)
    slot = key & mask
    while long[slot, 0] != 0:
        if (long[slot, 0] ^ key) & ~_PLACE == 0 and _is(data, start, length, words, long[slot, 0] & _PLACE):
            break
        slot = (slot + uint64(1)) & mask
    return slot


@njit(cache=True, nogil=True, forceinline=True)
def _is(data: np.ndarray, start: int, length: int, words: np.ndarray, place: np.uint64) -> bool:
    """Whether ``data[start:start + length]`` is the word whose bytes begin at ``place`` of ``words``."""
    if words[place - uint64(1)] != uint64(length):
        return False
    at, end = start, start + length
    while at + 8 <= end:
        if load64(data, at) != words[place]:
            return False
        at += 8
        place += uint64(1)
    return at == end or tail64(data, at, end - at) == words[place]


@njit(cache=True, nogil=True, forceinline=True)
def _room(length: int) -> int:
    """How many numbers of ``words`` a word of ``length`` bytes takes."""
    return 1 + (length + 7) // 8


@njit(cache=True, nogil=True, forceinline=True)
def _append(data: np.ndarray, start: int, length: int, words: np.ndarray, used: int) -> int:
    """Write a word to ``words`` from ``used`` on; its end."""
    words[used] = length
    used += 1
    at, end = start, start + length
    while at + 8 <= end:
        words[used] = load64(data, at)
        at += 8
        used += 1
    if at < end:
        words[used] = tail64(data, at, end - at)
        used += 1
    return used


@njit(cache=True, nogil=True)
def contents(table: WordTable) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``(data, offsets, counts)`` of all words: uint8, int64 [words + 1], int64."""
    short, long, words, size = table
    data = np.empty(16 * size[0] + 8 * size[2], np.uint8)  # what is not used costs no memory
    offsets, counts = np.zeros(size[0] + size[1] + 1, np.int64), np.empty(size[0] + size[1], np.int64)
    written = words.view(np.uint8)
    at = number = 0
    for slot in range(len(short)):
        first, second = short[slot, 0], short[slot, 1]
        if first | second == 0:
            continue
        while first | second:
            data[at] = first & uint64(0xFF)
            first, second = (first >> uint64(8)) | (second << uint64(56)), second >> uint64(8)
            at += 1
        counts[number] = int64(short[slot, 2])
        number += 1
        offsets[number] = at
    for slot in range(len(long)):
        if long[slot, 0] == 0:
            continue
        place = int64(long[slot, 0] & _PLACE)
        for k in range(8 * place, 8 * place + int64(words[place - 1])):
            data[at] = written[k]
            at += 1
        counts[number] = int64(long[slot, 1])
        number += 1
        offsets[number] = at
    return data[:at], offsets, counts


@njit(cache=True, nogil=True)
def _with_room(table: WordTable, length: int) -> WordTable:
    """The table with room for one more word, of up to ``length`` bytes."""
    short, long, words, size = table
    if size[0] + pretokenize.SPANS >= _most(short):
        more = np.zeros((2 * len(short), 3), np.uint64)
        for slot in range(len(short)):
            if short[slot, 0] | short[slot, 1]:
                place = _short_slot(more, short[slot, 0], short[slot, 1])
                for k in range(3):
                    more[place, k] = short[slot, k]
        short = more
    used = size[2] + _room(length)
    if used > len(words):
        longer = np.empty(used + used // 2, np.uint64)
        longer[: size[2]] = words[: size[2]]
        words = longer
    if size[1] >= _most(long):
        wider = np.zeros((2 * len(long), 2), np.uint64)
        written, mask = words.view(np.uint8), uint64(len(wider) - 1)
        for slot in range(len(long)):
            if long[slot, 0] != 0:
                at = int64(long[slot, 0] & _PLACE)
                place = span_hash(written, 8 * at, int64(words[at - 1])) & mask  # type: ignore[arg-type]
                while wider[place, 0] != 0:
                    place = (place + uint64(1)) & mask
                wider[place, 0], wider[place, 1] = long[slot, 0], long[slot, 1]
        long = wider
    return WordTable(short, long, words, size)
