"""Characters as deduplication compares them: lower-cased, and divided into words and gaps.

The tables are indexed by code point and built on first use from Python's Unicode database; its version is
part of the fingerprint of everything that was made with them.
"""

from __future__ import annotations

import unicodedata
from functools import cache
from itertools import chain

import numpy as np

from pipeline.text import scripts

UNICODE_VERSION = unicodedata.unidata_version

#: Set in an entry of ``word_table``: the character, of a script without spaces, is a word of its own.
ALONE = np.uint32(1 << 31)

#: The entry of a whitespace character in ``text_table``.
SPACE = np.uint32(0xFFFFFFFF)

_CODE_POINTS = 0x110000
#: The planes that hold letters, marks, numbers and spaces; the others are private or empty.
_ASSIGNED = (range(0x40000), range(0xE0000, 0xE1000))


def lower(character: str) -> str:
    """Lower case, one character for one and without context: Σ gives σ everywhere, İ gives i."""
    return character.lower()[0]


def in_word(character: str) -> bool:
    """Whether the character is a letter, a mark, a number or ``_``."""
    return character == "_" or unicodedata.category(character)[0] in "LMN"


@cache
def word_table() -> np.ndarray:
    """uint32 [0x110000]: 0 for a gap between words, else the character in lower case, perhaps with
    ``ALONE``.
    """
    table = np.zeros(_CODE_POINTS, np.uint32)
    for code in chain(*_ASSIGNED):
        character = chr(code)
        if in_word(character):
            table[code] = ord(lower(character))
    for first, last in scripts.UNSPACED:  # a sentence of them would be one word, a text a handful of shingles
        block = table[first : last + 1]
        block[block > 0] |= ALONE
    return table


@cache
def text_table(case: bool) -> np.ndarray:
    """uint32 [0x110000]: each character, in lower case if ``case`` folds; ``SPACE`` for what ``str.isspace`` names."""
    table = np.arange(_CODE_POINTS, dtype=np.uint32)
    for code in chain(*_ASSIGNED):
        character = chr(code)
        if character.isspace():
            table[code] = SPACE
        elif case:
            table[code] = ord(lower(character))
    return table
