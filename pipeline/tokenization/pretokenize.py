"""Where a text may be cut before any vocabulary is applied: compiled scanners over UTF-8 bytes.

``next_cut(data, at, end, classes, kind)`` finds the end of the pre-token that starts at ``at``; the scanners follow the
regular expressions below exactly (tests compare them with the engine that runs those expressions):

- ``GPT2``: ``'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+``
- ``GPT4`` (cl100k): ``(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}|
  ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+``
- ``WORDS``: runs of characters that are not white space; the white space is dropped
- ``BERT``: words, with every punctuation mark and every CJK character alone
- ``BERT_WORDS``, ``BERT_MARKS``: the same two cuts for text that BERT has yet to clean of control characters
"""

from __future__ import annotations

import numpy as np
from numba import int64, njit

from pipeline.tokenization.classes import CJK, CONTROL, DIGIT, LETTER, NUMBER, PUNCTUATION, SPACE

GPT2, GPT4, WORDS, BERT, BERT_WORDS, BERT_MARKS = range(6)

_NO_CLASS = LETTER | NUMBER | SPACE
_LONG_S = 0x17F  # folds to "s", so (?i:'s) matches it


@njit(cache=True, nogil=True, inline="always")
def decode(data: np.ndarray, at: int) -> tuple[int, int]:
    """``(code point, bytes)`` of the character at ``at`` of valid UTF-8."""
    lead = int64(data[at])
    if lead < 0x80:
        return lead, 1
    if lead < 0xE0:
        return ((lead & 0x1F) << 6) | int64(data[at + 1] & 0x3F), 2
    if lead < 0xF0:
        return ((lead & 0x0F) << 12) | (int64(data[at + 1] & 0x3F) << 6) | int64(data[at + 2] & 0x3F), 3
    point = ((lead & 0x07) << 18) | (int64(data[at + 1] & 0x3F) << 12)
    return point | (int64(data[at + 2] & 0x3F) << 6) | int64(data[at + 3] & 0x3F), 4


@njit(cache=True, nogil=True, inline="always")
def _run(data: np.ndarray, at: int, end: int, classes: np.ndarray, bits: int | np.uint8, limit: int) -> int:
    """End of the run of at most ``limit`` characters in one of the classes ``bits``."""
    while at < end and limit > 0:
        point, width = decode(data, at)
        if not classes[point] & bits:
            break
        at += width
        limit -= 1
    return at


@njit(cache=True, nogil=True, inline="always")
def _symbols(data: np.ndarray, at: int, end: int, classes: np.ndarray) -> int:
    """End of the run of characters that are neither white space nor letters nor numbers."""
    while at < end:
        point, width = decode(data, at)
        if classes[point] & _NO_CLASS:
            break
        at += width
    return at


@njit(cache=True, nogil=True)
def _contraction(data: np.ndarray, at: int, end: int, fold_case: bool) -> int:
    """End of 's 't 're 've 'm 'll 'd at ``at``, where an apostrophe stands; ``at`` if there is none."""
    if at + 1 >= end:
        return at
    bit = 0x20 if fold_case else 0
    first = data[at + 1] | bit
    if first == ord("s") or first == ord("t") or first == ord("m") or first == ord("d"):
        return at + 2
    if at + 2 >= end:
        return at
    second = data[at + 2] | bit
    if (first == ord("r") and second == ord("e")) or (first == ord("v") and second == ord("e")):
        return at + 3
    if first == ord("l") and second == ord("l"):
        return at + 3
    if fold_case and data[at + 1] >= 0x80 and decode(data, at + 1)[0] == _LONG_S:
        return at + 3
    return at


@njit(cache=True, nogil=True)
def _white(data: np.ndarray, at: int, end: int, classes: np.ndarray, newlines: bool) -> int:
    """End of ``\\s*[\\r\\n]+`` (if ``newlines``), else of ``\\s+(?!\\S)``, else of ``\\s+``, at white space."""
    stop, last, after_newline = at, at, at
    while stop < end:
        point, width = decode(data, stop)
        if not classes[point] & SPACE:
            break
        last = stop
        stop += width
        if point == 10 or point == 13:
            after_newline = stop
    if newlines and after_newline > at:
        return after_newline
    if stop == end or last == at:
        return stop
    return last


@njit(cache=True, nogil=True)
def _next_gpt2(data: np.ndarray, at: int, end: int, classes: np.ndarray) -> int:
    point, width = decode(data, at)
    start = at
    if point == ord("'"):
        stop = _contraction(data, at, end, False)
        if stop > at:
            return stop
    if point == 32 and at + 1 < end:
        start = at + 1
        point, width = decode(data, start)
    kind = classes[point]
    if kind & LETTER:
        return _run(data, start + width, end, classes, LETTER, end)
    if kind & NUMBER:
        return _run(data, start + width, end, classes, NUMBER, end)
    if not kind & SPACE:
        return _symbols(data, start + width, end, classes)
    return _white(data, at, end, classes, False)


@njit(cache=True, nogil=True)
def _next_gpt4(data: np.ndarray, at: int, end: int, classes: np.ndarray) -> int:
    point, width = decode(data, at)
    kind = classes[point]
    if kind & LETTER:
        return _run(data, at + width, end, classes, LETTER, end)
    if kind & NUMBER:
        return _run(data, at + width, end, classes, NUMBER, 2)
    if point == ord("'"):
        stop = _contraction(data, at, end, True)
        if stop > at:
            return stop
    if point != 10 and point != 13:
        stop = _run(data, at + width, end, classes, LETTER, end)
        if stop > at + width:
            return stop
    start = at + 1 if point == 32 else at
    stop = _symbols(data, start, end, classes)
    if stop > start:
        while stop < end and (data[stop] == 10 or data[stop] == 13):
            stop += 1
        return stop
    return _white(data, at, end, classes, True)


@njit(cache=True, nogil=True)
def next_cut(data: np.ndarray, at: int, end: int, classes: np.ndarray, kind: int) -> int:
    """End of the pre-token at ``at`` < ``end``; for WORDS and BERT the caller has passed over white space."""
    if kind == GPT2:
        return _next_gpt2(data, at, end, classes)
    if kind == GPT4:
        return _next_gpt4(data, at, end, classes)
    start = at
    while at < end:
        point, width = decode(data, at)
        if is_gap(classes[point], kind):
            break
        if kind in (BERT, BERT_MARKS) and classes[point] & (PUNCTUATION | CJK):
            return at + width if at == start else at
        at += width
    return at


@njit(cache=True, nogil=True, inline="always")
def is_gap(bits: int | np.uint8, kind: int) -> bool:
    """Whether a character with these class bits separates words and belongs to none.

    BERT removes control characters, some of which are white space, before it looks for gaps; ``BERT_WORDS`` and
    ``BERT_MARKS`` cut the text that is yet to be cleaned so.
    """
    if kind >= BERT_WORDS:
        return (bits & SPACE) != 0 and (bits & CONTROL) == 0
    return kind >= WORDS and (bits & SPACE) != 0


@njit(cache=True, nogil=True, inline="always")
def skip_gap(data: np.ndarray, at: int, end: int, classes: np.ndarray, kind: int) -> int:
    """First position from ``at`` on where a pre-token starts; ``end`` if there is none."""
    while at < end and kind >= WORDS:
        point, width = decode(data, at)
        if not is_gap(classes[point], kind):
            break
        at += width
    return at


@njit(cache=True, nogil=True)
def next_digit(data: np.ndarray, at: int, end: int, classes: np.ndarray) -> int:
    """Position of the first digit from ``at`` on; ``end`` if there is none."""
    while at < end:
        point, width = decode(data, at)
        if classes[point] & DIGIT:
            return at
        at += width
    return end


@njit(cache=True, nogil=True)
def cut_all(
    data: np.ndarray, offsets: np.ndarray, classes: np.ndarray, kind: int, split_digits: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``(starts, ends, bounds)``: int64 spans of all pre-tokens; those of text i are ``bounds[i]:bounds[i + 1]``."""
    starts, ends = np.empty(1024, np.int64), np.empty(1024, np.int64)
    bounds = np.zeros(len(offsets), np.int64)
    count = 0
    for text in range(len(offsets) - 1):
        at, end = offsets[text], offsets[text + 1]
        while at < end:
            border = next_digit(data, at, end, classes) if split_digits else end
            if border == at:
                border = at + decode(data, at)[1]
            while at < border:
                at = skip_gap(data, at, border, classes, kind)
                if at == border:
                    break
                stop = next_cut(data, at, border, classes, kind)
                if count == len(starts):
                    starts = np.concatenate((starts, np.empty_like(starts)))
                    ends = np.concatenate((ends, np.empty_like(ends)))
                starts[count], ends[count] = at, stop
                count += 1
                at = stop
        bounds[text + 1] = count
    return starts[:count], ends[:count], bounds
