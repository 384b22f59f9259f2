"""A hash table whose keys are byte spans of one buffer, each with a 64-bit count.

Open addressing: a slot holds 1 + the index of an entry. Entries keep the order in which they were added, and nothing is
copied out of the buffer. The hash is FNV-1a, so that of a longer span goes on from that of a shorter; ``finish`` mixes
it (its low bits choose the slot).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit, uint64


class SpanTable(NamedTuple):
    slots: np.ndarray  # int32 [2 capacity], a power of two
    hashes: np.ndarray  # uint64 [capacity]
    starts: np.ndarray  # int64 [capacity], first byte
    lengths: np.ndarray  # int32 [capacity], bytes
    counts: np.ndarray  # int64 [capacity]
    size: np.ndarray  # int64 [1], entries in use


START = uint64(0xCBF29CE484222325)
_PRIME = uint64(0x100000001B3)
_MIX = uint64(0x9E3779B97F4A7C15)


@njit(cache=True, nogil=True, inline="always")
def step(h: np.uint64, byte: int) -> np.uint64:
    return uint64((h ^ uint64(byte)) * _PRIME)


@njit(cache=True, nogil=True, inline="always")
def finish(h: np.uint64) -> np.uint64:
    h = uint64((h ^ (h >> uint64(32))) * _MIX)
    return uint64(h ^ (h >> uint64(29)))


@njit(cache=True, nogil=True, inline="always")
def hash_span(data: np.ndarray, start: int, end: int) -> np.uint64:
    h = START
    for at in range(start, end):
        h = step(h, data[at])
    return finish(h)


@njit(cache=True, nogil=True)
def empty(capacity: int) -> SpanTable:
    """A table with room for ``capacity`` entries, a power of two; ``insert`` makes more."""
    return SpanTable(
        np.zeros(2 * capacity, np.int32),
        np.empty(capacity, np.uint64),
        np.empty(capacity, np.int64),
        np.empty(capacity, np.int32),
        np.zeros(capacity, np.int64),
        np.zeros(1, np.int64),
    )


@njit(cache=True, nogil=True, inline="always")
def find(data: np.ndarray, table: SpanTable, key: np.uint64, start: int, length: int) -> tuple[int, int]:
    """``(entry, slot)`` of the span with hash ``key``; entry -1 and the slot to insert it at if it is not there."""
    mask = len(table.slots) - 1
    slot = np.int64(key & uint64(mask))
    while table.slots[slot] != 0:
        entry = np.int64(table.slots[slot]) - 1
        if table.hashes[entry] == key and table.lengths[entry] == length:
            other, k = table.starts[entry], 0
            while k < length and data[other + k] == data[start + k]:
                k += 1
            if k == length:
                return entry, slot  # type: ignore[return-value]
        slot = (slot + 1) & mask
    return np.int64(-1), slot  # type: ignore[return-value]


@njit(cache=True, nogil=True)
def insert(table: SpanTable, slot: int, key: np.uint64, start: int, length: int) -> tuple[int, SpanTable]:
    """Add a span with count 0 at the slot that ``find`` gave; the table returned takes the place of the given one."""
    entry = table.size[0]
    table.slots[slot] = entry + 1
    table.hashes[entry], table.starts[entry], table.lengths[entry] = key, start, length
    table.size[0] = entry + 1
    if entry + 1 < len(table.hashes):
        return entry, table
    bigger = empty(2 * len(table.hashes))
    n, mask = entry + 1, len(bigger.slots) - 1
    bigger.hashes[:n], bigger.starts[:n], bigger.lengths[:n] = table.hashes, table.starts, table.lengths
    bigger.counts[:n] = table.counts
    bigger.size[0] = n
    for known in range(n):
        place = np.int64(table.hashes[known] & uint64(mask))
        while bigger.slots[place] != 0:
            place = (place + 1) & mask
        bigger.slots[place] = known + 1
    return entry, bigger
