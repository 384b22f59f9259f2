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

from pipeline.text import scripts
from pipeline.text.buffers import string_array, text_buffers
from pipeline.text.jit import njit
from pipeline.text.kernels import between16, copy16, trailing_zeros
from pipeline.text.utf8 import code_point, encode, width

#: KenLM adds up a sentence in single precision; so many log probabilities keep six digits.
LONGEST_SENTENCE = 512
LONGEST_WORD = 64

#: ASCII letters once this bit, which makes them lower case, is set in them.
_CASE, _FIRST, _LAST = 32, ord("a"), ord("z")
_SPACE, _WORD, _ALONE, _MARK, _NOTHING = range(5)
_TABLE_END = 0x20000
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
    """uint32 [_TABLE_END]: for each code point what it becomes, and from bit 24 on its class."""
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
        table[point] = ord(folded) | kind << 24
    return table


@njit(cache=True, nogil=True)
def _fold(data, offsets, table, out, ends, tokens, first):
    """Fills ``out`` with the sentences one after another and the arrays that describe them; returns how many."""
    line, at = 0, 0
    for text in range(len(offsets) - 1):
        i, end = offsets[text], offsets[text + 1]
        count, length, inside = 0, 0, _SPACE  # tokens in the line; characters in the token; class of the token
        while i < end:
            point = np.int64(data[i])
            if point < 0x80:
                i += 1
            else:
                point = code_point(data, i)
                i += width(data[i])
            if point == 10:
                if count:
                    tokens[line] = count
                    line += 1
                    ends[line] = at
                count, inside = 0, _SPACE
                continue
            folded, kind = point, _ALONE
            if point < _TABLE_END:
                folded = np.int64(table[point]) & 0xFFFFFF
                kind = np.int64(table[point]) >> 24
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
                    tokens[line] = count
                    line += 1
                    ends[line] = at
                    count = 0
                if count:
                    out[at] = 32
                    at += 1
                count, length = count + 1, 1
                inside = _ALONE if kind == _ALONE else _WORD
            at = encode(folded, out, at)
            while inside == _WORD and i + 16 <= len(data):  # most of a text is inside words of ASCII letters
                letters = np.int64(trailing_zeros(~between16(data, i, _CASE, _FIRST, _LAST)))
                letters = min(letters, end - i, LONGEST_WORD - length)
                copy16(out, at, data, i, _CASE)
                at, i, length = at + letters, i + letters, length + letters
                if letters < 16:
                    break
        if count:
            tokens[line] = count
            line += 1
            ends[line] = at
        first[text + 1] = line
    return line
