"""Full-width forms (U+FF01 to U+FF5E) as the ASCII they stand for, where they are part of a number or an address.

Sentence punctuation (``，：；！？`` and quotes) stays: after ``，`` a number begins, after ``,`` one goes on. The
ideographic space becomes a blank. Between digits, the two marks that Japanese keyboards give for a hyphen (``ー``,
``―``) become one.
"""

from __future__ import annotations

import numpy as np

from pipeline.text.addresses import CLASSES, DIGIT
from pipeline.text.jit import njit
from pipeline.text.kernels import between64, borrow, text_data, trailing_zeros
from pipeline.text.utf8 import code_point, previous, width

_SPACE, _FIRST, _LAST, _SHIFT = 0x3000, 0xFF01, 0xFF5E, 0xFF01 - 0x21
_DASHES = (0x30FC, 0x2015)
_PUNCTUATION = "!,:;?\"'"


def _folded() -> np.ndarray:
    """bool [128]: the ASCII characters whose full-width forms are folded."""
    table = np.zeros(128, np.bool_)
    table[0x21:0x7F] = True
    table[[ord(char) for char in _PUNCTUATION]] = False
    return table


_FOLDED = _folded()


def fold(data: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``(data, offsets)`` of the texts with each full-width form as one byte; those given, if there is none."""
    if not _has_some(data, offsets):
        return data, offsets
    folded, folded_offsets = _fold(data, offsets)
    return text_data(folded), folded_offsets


@njit(cache=True, nogil=True)
def _has_some(data, offsets):
    data = borrow(data)  # pyright: ignore[reportCallIssue]
    at, end = _lead(data, offsets[0], offsets[-1]), offsets[-1]
    while at < end and not _ascii(data, at, offsets[0], end):
        at = _lead(data, at + 1, end)
    return at < end


@njit(cache=True, nogil=True)
def _lead(data, at, end):
    """The first place from ``at`` on at which a character begins that may be folded, ``end`` if there is none."""
    while at < end:
        if at + 64 <= len(data):
            places = between64(data, at, 0, 0xE2, 0xE3) | between64(data, at, 0, 0xEF, 0xEF)
            at += np.int64(trailing_zeros(places))
            if not places:
                continue
            return min(at, end)
        if data[at] == 0xE2 or data[at] == 0xE3 or data[at] == 0xEF:
            return at
        at += 1
    return end


@njit(cache=True, nogil=True)
def _fold(data, offsets):
    data = borrow(data)  # pyright: ignore[reportCallIssue]
    out, out_offsets = np.empty(offsets[-1] - offsets[0], np.uint8), np.zeros(len(offsets), np.int64)
    size = 0
    for text in range(len(offsets) - 1):
        at, end = offsets[text], offsets[text + 1]
        copied = at
        while copied < end:
            at = _lead(data, at, end)
            byte = _ascii(data, at, offsets[text], end) if at < end else 0
            if byte > 0 or at == end:
                out[size : size + at - copied] = data[copied:at]
                size += at - copied
                copied = at
            if byte > 0:
                out[size] = byte
                size, copied = size + 1, copied + 3
            at += 3
        out_offsets[text + 1] = size
    return out[:size], out_offsets


@njit(cache=True, nogil=True)
def unfold(data: np.ndarray, offsets: np.ndarray, range_offsets: np.ndarray, places: np.ndarray) -> None:
    """Turn ``places`` int64 [m, 2], sorted disjoint ranges of folded texts, into ranges of the texts themselves.

    They count from their text's first byte; those of text i are at ``range_offsets[i]..range_offsets[i + 1]``.
    """
    for text in range(len(offsets) - 1):
        start, end = offsets[text], offsets[text + 1]
        at, folded = start, 0
        for k in range(range_offsets[text], range_offsets[text + 1]):
            for side in range(2):
                while folded < places[k, side]:
                    size = width(data[at])
                    folded += 1 if _ascii(data, at, start, end) > 0 else size
                    at += size
                places[k, side] = at - start


@njit(cache=True, nogil=True)
def _ascii(data, at, start, end):
    """The ASCII character that the one at ``at`` stands for; 0 for none."""
    lead = data[at]
    if lead != 0xEF and lead != 0xE3 and lead != 0xE2:
        return 0
    point = code_point(data, at)
    if _FIRST <= point <= _LAST:
        return point - _SHIFT if _FOLDED[point - _SHIFT] else 0
    if point == _SPACE:
        return ord(" ")
    if point in _DASHES and at > start and at + 3 < end and _is_digit(data, previous(data, at)):
        return ord("-") if _is_digit(data, at + 3) else 0
    return 0


@njit(cache=True, nogil=True)
def _is_digit(data, at):
    return CLASSES[data[at]] & DIGIT > 0 or (data[at] == 0xEF and 0xFF10 <= code_point(data, at) <= 0xFF19)
