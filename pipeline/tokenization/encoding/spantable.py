"""A hash table whose keys are byte spans of one buffer, each with a 64-bit count.

Open addressing: a slot holds the upper half of a span's hash and 1 + the index of its entry, so that nearly every look
at another span's slot ends there; the low bits of that half choose the slot. Entries keep the order in which they were
added, and nothing is copied out of the buffer. The hash is FNV-1a, so that of a longer span goes on from that of a
shorter; ``finish`` mixes it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy import uint64

from pipeline.text.hashing import GOLDEN, fnv
from pipeline.text.jit import njit


class SpanTable(NamedTuple):
    slots: np.ndarray  # uint64 [2 capacity], a power of two; 0: free
    starts: np.ndarray  # int64 [capacity], first byte
    lengths: np.ndarray  # int32 [capacity], bytes
    counts: np.ndarray  # int64 [capacity]
    size: np.ndarray  # int64 [1], entries in use


_ENTRY = uint64(0xFFFFFFFF)  # the half of a slot that names the entry


@njit(cache=True, nogil=True, inline="always")
def finish(h: np.uint64) -> np.uint64:
    """Not ``hashing.mix``: the partitions of stored counts are the top bits of this."""
    h = uint64((h ^ (h >> uint64(32))) * GOLDEN)
    return uint64(h ^ (h >> uint64(29)))


@njit(cache=True, nogil=True, inline="always")
def hash_span(data: np.ndarray, start: int, end: int) -> np.uint64:
    return finish(fnv(data, start, end))


@njit(cache=True, nogil=True)
def spells(data: np.ndarray, start: int, end: int, strings: np.ndarray, bounds: np.ndarray) -> bool:
    """Whether ``data[start:end]`` is one of the strings ``strings[bounds[i]:bounds[i + 1]]``."""
    for i in range(len(bounds) - 1):
        if bounds[i + 1] - bounds[i] == end - start:
            k = 0
            while k < end - start and data[start + k] == strings[bounds[i] + k]:
                k += 1
            if k == end - start:
                return True
    return False


@njit(cache=True, nogil=True)
def empty(capacity: int) -> SpanTable:
    """A table with room for ``capacity`` entries, a power of two; ``insert`` makes more."""
    return SpanTable(
        np.zeros(2 * capacity, np.uint64),
        np.empty(capacity, np.int64),
        np.empty(capacity, np.int32),
        np.zeros(capacity, np.int64),
        np.zeros(1, np.int64),
    )


@njit(cache=True, nogil=True, inline="always")
def find(data: np.ndarray, table: SpanTable, key: np.uint64, start: int, length: int) -> tuple[int, int]:
    """``(entry, slot)`` of the span with hash ``key``; entry -1 and the slot to insert it at if it is not there."""
    mask = uint64(len(table.slots) - 1)
    slot = (key >> uint64(32)) & mask
    while table.slots[slot] != 0:
        if (table.slots[slot] ^ key) >> uint64(32) == 0:
            entry = np.int64(table.slots[slot] & _ENTRY) - 1
            if table.lengths[entry] == length:
                other, k = table.starts[entry], 0
                while k < length and data[other + k] == data[start + k]:
                    k += 1
                if k == length:
                    return entry, np.int64(slot)  # type: ignore[return-value]
        slot = (slot + uint64(1)) & mask
    return np.int64(-1), np.int64(slot)  # type: ignore[return-value]


@njit(cache=True, nogil=True, inline="always")
def insert(table: SpanTable, slot: int, key: np.uint64, start: int, length: int) -> tuple[int, SpanTable]:
    """Add a span with count 0 at the slot that ``find`` gave; the table returned takes the place of the given one."""
    entry = table.size[0]
    table.slots[slot] = (key & ~_ENTRY) | uint64(entry + 1)
    table.starts[entry], table.lengths[entry] = start, length
    table.size[0] = entry + 1
    if entry + 1 == len(table.starts):
        table = _grown(table)
    return entry, table


@njit(cache=True, nogil=True)
def _grown(table: SpanTable) -> SpanTable:
    """A full table with twice the room."""
    n = len(table.starts)
    bigger = empty(2 * n)
    bigger.starts[:n], bigger.lengths[:n], bigger.counts[:n] = table.starts, table.lengths, table.counts
    bigger.size[0] = n
    slots, mask = bigger.slots, uint64(len(bigger.slots) - 1)
    for slot in table.slots:
        if slot != 0:
            place = (slot >> uint64(32)) & mask
            while slots[place] != 0:
                place = (place + uint64(1)) & mask
            slots[place] = slot
    return bigger
