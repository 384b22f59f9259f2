"""The pieces of text that an encoder knows, with their ids: texts are cut and looked up in one pass.

Pieces of up to 15 bytes, nearly all there are, are their own keys: two words of 64 bits, compared without a look at
any other memory. What such a piece becomes lies beside its key; where that is one id, as it mostly is, it is the id.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy import int64, uint64

from pipeline.text.hashing import GOLDEN, MIX, span_hash, tail64
from pipeline.text.jit import njit
from pipeline.text.kernels import borrow, load64, prefetch
from pipeline.tokenization.encoding import pretokenize

_TOGETHER = 32  # pieces whose slots are fetched before they are written, so that the waits for memory overlap
_SHORT = 16  # bytes from which on a piece is hashed
_ENTRY = uint64(0xFFFFFFFF)
_FULL = np.int64(-0x8000000000000000)
_INLINE, _BITS, _ID = 3, 20, (1 << 20) - 1  # ids of a code and bits of each, above two that count them
_MANY = 1 << 17  # pieces from which on the room for them is doubled, and not made fourfold
_NOWHERE = np.int64(0x7FFFFFFFFFFFFFFF)


class Cache(NamedTuple):
    """Piece e is ``keys[key_ends[e]:key_ends[e + 1]]``, its ids are ``ids[id_ends[e]:id_ends[e + 1]]``.

    What a piece becomes is written as one int64, its *code*: up to three ids below 2**20 and how many they are, else
    ``~e``; that too while its ids are not known, and for long pieces. ``short`` is a hash table of the pieces below 16
    bytes, of their bytes, length and code; ``long`` one of all others.
    """

    short: np.ndarray  # uint64 [slots, 3]: bytes 0 to 7 | bytes 8 to 14 and the length, 0 where free | code
    long: np.ndarray  # uint64 [slots]: upper half of the hash | 1 + piece, 0 where free
    keys: np.ndarray  # uint8
    key_ends: np.ndarray  # int64 [capacity + 1]
    ids: np.ndarray  # uint32
    id_ends: np.ndarray  # int64 [capacity + 1]
    size: np.ndarray  # int64 [2]: pieces known, and those of them that have their ids


def empty(capacity: int) -> Cache:
    """Room for ``capacity`` pieces, a power of two; ``look_up`` makes more."""
    return Cache(
        *_tables(capacity),
        np.empty(16 * capacity, np.uint8),
        np.zeros(capacity + 1, np.int64),
        np.empty(2 * capacity, np.uint32),
        np.zeros(capacity + 1, np.int64),
        np.zeros(2, np.int64),
    )


def _tables(capacity: int) -> tuple[np.ndarray, np.ndarray]:
    """``short`` and ``long``, filled by numpy, which asks for large pages of memory where numba does not."""
    return np.full((2 * capacity, 3), 0, np.uint64), np.full(2 * capacity, 0, np.uint64)


def look_up(
    data: np.ndarray,
    offsets: np.ndarray,
    classes: np.ndarray,
    kind: int,
    alone: int | np.uint8,
    spots: np.ndarray,
    bounds: np.ndarray,
    cache: Cache,
    room: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, Cache]:
    """``(codes, cuts, opened, cache)`` of texts cut as ``pretokenize.cut_all`` cuts them.

    ``codes`` int64: of all pieces, written to ``room``, which is for as many as there are bytes; those of text i are
    ``cuts[i]:cuts[i + 1]`` (int64). ``opened`` int64: the pieces in which sentences start, those at the bytes
    ``spots[bounds[i]:bounds[i + 1]]`` of text i: the first piece that ends after one. ``cache`` takes the place of the
    given one; new pieces have no ids yet.
    """
    cuts, opened = np.zeros(len(offsets), np.int64), np.empty(len(spots), np.int64)
    state = np.array([0, offsets[0], offsets[0], 0, bounds[0], 0])
    spans = np.empty((pretokenize.SPANS, 3), np.int64), np.empty((pretokenize.SPANS, 3), np.uint64)
    while not _scan(data, offsets, classes, kind, alone, spots, bounds, room, cuts, opened, state, *spans, cache):
        cache = _grown(cache)
    return room[: state[3]], cuts, opened[: state[5]], cache


@njit(cache=True, nogil=True)
def _scan(data, offsets, classes, kind, alone, spots, bounds, codes, cuts, opened, state, spans, words, cache):
    """Go on from ``state``; whether all texts are done. If not, the tables are too full for the next piece."""
    data, offsets, classes, codes = borrow(data), borrow(offsets), borrow(classes), borrow(codes)
    spots, bounds, cuts, opened = borrow(spots), borrow(bounds), borrow(cuts), borrow(opened)
    short, long, size = borrow(cache.short), borrow(cache.long), borrow(cache.size)
    keys, key_ends, spans, words = borrow(cache.keys), borrow(cache.key_ends), borrow(spans), borrow(words)
    text, at, border, count, spot, sentences = state
    mask, table = uint64(len(short) - 1), short.reshape(short.size)
    while text < len(offsets) - 1:
        first, end = offsets[text], offsets[text + 1]
        ahead = spots[spot] + first if spot < bounds[text + 1] else _NOWHERE
        some = pretokenize.TOGETHER
        while some >= pretokenize.TOGETHER:  # cut some, have their slots fetched, and then look at those
            some, at, border = pretokenize.next_spans(data, at, border, first, end, classes, kind, alone, spans)
            for k in range(some):
                start, length = spans[k, 0], spans[k, 1] - spans[k, 0]
                if length < _SHORT:
                    low, high = _key(data, start, length)
                    slot = _slot(low, high, mask)
                    words[k, 0], words[k, 1], words[k, 2] = low, high, slot
                    prefetch(table, int64(3 * slot))
            for k in range(some):
                start, stop, code = spans[k, 0], spans[k, 1], _FULL
                if stop - start < _SHORT:
                    low, high, slot = words[k, 0], words[k, 1], words[k, 2]
                    while short[slot, 1] != 0:
                        if short[slot, 1] == high and short[slot, 0] == low:
                            code = int64(short[slot, 2])
                            break
                        slot = (slot + uint64(1)) & mask
                else:
                    code = _find_long(data, start, stop - start, long, keys, key_ends)
                if code == _FULL:
                    code = _insert(data, start, stop - start, short, long, keys, key_ends, size)
                    if code == _FULL:
                        state[0], state[1], state[2], state[3] = text, spans[k, 2], spans[k, 2], count
                        state[4], state[5] = spot, sentences
                        return False
                if stop > ahead:
                    opened[sentences] = count
                    sentences += 1
                    while spot < bounds[text + 1] and spots[spot] + first < stop:
                        spot += 1
                    ahead = spots[spot] + first if spot < bounds[text + 1] else _NOWHERE
                codes[count] = code
                count += 1
        text += 1
        cuts[text] = count
        at = border = end
        spot = bounds[text]
    state[3], state[5] = count, sentences
    return True


@njit(cache=True, nogil=True, forceinline=True)
def _key(data: np.ndarray, start: int, length: int) -> tuple[np.uint64, np.uint64]:
    """A piece of 1 to 15 bytes as two words: no two pieces have the same."""
    if start + 16 <= len(data):
        low, high = load64(data, start), load64(data, start + 8)
        below, above = min(length, 8), max(length - 8, 0)
        low &= ~uint64(0) >> uint64(64 - 8 * below)
        high &= (~uint64(0) >> uint64(1)) >> uint64(63 - 8 * above)
    elif length < 8:
        low, high = tail64(data, start, length), uint64(0)
    else:
        low, high = load64(data, start), tail64(data, start + 8, length - 8)
    return low, high | (uint64(length) << uint64(56))


@njit(cache=True, nogil=True, forceinline=True)
def _slot(low: np.uint64, high: np.uint64, mask: np.uint64) -> np.uint64:
    h = uint64((low ^ uint64(high * MIX)) * GOLDEN)
    return (h ^ (h >> uint64(32))) & mask


@njit(cache=True, nogil=True)
def _find_long(data, start, length, long, keys, key_ends):
    """The code ``~piece`` of a long piece, _FULL if it is not known."""
    key, mask = span_hash(data, start, length), uint64(len(long) - 1)
    slot = key & mask
    while long[slot] != 0:
        if (long[slot] ^ key) & ~_ENTRY == 0:
            piece = int64(long[slot] & _ENTRY) - 1
            other = key_ends[piece]
            if key_ends[piece + 1] - other == length:
                k = 0
                while k < length and keys[other + k] == data[start + k]:
                    k += 1
                if k == length:
                    return int64(~piece)
        slot = (slot + uint64(1)) & mask
    return _FULL


@njit(cache=True, nogil=True)
def _insert(data, start, length, short, long, keys, key_ends, size):
    """The code of a new piece; _FULL where there is no room for it."""
    piece = size[0]
    base = key_ends[piece]
    if piece + 1 == len(key_ends) or base + length > len(keys):
        return _FULL
    for k in range(length):
        keys[base + k] = data[start + k]
    key_ends[piece + 1] = base + length
    size[0] = piece + 1
    _set(borrow(keys), base, length, piece, ~piece, borrow(short), borrow(long))
    return int64(~piece)


@njit(cache=True, nogil=True, forceinline=True)
def _set(keys, base, length, piece, code, short, long):
    """Write the code of a piece that is short; of others the piece, where it is not there yet."""
    if length < _SHORT:
        low, high = _key(keys, base, length)
        mask = uint64(len(short) - 1)
        slot = _slot(low, high, mask)
        while short[slot, 1] != 0 and (short[slot, 1] != high or short[slot, 0] != low):
            slot = (slot + uint64(1)) & mask
        short[slot, 0], short[slot, 1], short[slot, 2] = low, high, uint64(code)
    else:
        key, mask = span_hash(keys, base, length), uint64(len(long) - 1)
        slot = key & mask
        while long[slot] != 0:
            slot = (slot + uint64(1)) & mask
        long[slot] = (key & ~_ENTRY) | uint64(piece + 1)


@njit(cache=True, nogil=True)
def _fetch(keys, key_ends, first, end, short):
    """Have the slots of these pieces fetched, so that the waits for memory overlap."""
    table = short.reshape(short.size)
    for piece in range(first, end):
        length = key_ends[piece + 1] - key_ends[piece]
        if length < _SHORT:
            low, high = _key(keys, key_ends[piece], length)
            prefetch(table, int64(3 * _slot(low, high, uint64(len(short) - 1))))


def _grown(cache: Cache) -> Cache:
    """The cache with more room for pieces where that was all used, else with twice the room for their bytes."""
    short, long, keys, key_ends, ids, id_ends, size = cache
    known = int(size[0])
    if known + 1 < len(key_ends):
        return Cache(short, long, np.concatenate((keys, np.empty_like(keys))), key_ends, ids, id_ends, size)
    more = known * (3 if known < _MANY else 1)
    key_ends = np.concatenate((key_ends, np.zeros(more, np.int64)))
    id_ends = np.concatenate((id_ends, np.zeros(more, np.int64)))
    grown = Cache(*_tables(known + more), keys, key_ends, ids, id_ends, size)
    _enter_all(grown)
    return grown


@njit(cache=True, nogil=True, forceinline=True)
def _code(ids, low, high, piece):
    """The code of a short piece with ``ids[low:high]``."""
    code = high - low
    for k in range(min(high - low, _INLINE)):
        if ids[low + k] >> uint64(_BITS):
            return int64(~piece)
        code |= int64(ids[low + k]) << (2 + _BITS * k)
    return int64(code) if high - low <= _INLINE else int64(~piece)


@njit(cache=True, nogil=True)
def _enter_all(cache: Cache) -> None:
    """Fill empty tables with all pieces."""
    keys, key_ends, ids, id_ends = cache.keys, cache.key_ends, cache.ids, cache.id_ends
    for piece in range(cache.size[0]):
        if piece % _TOGETHER == 0:
            _fetch(borrow(keys), borrow(key_ends), piece, min(piece + _TOGETHER, cache.size[0]), borrow(cache.short))
        base, code = key_ends[piece], int64(~piece)
        if piece < cache.size[1]:
            code = _code(ids, id_ends[piece], id_ends[piece + 1], piece)
        _set(borrow(keys), base, key_ends[piece + 1] - base, piece, code, borrow(cache.short), borrow(cache.long))


@njit(cache=True, nogil=True)
def learn(cache: Cache, ids: np.ndarray, lengths: np.ndarray) -> Cache:
    """The cache with ``ids``, ``lengths`` of them a piece, for the pieces that have none."""
    short, long, keys, key_ends, pool, id_ends, size = cache
    piece = size[1]
    at = id_ends[piece]
    if at + len(ids) > len(pool):
        pool = np.concatenate((pool, np.empty(len(pool) + len(ids), np.uint32)))
    for k in range(len(ids)):
        pool[at + k] = ids[k]
    for k in range(len(lengths)):
        if k % _TOGETHER == 0:
            _fetch(borrow(keys), borrow(key_ends), piece, min(piece + _TOGETHER, size[0]), borrow(short))
        base, length = key_ends[piece], key_ends[piece + 1] - key_ends[piece]
        if lengths[k] <= _INLINE and length < _SHORT:
            code = _code(pool, at, at + lengths[k], piece)
            _set(borrow(keys), base, length, piece, code, borrow(short), borrow(long))
        at += lengths[k]
        piece += 1
        id_ends[piece] = at
    size[1] = piece
    return Cache(short, long, keys, key_ends, pool, id_ends, size)


@njit(cache=True, nogil=True)
def write(
    codes: np.ndarray,
    cuts: np.ndarray,
    opened: np.ndarray,
    pool: np.ndarray,
    id_ends: np.ndarray,
    eos: int,
    tokens: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fill ``tokens``, every text closed by ``eos`` if it is one: ``(lengths, sentences, counts)`` of Encoded.

    Where ``tokens`` is too short (three more than there are have to fit), the ``lengths`` end with the text before the
    one that it ends in.
    """
    sentences, counts = np.empty(len(opened), np.uint32), np.zeros(len(cuts) - 1, np.int64)
    lengths = np.empty(len(cuts) - 1, np.int64)
    codes, id_ends, pool, tokens = borrow(codes), borrow(id_ends), borrow(pool), borrow(tokens)
    at = filled = mark = 0
    for text in range(len(cuts) - 1):
        base, first, k, end = at, filled, cuts[text], cuts[text + 1]
        while k < end:
            stop = opened[mark] if mark < len(opened) and opened[mark] < end else end
            while k < stop:
                code = codes[k]
                k += 1
                if code >= 0:  # all three are written, and those that count stay
                    if at + _INLINE > len(tokens):
                        return lengths[:text], sentences, counts
                    for n in range(_INLINE):
                        tokens[at + n] = (code >> (2 + _BITS * n)) & _ID
                    at += code & 3
                else:
                    low, high = id_ends[~code], id_ends[~code + 1]
                    if at + high - low > len(tokens):
                        return lengths[:text], sentences, counts
                    for n in range(low, high):
                        tokens[at] = pool[n]
                        at += 1
            if k < end:  # piece k, of which the next round takes care, opens a sentence
                mark += 1
                code = codes[k]
                if code & 3 if code >= 0 else id_ends[~code + 1] > id_ends[~code]:
                    place = 0 if filled == first else at - base
                    if filled == first or place > sentences[filled - 1]:
                        sentences[filled] = place
                        filled += 1
        if eos >= 0:
            if at == len(tokens):
                return lengths[:text], sentences, counts
            tokens[at] = eos
            at += 1
        lengths[text] = at - base
        counts[text] = filled - first
    return lengths, sentences[:filled], counts
