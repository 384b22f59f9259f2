"""Where a text may be cut before any vocabulary is applied: compiled scanners over UTF-8 bytes.

``cut_all`` finds the pre-tokens of texts; the scanners follow the regular expressions below exactly (tests compare them
with the engine that runs those expressions):

- ``GPT2``: ``'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+``
  (with the marks of classes.table among the letters: ` ?[\\p{L}\\p{M}]+` and ` ?[^\\s\\p{L}\\p{M}\\p{N}]+`)
- ``GPT4`` (cl100k): ``(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}|
  ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+``
- ``SUPER``: GPT2's, but ` ?\\p{L}+(?: \\p{L}+)*` for its words: those with one space between them are one pre-token
- ``WORDS``: runs of characters that are not white space; the white space is dropped
- ``GAPPED``: the same words, all but the first of a text with the white space character before them
- ``SPACED``: ``[ ▁]?\\S*|[^\\S ▁]+``, a space or mark with the word behind it, or a run of other white space
- ``BERT``: words, with every punctuation mark and every CJK character alone
- ``BERT_WORDS``, ``BERT_MARKS``: the same two cuts for text that BERT has yet to clean of control characters

``GAPPED`` and ``SPACED`` want classes.marked_table. Where a text is ASCII, the edges of most cuts are found 64 bytes at
a time, a bit for each byte, as simdjson (https://arxiv.org/abs/1902.08318) finds those of JSON: no branch depends on
which kind of character comes next. Other characters are decoded one by one.
"""

from __future__ import annotations

import numpy as np
from numpy import uint64

from pipeline.text.jit import int64, njit
from pipeline.text.kernels import between16, between32, borrow, leading_zeros, load64, trailing_zeros
from pipeline.text.utf8 import decode, following, previous
from pipeline.tokenization.character_classes import CJK, CONTROL, DIGIT, LETTER, NUMBER, PUNCTUATION, SPACE

GPT2, GPT4, SUPER, SPACED, WORDS, GAPPED, BERT, BERT_WORDS, BERT_MARKS = range(9)

_NO_CLASS = LETTER | NUMBER | SPACE
_ALONE_IN_BERT = PUNCTUATION | CJK
_LONG_S = (0xC5, 0xBF)  # folds to "s", so (?i:'s) matches it
_LETTERS, _ALPHANUMERIC, _VISIBLE = range(3)  # runs of ASCII that `_ascii_run` knows
_WINDOW = 64  # bytes whose edges are found at once
_BEYOND_ASCII = uint64(0x8080808080808080)
TOGETHER = 32  # pre-tokens that are cut before anything is done with them
SPANS = TOGETHER + _WINDOW  # room for those of ``next_spans``


@njit(cache=True, nogil=True)
def cut_all(
    data: np.ndarray, offsets: np.ndarray, classes: np.ndarray, kind: int, alone: int | np.uint8
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``(starts, ends, bounds)``: int64 spans of all pre-tokens; those of text i are ``bounds[i]:bounds[i + 1]``.

    A character in one of the classes ``alone`` is a pre-token of its own, and no other reaches across it.
    """
    data, classes = borrow(data), borrow(classes)
    most = offsets[-1] - offsets[0]  # what is not used costs no memory
    starts, ends = np.empty(most, np.int64), np.empty(most, np.int64)
    bounds, spans = np.zeros(len(offsets), np.int64), np.empty((SPANS, 3), np.int64)
    count = 0
    for i in range(len(offsets) - 1):
        first, end, some = offsets[i], offsets[i + 1], TOGETHER
        at = border = first
        while some >= TOGETHER:
            some, at, border = next_spans(data, at, border, first, end, classes, kind, alone, spans)
            for k in range(some):
                starts[count + k], ends[count + k] = spans[k, 0], spans[k, 1]
            count += some
        bounds[i + 1] = count
    return starts[:count], ends[:count], bounds


@njit(cache=True, nogil=True, forceinline=True)
def next_spans(
    data: np.ndarray,
    at: int,
    border: int,
    first: int,
    end: int,
    classes: np.ndarray,
    kind: int,
    alone: int | np.uint8,
    spans: np.ndarray,
) -> tuple[int, int, int]:
    """``(count, at, border)``: how many pre-tokens from ``at`` on were cut, up to ``SPANS``, and from where to go on;
    fewer than ``TOGETHER`` where the text ends.

    ``spans`` int64 [SPANS, 3] takes their starts, their ends, and the place from which each is found again, with that
    for its border.
    """
    count, has_windows = 0, _has_windows(kind)
    while count < TOGETHER:
        if has_windows and at + _WINDOW <= end and load64(data, at) & _BEYOND_ASCII == 0:
            starts, ends = _edges(data, at, kind, alone)
            if ends:
                base = at
                while ends:
                    start = base + int64(trailing_zeros(starts))
                    at = base + int64(trailing_zeros(ends))
                    spans[count, 0], spans[count, 1], spans[count, 2] = start, at, start
                    starts &= starts - uint64(1)
                    ends &= ends - uint64(1)
                    count += 1
                continue
        start, stop, border = next_span(data, at, border, first, end, classes, kind, alone)
        if start == stop:
            break
        spans[count, 0], spans[count, 1], spans[count, 2] = start, stop, at
        at = stop
        count += 1
    return count, at, border


@njit(cache=True, nogil=True, forceinline=True)
def _has_windows(kind: int) -> bool:
    return kind not in (SPACED, GAPPED)


@njit(cache=True, nogil=True, forceinline=True)
def _within(data: np.ndarray, at: int, first: int, last: int) -> np.uint64:
    """Which of the bytes from ``at`` on are between these two, a bit for each of 64."""
    return between32(data, at, 0, first, last) | (between32(data, at + 32, 0, first, last) << uint64(32))


@njit(cache=True, nogil=True, forceinline=True)
def _edges(data: np.ndarray, at: int, kind: int, alone: int | np.uint8) -> tuple[np.uint64, np.uint64]:
    """``(starts, ends)`` of the pre-tokens that end, for certain, in the 64 bytes from ``at`` on, where one may start.

    A bit for each byte; the last start may be one more. What the last byte before the first that is not ASCII belongs
    to depends on what follows.
    """
    one = uint64(1)
    known = trailing_zeros(_within(data, at, 0x80, 0xFF))
    sure = (one << (known - one)) - one
    letters = _within(data, at, ord("a"), ord("z")) | _within(data, at, ord("A"), ord("Z"))
    numbers, space = _within(data, at, ord("0"), ord("9")), _within(data, at, 32, 32)
    lone = numbers if alone & DIGIT else uint64(0)
    if kind >= WORDS:
        gaps = space | _within(data, at, 9, 13)
        if kind >= BERT_WORDS:  # which removes two of them as control characters
            gaps &= ~_within(data, at, 11, 12)
        if kind in (BERT, BERT_MARKS):
            lone |= _within(data, at, 33, 126) & ~(letters | numbers)
        word = ~(gaps | lone)
        starts, ends = (word & ~(word << one)) | lone, (~word & (word << one)) | (lone << one)
        return starts & sure, ends & sure
    blank = space | _within(data, at, 9, 13)
    marks = ~(letters | numbers | blank)
    opens = marks & ~(marks << one) & ~(space << one)
    if kind == GPT4:
        newlines = _within(data, at, 10, 10) | _within(data, at, 13, 13)
        starts = _starts_gpt4(letters, numbers, blank, newlines, marks, opens, lone)
        solid = ~blank & (sure << one | one)  # how white space is cut depends on where it ends
        sure &= (~uint64(0) >> leading_zeros(solid)) << one | one if solid else one
    else:
        starts = (letters & ~(letters << one) & ~(space << one)) | opens | (blank & ~(blank << one)) | lone
        if lone:  # no other piece sees what is beyond it
            starts |= blank & ~(blank >> one) & ~(numbers >> one)
        else:
            starts |= (numbers & ~(numbers << one) & ~(space << one)) | (blank & ~(blank >> one))
        if kind == SUPER:
            starts &= ~(space & (letters << one) & (letters >> one))
    quotes = opens & _within(data, at, ord("'"), ord("'"))
    while quotes:
        quote = trailing_zeros(quotes)
        size = _contraction(data, at + int64(quote), at + _WINDOW, kind == GPT4) - at - int64(quote)
        if size > 0:
            starts = (starts & ~(one << (quote + one))) | (one << (quote + uint64(size)))
        quotes &= quotes - one
    starts = (starts & sure) | one
    return starts, starts & ~one


@njit(cache=True, nogil=True, forceinline=True)
def _starts_gpt4(
    letters: np.uint64,
    numbers: np.uint64,
    blank: np.uint64,
    newlines: np.uint64,
    marks: np.uint64,
    opens: np.uint64,
    lone: np.uint64,
) -> np.uint64:
    """Where GPT-4's pre-tokens start, contractions aside, given which of 64 bytes are what; ``blank`` are all white."""
    one = uint64(1)
    inline = blank & ~newlines
    starts = opens | lone | (letters & ~(letters << one) & ~((inline | opens) << one))
    if not lone:  # threes of digits
        thirds = numbers & ~(numbers << one)
        while thirds:
            starts |= thirds
            thirds = thirds << uint64(3) & numbers & numbers << one & numbers << uint64(2)
    blank &= ~(newlines & ~(newlines + (newlines & marks << one)))  # but for newlines that end a run of marks
    starts |= blank & ~(blank << one)
    starts |= inline & ~(blank >> one) & ~(lone >> one)
    after = inline & newlines << one & blank << one  # white space goes on after a newline
    again = inline + after & ~inline & newlines
    while again:  # and has another: there only the last one ends a pre-token
        before = after & (again & ~(again - one)) - one
        after &= ~(one << (uint64(63) - leading_zeros(before)))
        again &= again - one
    return starts | after


@njit(cache=True, nogil=True, forceinline=True)
def next_span(
    data: np.ndarray, at: int, border: int, first: int, end: int, classes: np.ndarray, kind: int, alone: int | np.uint8
) -> tuple[int, int, int]:
    """``(start, stop, border)`` of the first pre-token from ``at`` on in the text ``data[first:end]``.

    They are equal where there is none. ``border`` is what was returned with the one before it, ``first`` to begin with:
    the next place that no pre-token reaches across.
    """
    opens = at == first
    while at < end:
        if at >= border:
            border = end
            if alone:
                border = at
                while border < end and not _bits(data, border, classes) & alone:
                    border = following(data, border, end)
                if border == at:
                    border = following(data, at, end)
        if kind < WORDS:
            if kind in (GPT2, GPT4):  # most of a text: words of ASCII, and marks with a space behind them
                if at + 17 <= len(data):
                    lead = uint64(data[at] == 32)
                    size = trailing_zeros(~(_ascii(data, at, _LETTERS) >> lead))
                    stop = min(at + int64(lead + size), border)
                    if size > 0 and lead + size < 16 and (stop == border or data[stop] < 0x80):
                        return at, stop, border
                if at + 1 < border and data[at + 1] == 32 and not _bits(data, at, classes) & _NO_CLASS:
                    return at, at + 1, border
            if kind == GPT2:
                return at, _next_gpt2(data, classes, at, border), border
            if kind == GPT4:
                return at, _next_gpt4(data, classes, at, border), border
            if kind == SUPER:
                return at, _next_super(data, classes, at, border), border
            return at, _next_spaced(data, classes, at, border), border
        if not _is_gap(_bits(data, at, classes), kind):
            stop = _next_word(data, classes, at, border, kind)
            if kind == GAPPED and not opens:
                before = previous(data, at)
                if _bits(data, before, classes) & SPACE:
                    at = before
            return at, stop, border
        at = following(data, at, end)
    return end, end, border


@njit(cache=True, nogil=True, forceinline=True)
def _bits(data: np.ndarray, at: int, classes: np.ndarray) -> np.uint8:
    """The class bits of the character that starts at ``at``."""
    return classes[data[at]] if data[at] < 0x80 else classes[decode(data, at)[0]]  # type: ignore[return-value]


@njit(cache=True, nogil=True, forceinline=True)
def _is_gap(bits: int | np.uint8, kind: int) -> bool:
    """Whether a character with these class bits separates words and belongs to none.

    BERT removes control characters, some of which are white space, before it looks for gaps; ``BERT_WORDS`` and
    ``BERT_MARKS`` cut the text that is yet to be cleaned so.
    """
    if kind >= BERT_WORDS:
        return (bits & SPACE) != 0 and (bits & CONTROL) == 0
    return (bits & SPACE) != 0


@njit(cache=True, nogil=True, forceinline=True)
def _ascii(data: np.ndarray, at: int, which: int) -> np.uint64:
    """Which of the 16 bytes from ``at`` on are ASCII letters, letters and digits, or visible ASCII, a bit for each."""
    if which == _VISIBLE:
        return between16(data, at, 0, 0x21, 0x7E)
    letters = between16(data, at, 0x20, ord("a"), ord("z"))
    return letters | between16(data, at, 0, ord("0"), ord("9")) if which == _ALPHANUMERIC else letters


@njit(cache=True, nogil=True, forceinline=True)
def _ascii_run(data: np.ndarray, at: int, end: int, which: int) -> int:
    """End of the run of such bytes, as far as it is found 16 bytes at a time."""
    while at + 16 <= len(data) and at < end:
        size = int64(trailing_zeros(~_ascii(data, at, which)))
        at += size
        if size < 16:
            break
    return min(at, end)


@njit(cache=True, nogil=True, forceinline=True)
def _run(data: np.ndarray, classes: np.ndarray, at: int, end: int, bits: int | np.uint8) -> int:
    """End of the run of characters in one of the classes ``bits``."""
    while at < end:
        if data[at] < 0x80:
            if not classes[data[at]] & bits:
                break
            at += 1
        else:
            point, after = decode(data, at)
            if not classes[point] & bits:
                break
            at = after
    return at


@njit(cache=True, nogil=True, forceinline=True)
def _letters(data: np.ndarray, classes: np.ndarray, at: int, end: int) -> int:
    """End of the run of letters."""
    at = _ascii_run(data, at, end, _LETTERS)
    if at < end and (data[at] >= 0x80 or at + 16 > len(data)):
        return _run(data, classes, at, end, LETTER)
    return at


@njit(cache=True, nogil=True)
def _symbols(data: np.ndarray, classes: np.ndarray, at: int, end: int) -> int:
    """End of the run of characters that are neither white space nor letters nor numbers."""
    while at < end and not _bits(data, at, classes) & _NO_CLASS:
        at = following(data, at, end)
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
def _white(data: np.ndarray, classes: np.ndarray, at: int, end: int, newlines: bool) -> int:
    """End of ``\\s*[\\r\\n]+`` (if ``newlines``), else of ``\\s+(?!\\S)``, else of ``\\s+``, at white space."""
    stop, last, after_newline = at, at, at
    while stop < end and _bits(data, stop, classes) & SPACE:
        last = stop
        stop = following(data, stop, end)
        if data[stop - 1] == 10 or data[stop - 1] == 13:
            after_newline = stop
    if newlines and after_newline > at:
        return after_newline
    if stop == end or last == at:
        return stop
    return last


@njit(cache=True, nogil=True)
def _next_gpt2(data: np.ndarray, classes: np.ndarray, at: int, end: int) -> int:
    start = at + 1 if data[at] == 32 and at + 1 < end else at
    stop = _letters(data, classes, start, end)
    if stop > start:
        return stop
    if data[at] == ord("'"):
        stop = _contraction(data, at, end, False)
        if stop > at:
            return stop
    bits = _bits(data, start, classes)
    if bits & NUMBER:
        return _run(data, classes, start, end, NUMBER)
    if not bits & SPACE:
        return _symbols(data, classes, start, end)
    return _white(data, classes, at, end, False)


@njit(cache=True, nogil=True)
def _next_super(data: np.ndarray, classes: np.ndarray, at: int, end: int) -> int:
    start = at + 1 if data[at] == 32 and at + 1 < end else at
    stop = _letters(data, classes, start, end)
    if stop == start:
        return _next_gpt2(data, classes, at, end)
    while stop + 1 < end and data[stop] == 32:
        after = _letters(data, classes, stop + 1, end)
        if after == stop + 1:
            break
        stop = after
    return stop


@njit(cache=True, nogil=True)
def _next_gpt4(data: np.ndarray, classes: np.ndarray, at: int, end: int) -> int:
    if data[at] == ord("'"):
        stop = _contraction(data, at, end, True)
        if stop > at:
            return stop
    bits = _bits(data, at, classes)
    if bits & NUMBER:
        stop = at
        for _ in range(3):
            if stop < end and _bits(data, stop, classes) & NUMBER:
                stop = following(data, stop, end)
        return stop
    if data[at] != 10 and data[at] != 13:
        after = at if bits & LETTER else following(data, at, end)
        stop = _letters(data, classes, after, end)
        if stop > after:
            return stop
    start = at + 1 if data[at] == 32 else at
    stop = _symbols(data, classes, start, end)
    if stop > start:
        while stop < end and (data[stop] == 10 or data[stop] == 13):
            stop += 1
        return stop
    return _white(data, classes, at, end, True)


@njit(cache=True, nogil=True, inline="always")
def _is_mark(data: np.ndarray, at: int) -> bool:
    """Whether a space or Metaspace's mark stands at ``at``."""
    return data[at] == 32 or (data[at] == 0xE2 and data[at + 1] == 0x96 and data[at + 2] == 0x81)


@njit(cache=True, nogil=True)
def _next_spaced(data: np.ndarray, classes: np.ndarray, at: int, end: int) -> int:
    stop = at
    if _bits(data, at, classes) & SPACE:
        if not _is_mark(data, at):
            while stop < end and _bits(data, stop, classes) & SPACE and not _is_mark(data, stop):
                stop = following(data, stop, end)
            return stop
        stop += 1 if data[at] == 32 else 3
    while True:
        stop = _ascii_run(data, stop, end, _VISIBLE)
        if stop == end or _bits(data, stop, classes) & SPACE:
            return stop
        stop = following(data, stop, end)


@njit(cache=True, nogil=True, forceinline=True)
def _next_word(data: np.ndarray, classes: np.ndarray, at: int, end: int, kind: int) -> int:
    """End of the pre-token at ``at`` < ``end`` for WORDS, GAPPED and BERT; no gap stands there."""
    with_marks = kind in (BERT, BERT_MARKS)
    if with_marks and _bits(data, at, classes) & _ALONE_IN_BERT:
        return following(data, at, end)
    while True:
        at = _ascii_run(data, at, end, _ALPHANUMERIC) if with_marks else _ascii_run(data, at, end, _VISIBLE)
        if at == end:
            return at
        bits = _bits(data, at, classes)
        if _is_gap(bits, kind) or (with_marks and bits & _ALONE_IN_BERT):
            return at
        at = following(data, at, end)
