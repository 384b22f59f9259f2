"""Texts as the language models see them: lines of folded words. Training and scoring both read this, and nothing else.

A sentence is a line of the text, as in CCNet (Wenzek et al. 2020); blank lines are none, and a line of more than
``LONGEST_SENTENCE`` tokens goes on as the next one. A token is a run of letters, marks and numbers (of at most
``LONGEST_WORD`` characters), or any other visible character by itself; so is each letter, with its marks, of the
scripts that write no spaces (``pipeline.text.scripts``). Letters are lower-cased where that is one character to one,
every decimal digit becomes 0, typographic quotes and dashes become ASCII's, invisible format characters vanish. Nothing
is composed or decomposed.
"""

from __future__ import annotations

import unicodedata
from functools import cache
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy import uint64

from pipeline.text import scripts
from pipeline.text.buffers import string_array, text_buffers
from pipeline.text.jit import int64, njit
from pipeline.text.kernels import between64, borrow, lower16, trailing_zeros
from pipeline.text.runs import WINDOW, edges, without_lowest
from pipeline.text.utf8 import code_point, encode, width

#: KenLM adds up a sentence in single precision; so many log probabilities keep six digits.
LONGEST_SENTENCE = 512
LONGEST_WORD = 64

_CASE = 32  # makes ASCII capitals lower case
_AHEAD = 80  # bytes that a window reads: its tokens are copied by 16
_SPACE, _WORD, _ALONE, _MARK, _NOTHING = range(5)
_TABLE_END, _CLASS = 0x20000, 24
_ASCII_FORMS = {"‘’‚‛′`´": "'", "“”„‟″«»": '"', "‐‑‒–—―−": "-"}


class Sentences(NamedTuple):
    """``lines``: the sentences of all texts, tokens parted by one space; ``tokens`` int32: how many each has.

    Those of text ``i`` are ``first[i]`` to ``first[i + 1]`` (int64 [texts + 1]).
    """

    lines: pa.StringArray
    tokens: np.ndarray
    first: np.ndarray


def sentences(texts: pa.StringArray) -> Sentences:
    """The sentences of ``texts``. Raises OverflowError if they exceed 2 GiB (at most twice the size of the texts)."""
    data, offsets = text_buffers(texts)
    used = data[offsets[0] : offsets[-1]]
    most = int(np.count_nonzero(used == 10)) + len(texts) + len(used) // LONGEST_SENTENCE
    out = np.empty(2 * len(used) + 16, np.uint8)
    ends, tokens, first = np.zeros(most + 1, np.int64), np.zeros(most, np.int32), np.zeros(len(texts) + 1, np.int64)
    lines = _fold(data, offsets, _table(), out, ends, tokens, first)
    return Sentences(string_array(out[: ends[lines]], ends[: lines + 1]), tokens[:lines], first)


@cache
def _table() -> np.ndarray:
    """uint32 [_TABLE_END]: for each code point what it becomes, and from bit ``_CLASS`` on its class."""
    table = np.empty(_TABLE_END, np.uint32)
    unspaced = set(scripts.points(scripts.UNSPACED))
    ascii_form = {char: plain for chars, plain in _ASCII_FORMS.items() for char in chars}
    for point in range(_TABLE_END):
        char = chr(point)
        category = unicodedata.category(char)
        folded, kind = char, _ALONE
        if category == "Nd":
            folded, kind = "0", _WORD
        elif category[0] in "LN":
            folded, kind = char.lower(), _WORD
            if category[0] == "L" and point in unspaced:
                kind = _ALONE
        elif category[0] == "M":
            kind = _MARK
        elif category[0] == "Z" or category == "Cc":
            kind = _SPACE
        elif category == "Cf":
            kind = _NOTHING
        elif char in ascii_form:
            folded = ascii_form[char]
        if len(folded) > 1:  # U+0130 alone
            folded = char
        table[point] = ord(folded) | kind << _CLASS
    return table


@njit(cache=True, nogil=True)
def _fold(data, offsets, table, out, ends, tokens, first):
    """Fills ``out`` with the sentences one after another and the arrays that describe them; returns how many."""
    data, table, out, ends, tokens = borrow(data), borrow(table), borrow(out), borrow(ends), borrow(tokens)
    line, at = 0, 0
    for text in range(len(offsets) - 1):
        i, end = offsets[text], offsets[text + 1]
        count, length, inside = 0, 0, _SPACE  # tokens in the line; characters in the token; class of the token
        while i < end:
            point = np.int64(data[i])
            if point < 0x80 and i + _AHEAD <= len(data) and (inside != _WORD or table[point] >> _CLASS != _WORD):
                starts, stops, digits, rest, size = _window(data, i, end)
                while stops:
                    start, stop = int64(trailing_zeros(starts)), int64(trailing_zeros(stops))
                    starts, stops = without_lowest(starts), without_lowest(stops)
                    if count == LONGEST_SENTENCE:
                        line, count = _close(line, count, at, tokens, ends)
                    out[at] = 32
                    at, count = at + (count > 0), count + 1
                    _copy(out, at, data, i, start, stop, digits)
                    at += stop - start
                if size:
                    i, inside = i + rest, _SPACE
                    if rest == size or (rest and size == WINDOW):
                        continue
                    point = np.int64(data[i])
            if point < 0x80:
                i += 1
            else:
                point = code_point(data, i)
                i += width(data[i])
            if point == 10:
                line, count = _close(line, count, at, tokens, ends)
                inside = _SPACE
                continue
            folded, kind = point, _ALONE
            if point < _TABLE_END:
                folded = np.int64(table[point]) & 0xFFFFFF
                kind = np.int64(table[point]) >> _CLASS
            if kind == _NOTHING:
                continue
            if kind == _SPACE:
                inside = _SPACE
                continue
            goes_on = inside == kind == _WORD or (kind == _MARK and inside != _SPACE)
            if goes_on and length < LONGEST_WORD:
                length += 1
            else:
                if count == LONGEST_SENTENCE:
                    line, count = _close(line, count, at, tokens, ends)
                if count:
                    out[at] = 32
                    at += 1
                count, length = count + 1, 1
                inside = _ALONE if kind == _ALONE else _WORD
            at = encode(folded, out, at)
        line, count = _close(line, count, at, tokens, ends)
        first[text + 1] = line
    return line


@njit(cache=True, nogil=True, forceinline=True)
def _close(line, count, at, tokens, ends):
    """Ends a line of ``count`` tokens at ``at``, if it has any."""
    if count:
        tokens[line], ends[line + 1] = count, at
        line += 1
    return line, 0


@njit(cache=True, nogil=True, forceinline=True)
def _window(data, at, end):
    """``(starts, ends, digits, rest, size)`` of the tokens that a window of ASCII holds, as ``runs.edges`` has them."""
    stops = between64(data, at, 0, 0x80, 0xFF) | between64(data, at, 0, 10, 10) | between64(data, at, 0, 96, 96)
    size = min(WINDOW, end - at, int64(trailing_zeros(stops)))
    digits = between64(data, at, 0, ord("0"), ord("9"))
    words = digits | between64(data, at, _CASE, ord("a"), ord("z"))
    closed = at + size == end or (size < WINDOW and data[at + size] < 0x80)  # else it may go on, or a mark follow
    starts, ends, rest = edges(words, between64(data, at, 0, 33, 126) & ~words, size, closed)
    return starts, ends, digits, rest, size


@njit(cache=True, nogil=True, forceinline=True)
def _copy(out, at, data, base, start, stop, digits):
    """Puts the token ``data[base + start : base + stop]`` of ASCII, in lower case and its digits 0, at ``out[at]``."""
    lower16(out, at, data, base + start)
    for k in range(start + 16, stop, 16):
        lower16(out, at + k - start, data, base + k)
    digits &= (uint64(1) << uint64(stop)) - (uint64(1) << uint64(start))
    while digits:
        out[at + int64(trailing_zeros(digits)) - start] = ord("0")
        digits = without_lowest(digits)
