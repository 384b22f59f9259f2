"""Where sentences start, for examples that are made of whole sentences (next sentence, sentence order, infilling).

A sentence ends at a newline, or after a terminal mark (Unicode's Sentence_Terminal, with the quotes and brackets that
close behind it) where white space follows; after the full-width marks of Chinese and Japanese none need follow. A full
stop ends none after a single letter or an English abbreviation (Mr., Oct.), nor before a lower-case letter.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy import int64

from pipeline.text import characters, english
from pipeline.text.buffers import text_buffers
from pipeline.text.characters import LETTER, LOWER, QUOTE, SPACE, TERMINAL, UPPER, kind
from pipeline.text.jit import njit
from pipeline.text.kernels import between16, borrow, trailing_zeros
from pipeline.text.utf8 import code_point, previous, width

_OUTSIDE, _INSIDE, _STOPPED, _GAP = range(4)
_STOP, _CALL, _QUESTION, _BLANK = ord("."), ord("!"), ord("?"), ord(" ")


def starts(texts: pa.StringArray) -> tuple[np.ndarray, np.ndarray]:
    """``(places, bounds)``: the byte at which each sentence starts, int64, counted within its text; those of text i are
    ``places[bounds[i]:bounds[i + 1]]`` (bounds int64 [texts + 1]). A text that shows nothing has none."""
    data, offsets = text_buffers(texts)
    return _starts(data, offsets, characters.table(), english.lookup())


@njit(cache=True, nogil=True)
def _starts(data, offsets, table, words):
    data, table = borrow(data), borrow(table)
    places, bounds = np.empty(1024, np.int64), np.zeros(len(offsets), np.int64)
    count = 0
    for text in range(len(offsets) - 1):
        base, end = offsets[text], offsets[text + 1]
        at, word, state, wide = base, base, _OUTSIDE, False
        while at < end:
            if state == _INSIDE:  # most of a text: letters and blanks of ASCII, which change nothing
                at = _eventful(data, at, end)
                if at == end:
                    break
            bits, size = kind(data, at, table), width(data[at])
            if bits & SPACE:
                if data[at] == 10:
                    state = _OUTSIDE
                elif state == _STOPPED:
                    state = _GAP
                word = at + size
            elif state == _STOPPED and _closes(data, at, bits):
                wide = wide or _is_wide(code_point(data, at))
            else:
                lower = bits & (LOWER | UPPER) == LOWER
                if state == _OUTSIDE or (state == _STOPPED and wide) or (state == _GAP and not lower):
                    if count == len(places):
                        places = np.concatenate((places, np.empty_like(places)))
                    places[count] = at - base
                    count += 1
                    word = at
                state = _INSIDE
                if data[at] == _STOP:
                    word = _after_blank(data, word, at)
                if bits & TERMINAL and not (data[at] == _STOP and _is_abbreviation(data, word, at, table, words)):
                    state, wide = _STOPPED, _is_wide(code_point(data, at))
            at += size
        bounds[text + 1] = count
    return places[:count], bounds


@njit(cache=True, nogil=True, forceinline=True)
def _eventful(data, at, end):
    """Where the next control character, mark . ! ? or character that is not ASCII stands; ``end`` if none does."""
    while at + 16 <= len(data) and at < end:
        event = between16(data, at, 0, _STOP, _STOP) | between16(data, at, 0, _CALL, _CALL)
        event |= between16(data, at, 0, _QUESTION, _QUESTION) | ~between16(data, at, 0, _BLANK, 0x7F)
        size = int64(trailing_zeros(event))
        at += size
        if size < 16:
            return min(at, end)
    while at < end and 0x20 <= data[at] < 0x80 and data[at] != _STOP and data[at] != _CALL and data[at] != _QUESTION:
        at += 1
    return at


@njit(cache=True, nogil=True, forceinline=True)
def _after_blank(data, word, at):
    """Where the word at whose end ``at`` stands starts: after the last blank from ``word`` on, or at ``word``."""
    start = at
    while start > word and data[start - 1] != _BLANK:
        start -= 1
    return start


@njit(cache=True, nogil=True)
def _closes(data, at, bits):
    """Whether a character after a terminal mark still belongs to it: another mark, a closing quote or bracket."""
    if bits & TERMINAL or data[at] == 41 or data[at] == 93:
        return True
    if not bits & QUOTE:
        return False
    point = code_point(data, at)  # the quotes that open are left out: “ ‘ „ ‚ « and the even ones of the CJK block
    opens = point == 0x201C or point == 0x2018 or point == 0x201E or point == 0x201A or point == 0xAB or point == 0xFF08
    return not opens and not (0x3008 <= point <= 0x3014 and point % 2 == 0)


@njit(cache=True, nogil=True)
def _is_wide(mark):
    return mark == 0x3002 or mark == 0xFF01 or mark == 0xFF0E or mark == 0xFF1F or mark == 0xFF61


@njit(cache=True, nogil=True)
def _is_abbreviation(data, word, stop, table, words):
    """Whether the full stop at ``stop`` belongs to the word that starts at ``word``, a single letter or a known one."""
    while word < stop and not kind(data, word, table) & LETTER:
        word += width(data[word])
    if word == stop:
        return False
    last = previous(data, stop)
    before = kind(data, previous(data, last), table) if last > word else 0
    if kind(data, last, table) & LETTER and not before & LETTER:
        return True
    return english.find(data, word, stop + 1, words) & english.EXCEPTION != 0
