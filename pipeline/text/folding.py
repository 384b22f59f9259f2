"""Characters as deduplication compares them: lower-cased, and told apart into words and gaps.

The tables are indexed by code point and built on first use from Python's Unicode database; its version is
part of the fingerprint of everything that was made with them.
"""

from __future__ import annotations

import unicodedata
from functools import cache

import numpy as np

UNICODE_VERSION = unicodedata.unidata_version

#: Set in an entry of ``word_table``: the character is a word of its own.
ALONE = np.uint32(1 << 31)

#: The entry of a whitespace character in ``text_table``.
SPACE = np.uint32(0xFFFFFFFF)

#: Scripts written without spaces between words. A whole sentence of them would be one word, and long texts would be
#: left with a handful of shingles; so each of their characters counts as a word.
_UNSPACED = (
    (0x0E00, 0x0FFF),  # Thai, Lao, Tibetan
    (0x1000, 0x109F),  # Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x1950, 0x19FF),  # Tai Le, New Tai Lue, Khmer symbols
    (0x1A20, 0x1AAF),  # Tai Tham
    (0x3005, 0x3007),  # ideographic iteration mark, closing mark and zero
    (0x3021, 0x312F),  # Hangzhou numerals, Hiragana, Katakana, Bopomofo
    (0x31A0, 0x31FF),  # extensions of Bopomofo and Katakana
    (0x3400, 0x9FFF),  # Han
    (0xA000, 0xA4CF),  # Yi
    (0xA980, 0xA9FF),  # Javanese, Myanmar extended
    (0xAA60, 0xAADF),  # Myanmar extended, Tai Viet
    (0xF900, 0xFAFF),  # Han compatibility characters
    (0xFF66, 0xFF9F),  # half-width Katakana
    (0x1AFF0, 0x1B16F),  # extensions of Kana
    (0x20000, 0x3FFFF),  # Han beyond the basic plane
)

_CODE_POINTS = 0x110000
#: The planes that hold letters, marks, numbers and spaces; the others are private or empty.
_ASSIGNED = (*range(0x40000), *range(0xE0000, 0xE1000))


def lower(character: str) -> str:
    """Lower case, one character for one and without context: Σ gives σ everywhere, İ gives i."""
    return character.lower()[0]


def stands_alone(character: str) -> bool:
    """Whether the character belongs to a script without spaces between words."""
    return any(first <= ord(character) <= last for first, last in _UNSPACED)


def in_word(character: str) -> bool:
    """Whether the character is a letter, a mark, a number or ``_``."""
    return character == "_" or unicodedata.category(character)[0] in "LMN"


@cache
def word_table() -> np.ndarray:
    """uint32 [0x110000]: 0 for a gap between words, else the character in lower case, perhaps with
    ``ALONE``.
    """
    table = np.zeros(_CODE_POINTS, np.uint32)
    for code in _ASSIGNED:
        character = chr(code)
        if in_word(character):
            table[code] = ord(lower(character))
    for first, last in _UNSPACED:
        block = table[first : last + 1]
        block[block > 0] |= ALONE
    return table


@cache
def text_table(case: bool) -> np.ndarray:
    """uint32 [0x110000]: each character, in lower case if ``case`` folds; ``SPACE`` for what ``str.isspace`` names."""
    table = np.arange(_CODE_POINTS, dtype=np.uint32)
    for code in _ASSIGNED:
        character = chr(code)
        if character.isspace():
            table[code] = SPACE
        elif case:
            table[code] = ord(lower(character))
    return table
