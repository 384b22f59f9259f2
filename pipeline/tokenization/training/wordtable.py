"""A hash table of words with 64-bit counts: the inner loop of counting.

The words lie end to end in one buffer of their own, in the order in which they were first seen, so that the frequent
ones share few cache lines and no text has to be kept. A slot holds the upper half of a word's hash beside its number,
so that nearly every look at another word's slot ends there. Hash and comparison take eight bytes at a time.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import int64, njit, uint64

from pipeline.text.hashing import span_hash, tail64
from pipeline.text.kernels import load64


class WordTable(NamedTuple):
    slots: np.ndarray  # uint64, a power of two of them: upper half of the hash | 1 + number; 0: free
    data: np.ndarray  # uint8, the words end to end
    rows: np.ndarray  # int64 [capacity + 1, 2]: where the word starts in ``data``, its count; side by side in memory
    size: np.ndarray  # int64 [1], words


TAG = uint64(0xFFFFFFFF00000000)


@njit(cache=True, nogil=True)
def empty(capacity: int) -> WordTable:
    """Room for ``capacity`` words, a power of two; ``add`` makes more."""
    return WordTable(
        np.zeros(2 * capacity, np.uint64),
        np.empty(8 * capacity, np.uint8),
        np.zeros((capacity + 1, 2), np.int64),
        np.zeros(1, np.int64),
    )


@njit(cache=True, nogil=True)
def add(data: np.ndarray, starts: np.ndarray, ends: np.ndarray, weights: np.ndarray, table: WordTable) -> WordTable:
    """``table`` with ``weights[i]`` (int64; none: 1) added for span i; it takes the place of the given one."""
    i = 0
    while True:
        i, slot = _add_known(data, starts, ends, weights, i, table.slots, table.data, table.rows)
        if i == len(starts):
            return table
        table = _insert(data, starts[i], ends[i] - starts[i], slot, table)


@njit(cache=True, nogil=True)
def _add_known(
    data: np.ndarray,
    starts: np.ndarray,
    ends: np.ndarray,
    weights: np.ndarray,
    i: int,
    slots: np.ndarray,
    words: np.ndarray,
    rows: np.ndarray,
) -> tuple[int, np.uint64]:
    """Count the spans from i on up to the first unknown word; ``(its span, the free slot for it)``."""
    weighted = len(weights) > 0
    mask = uint64(len(slots) - 1)
    while i < len(starts):
        start, length = starts[i], ends[i] - starts[i]
        key = span_hash(data, start, length)
        slot = key & mask
        while True:
            if slots[slot] == 0:
                return i, slot
            if (slots[slot] ^ key) & TAG == 0:
                known = int64(slots[slot] & ~TAG) - 1
                other = rows[known, 0]
                if rows[known + 1, 0] - other == length and equal(data, start, words, other, length):
                    rows[known, 1] += weights[i] if weighted else 1
                    break
            slot = (slot + uint64(1)) & mask
        i += 1
    return i, uint64(0)


@njit(cache=True, nogil=True, inline="always")
def equal(data: np.ndarray, start: int, words: np.ndarray, other: int, length: int) -> bool:
    at = 0
    while at + 8 <= length:
        if load64(data, start + at) != load64(words, other + at):
            return False
        at += 8
    return at == length or tail64(data, start + at, length - at) == tail64(words, other + at, length - at)


@njit(cache=True, nogil=True)
def _insert(data: np.ndarray, start: int, length: int, slot: np.uint64, table: WordTable) -> WordTable:
    """The table with a new word of count 0 at its free slot."""
    slots, words, rows, size = table
    number = size[0]
    base = rows[number, 0]
    if base + length > len(words):
        more = np.empty(base + length + (base + length) // 2, np.uint8)
        more[:base] = words[:base]
        words = more
    words[base : base + length] = data[start : start + length]
    rows[number + 1, 0] = base + length
    slots[slot] = (span_hash(data, start, length) & TAG) | uint64(number + 1)
    rows[number + 1, 1] = 0
    size[0] = number + 1
    if number + 2 == len(rows):
        longer = np.empty((len(rows) + len(rows) // 2, 2), np.int64)
        longer[: len(rows)] = rows
        rows = longer
    if 5 * number > 3 * len(slots):
        slots = np.zeros(2 * len(slots), np.uint64)
        mask = uint64(len(slots) - 1)
        for known in range(number + 1):
            key = span_hash(words, rows[known, 0], rows[known + 1, 0] - rows[known, 0])
            place = key & mask
            while slots[place] != 0:
                place = (place + uint64(1)) & mask
            slots[place] = (key & TAG) | uint64(known + 1)
    return WordTable(slots, words, rows, size)
