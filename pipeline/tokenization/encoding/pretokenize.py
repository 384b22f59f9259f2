"""Where a text may be cut before any vocabulary is applied: compiled scanners over UTF-8 bytes.

``cut_all`` finds the pre-tokens of texts; the scanners follow the regular expressions below exactly (tests compare them
with the engine that runs those expressions):

- ``GPT2``: ``'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+``
- ``GPT4`` (cl100k): ``(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}|
  ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+``
- ``SUPER``: GPT2's, but ` ?\\p{L}+(?: \\p{L}+)*` for its words: those with one space between them are one pre-token
- ``WORDS``: runs of characters that are not white space; the white space is dropped
- ``GAPPED``: the same words, all but the first of a text with the white space character before them
- ``SPACED``: ``[ ▁]?\\S*|[^\\S ▁]+``, a space or mark with the word behind it, or a run of other white space
- ``BERT``: words, with every punctuation mark and every CJK character alone
- ``BERT_WORDS``, ``BERT_MARKS``: the same two cuts for text that BERT has yet to clean of control characters

``GAPPED`` and ``SPACED`` want classes.marked_table. Characters are decoded once, into a class for each of their bytes
(``kinds``); after that a run of letters is a run of bytes, whatever the script.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from pipeline.text.utf8 import continues, decode, following, previous
from pipeline.tokenization.character_classes import CJK, CONTROL, LETTER, NUMBER, PUNCTUATION, SPACE

GPT2, GPT4, SUPER, SPACED, WORDS, GAPPED, BERT, BERT_WORDS, BERT_MARKS = range(9)

_NO_CLASS = LETTER | NUMBER | SPACE
_ALONE_IN_BERT = PUNCTUATION | CJK
_LONG_S = (0xC5, 0xBF)  # folds to "s", so (?i:'s) matches it


@njit(cache=True, nogil=True)
def cut_all(
    data: np.ndarray, offsets: np.ndarray, classes: np.ndarray, kind: int, alone: int | np.uint8
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``(starts, ends, bounds)``: int64 spans of all pre-tokens; those of text i are ``bounds[i]:bounds[i + 1]``.

    A character in one of the classes ``alone`` is a pre-token of its own, and no other reaches across it.
    """
    base = offsets[0]
    data = data[base : offsets[-1]]
    kinds = _kinds(data, classes)
    starts, ends = np.empty(len(data), np.int64), np.empty(len(data), np.int64)  # what is not used costs no memory
    bounds = np.zeros(len(offsets), np.int64)
    count = 0
    text, read = data, kinds  # made here, so not to be borrowed: nothing else keeps them alive
    for i in range(len(offsets) - 1):
        at, end = offsets[i] - base, offsets[i + 1] - base
        while at < end:
            border = end
            if alone:
                border = at
                while border < end and not read[border] & alone:
                    border += 1
                if border == at:
                    border = following(text, at, end)
            while at < border:
                if kind >= WORDS and _is_gap(read[at], kind):
                    at += 1
                    continue
                stop, start = _next_cut(text, read, at, border, kind), at
                if kind == GAPPED and count > bounds[i] and read[at - 1] & SPACE:
                    start = previous(text, start)
                starts[count], ends[count] = start + base, stop + base
                count += 1
                at = stop
        bounds[i + 1] = count
    return starts[:count], ends[:count], bounds


@njit(cache=True, nogil=True)
def _kinds(data: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """uint8 [len(data)]: for each byte the class bits of the character that it belongs to."""
    kinds = np.empty(len(data), np.uint8)
    at = 0
    while at < len(data):
        if data[at] < 0x80:
            kinds[at] = classes[data[at]]
            at += 1
        else:
            point, after = decode(data, at)
            for k in range(at, after):
                kinds[k] = classes[point]
            at = after
    return kinds


@njit(cache=True, nogil=True, inline="always")
def _is_gap(bits: int | np.uint8, kind: int) -> bool:
    """Whether a character with these class bits separates words and belongs to none.

    BERT removes control characters, some of which are white space, before it looks for gaps; ``BERT_WORDS`` and
    ``BERT_MARKS`` cut the text that is yet to be cleaned so.
    """
    if kind >= BERT_WORDS:
        return (bits & SPACE) != 0 and (bits & CONTROL) == 0
    return (bits & SPACE) != 0


@njit(cache=True, nogil=True, inline="always")
def _run(kinds: np.ndarray, at: int, end: int, bits: int | np.uint8) -> int:
    """End of the run of characters in one of the classes ``bits``."""
    while at < end and kinds[at] & bits:
        at += 1
    return at


@njit(cache=True, nogil=True, inline="always")
def _symbols(kinds: np.ndarray, at: int, end: int) -> int:
    """End of the run of characters that are neither white space nor letters nor numbers."""
    while at < end and not kinds[at] & _NO_CLASS:
        at += 1
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
    if fold_case and data[at + 1] == _LONG_S[0] and data[at + 2] == _LONG_S[1]:
        return at + 3
    return at


@njit(cache=True, nogil=True)
def _white(data: np.ndarray, kinds: np.ndarray, at: int, end: int, newlines: bool) -> int:
    """End of ``\\s*[\\r\\n]+`` (if ``newlines``), else of ``\\s+(?!\\S)``, else of ``\\s+``, at white space."""
    stop, last, after_newline = at, at, at
    while stop < end and kinds[stop] & SPACE:
        if not continues(data[stop]):
            last = stop
        stop += 1
        if data[stop - 1] == 10 or data[stop - 1] == 13:
            after_newline = stop
    if newlines and after_newline > at:
        return after_newline
    if stop == end or last == at:
        return stop
    return last


@njit(cache=True, nogil=True)
def _next_gpt2(data: np.ndarray, kinds: np.ndarray, at: int, end: int) -> int:
    start = at
    if data[at] == ord("'"):
        stop = _contraction(data, at, end, False)
        if stop > at:
            return stop
    if data[at] == 32 and at + 1 < end:
        start = at + 1
    if kinds[start] & LETTER:
        return _run(kinds, start, end, LETTER)
    if kinds[start] & NUMBER:
        return _run(kinds, start, end, NUMBER)
    if not kinds[start] & SPACE:
        return _symbols(kinds, start, end)
    return _white(data, kinds, at, end, False)


@njit(cache=True, nogil=True)
def _next_super(data: np.ndarray, kinds: np.ndarray, at: int, end: int) -> int:
    stop = _next_gpt2(data, kinds, at, end)
    if kinds[stop - 1] & LETTER and data[at] != ord("'"):
        while stop + 1 < end and data[stop] == 32 and kinds[stop + 1] & LETTER:
            stop = _run(kinds, stop + 1, end, LETTER)
    return stop


@njit(cache=True, nogil=True)
def _next_gpt4(data: np.ndarray, kinds: np.ndarray, at: int, end: int) -> int:
    if kinds[at] & LETTER:
        return _run(kinds, at, end, LETTER)
    if kinds[at] & NUMBER:
        stop = at
        for _ in range(3):
            if stop < end and kinds[stop] & NUMBER:
                stop = following(data, stop, end)
        return stop
    if data[at] == ord("'"):
        stop = _contraction(data, at, end, True)
        if stop > at:
            return stop
    if data[at] != 10 and data[at] != 13:
        after = following(data, at, end)
        stop = _run(kinds, after, end, LETTER)
        if stop > after:
            return stop
    start = at + 1 if data[at] == 32 else at
    stop = _symbols(kinds, start, end)
    if stop > start:
        while stop < end and (data[stop] == 10 or data[stop] == 13):
            stop += 1
        return stop
    return _white(data, kinds, at, end, True)


@njit(cache=True, nogil=True, inline="always")
def _is_mark(data: np.ndarray, at: int) -> bool:
    """Whether a space or Metaspace's mark stands at ``at``."""
    return data[at] == 32 or (data[at] == 0xE2 and data[at + 1] == 0x96 and data[at + 2] == 0x81)


@njit(cache=True, nogil=True)
def _next_spaced(data: np.ndarray, kinds: np.ndarray, at: int, end: int) -> int:
    stop = at
    if kinds[at] & SPACE:
        if not _is_mark(data, at):
            while stop < end and kinds[stop] & SPACE and not _is_mark(data, stop):
                stop += 1
            return stop
        stop += 1 if data[at] == 32 else 3
    while stop < end and not kinds[stop] & SPACE:
        stop += 1
    return stop


@njit(cache=True, nogil=True, inline="always")
def _next_cut(data: np.ndarray, kinds: np.ndarray, at: int, end: int, kind: int) -> int:
    """End of the pre-token at ``at`` < ``end``; for WORDS and BERT no gap stands there."""
    if kind == GPT2:
        return _next_gpt2(data, kinds, at, end)
    if kind == GPT4:
        return _next_gpt4(data, kinds, at, end)
    if kind == SUPER:
        return _next_super(data, kinds, at, end)
    if kind == SPACED:
        return _next_spaced(data, kinds, at, end)
    with_marks = kind in (BERT, BERT_MARKS)
    if with_marks and kinds[at] & _ALONE_IN_BERT:
        return following(data, at, end)
    stop = at + 1
    while stop < end and not _is_gap(kinds[stop], kind) and not (with_marks and kinds[stop] & _ALONE_IN_BERT):
        stop += 1
    return stop
