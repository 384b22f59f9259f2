"""Lines and paragraphs of a text: where they end, and which of them are repeated."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy import uint64

from pipeline.text import characters
from pipeline.text.buffers import string_array, text_buffers
from pipeline.text.characters import BREAK, SPACE, kind
from pipeline.text.hashing import span_hash
from pipeline.text.jit import int64, njit
from pipeline.text.kernels import between16, between32, text_data, trailing_zeros
from pipeline.text.utf8 import continues, previous, width

#: Lines of a document that are compared with each other; in a longer one those after are not. Bounds the memory.
MOST_LINES = 1 << 22


@njit(cache=True, nogil=True)
def line_end(data: np.ndarray, start: int, end: int, table: np.ndarray) -> tuple[int, int]:
    """``(stop, next)`` of the line that starts at ``start``, as ``str.splitlines`` has it: the content is
    ``data[start:stop]``, the next line starts at ``next``."""
    at = start
    while at < end:
        if at + 32 <= end:  # most characters are surely no line break
            others = between32(data, at, 0, 0, 0x1E) | between32(data, at, 0, 0xC2, 0xC2)
            others |= between32(data, at, 0, 0xE2, 0xE2)
            at += int64(trailing_zeros(others | uint64(1 << 32)))
            if others == 0:
                continue
        byte = data[at]
        may_break = byte < 0x1F or byte == 0xC2 or byte == 0xE2
        if may_break and kind(data, at, table) & BREAK:
            paired = byte == ord("\r") and at + 1 < end and data[at + 1] == ord("\n")
            return at, at + width(byte) + paired
        at += 1
    return end, end


def split(texts: pa.StringArray) -> tuple[np.ndarray, pa.StringArray]:
    """``(first, lines)``: the lines of all texts, as ``str.splitlines(keepends=True)`` has them, none of them copied.

    Those of text i are ``first[i]`` to ``first[i + 1]`` (int64 [n + 1]).
    """
    data, offsets = text_buffers(texts)
    first, starts = _starts(text_data(data), offsets, characters.table())
    return first, string_array(data, np.append(starts, offsets[-1]))


@njit(cache=True, nogil=True)
def _starts(data, offsets, table):
    starts, count = np.empty(1024, np.int64), 0
    first = np.zeros(len(offsets), np.int64)
    for text in range(len(offsets) - 1):
        at = offsets[text]
        while at < offsets[text + 1]:
            if count == len(starts):
                starts = np.concatenate((starts, np.empty_like(starts)))
            starts[count] = at
            count += 1
            _, at = line_end(data, at, offsets[text + 1], table)
        first[text + 1] = count
    return first, starts[:count].copy()


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
    while at + 16 <= end:
        places = between16(data, at, 0, byte, byte)
        if places:
            return at + int64(trailing_zeros(places))
        at += 16
    while at < end and data[at] != byte:
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
        count += not continues(byte)
    return count


@njit(cache=True, nogil=True)
def spells(data: np.ndarray, start: int, end: int, at: int, phrase: np.ndarray) -> bool:
    """Whether ``data[at:]``, within ``start..end``, begins with the lower-case ASCII ``phrase``, in any case."""
    if at < start or at + len(phrase) > end:
        return False
    k = 0
    while k < len(phrase):
        byte = data[at + k]
        if (byte | 32 if ord("A") <= byte <= ord("Z") else byte) != phrase[k]:
            return False
        k += 1
    return True


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
    key = span_hash(data, start, end - start) | uint64(3)
    slot = np.int64(key >> uint64(32)) & (len(members) - 1)
    while members[slot]:
        if members[slot] | uint64(3) == key:
            met = 1 if members[slot] & uint64(2) else 2
            members[slot] = key & ~uint64(2)
            return met
        slot = (slot + 1) & (len(members) - 1)
    members[slot] = key
    return 0
