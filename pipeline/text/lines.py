"""Lines and paragraphs of a text: where they end, and which of them are repeated."""

from __future__ import annotations

import numpy as np
from numba import njit, uint64

from pipeline.text.characters import BREAK, SPACE, kind, previous, width
from pipeline.text.hashing import xxh64

#: Lines of a document that are compared with each other; in a longer one those after are not. Bounds the memory.
MOST_LINES = 1 << 22


@njit(cache=True, nogil=True)
def line_end(data: np.ndarray, start: int, end: int, table: np.ndarray) -> tuple[int, int]:
    """``(stop, next)`` of the line that starts at ``start``, as ``str.splitlines`` has it: the content is
    ``data[start:stop]``, the next line starts at ``next``."""
    at = start
    while at < end:
        byte = data[at]
        if byte < 0x80:
            if table[byte] & BREAK:
                paired = byte == ord("\r") and at + 1 < end and data[at + 1] == ord("\n")
                return at, at + 2 if paired else at + 1
            at += 1
        else:
            size = width(byte)
            if (byte == 0xC2 or byte == 0xE2) and kind(data, at, table) & BREAK:
                return at, at + size
            at += size
    return end, end


@njit(cache=True, nogil=True)
def strip(data: np.ndarray, start: int, end: int, table: np.ndarray) -> tuple[int, int]:
    """``data[start:end]`` without whitespace (as ``str.strip`` has it) at both ends, as a range."""
    while start < end and kind(data, start, table) & SPACE:
        start += width(data[start])
    while start < end and kind(data, previous(data, end), table) & SPACE:
        end = previous(data, end)
    return start, end


@njit(cache=True, nogil=True)
def find_byte(data: np.ndarray, start: int, end: int, byte: int) -> int:
    """The first place of ``byte`` in ``data[start:end]``, ``end`` if there is none."""
    at = start
    for here in data[start:end]:
        if here == byte:
            break
        at += 1
    return at


@njit(cache=True, nogil=True)
def count_byte(data: np.ndarray, start: int, end: int, byte: int) -> int:
    count = 0
    for here in data[start:end]:  # not by index: so it compiles to vector instructions
        count += here == byte
    return count


@njit(cache=True, nogil=True)
def count_characters(data: np.ndarray, start: int, end: int) -> int:
    """Code points in ``data[start:end]``."""
    count = 0
    for byte in data[start:end]:
        count += byte & 0xC0 != 0x80
    return count


@njit(cache=True, nogil=True)
def clear_set(members: np.ndarray, lines: int) -> np.ndarray:
    """An empty set for up to ``lines`` hashes, taken from the front of ``members`` (uint64, see ``set_size``)."""
    chosen = members[: set_size(lines)]
    chosen[:] = 0
    return chosen


@njit(cache=True, nogil=True)
def set_size(lines: int) -> int:
    """Slots of a set of up to ``lines`` hashes (no more than MOST_LINES): a power of two, at most half full."""
    size = 16
    while size < 2 * min(lines, MOST_LINES):
        size *= 2
    return size


@njit(cache=True, nogil=True)
def times_met(data: np.ndarray, start: int, end: int, members: np.ndarray) -> int:
    """How often ``data[start:end]`` was asked for before: 0, 1, or 2 for more; adds it to the set ``members``."""
    key = xxh64(data, start, end, uint64(0)) | uint64(3)
    slot = np.int64(key >> uint64(32)) & (len(members) - 1)
    while members[slot]:
        if members[slot] | uint64(3) == key:
            met = 1 if members[slot] & uint64(2) else 2
            members[slot] = key & ~uint64(2)
            return met
        slot = (slot + 1) & (len(members) - 1)
    members[slot] = key
    return 0
