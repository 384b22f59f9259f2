"""The scripts that are written without spaces between words: the one table of them, and what it makes a word.

To part their words takes a dictionary for each language. What works without one takes smaller units, each for its end:

- characters, marks included: deduplication and decontamination (``text.folding``);
- letters, each with the marks after it: the language models of perplexity (``text.sentence_folding``);
- letters of CHARACTERS and orthographic syllables of SYLLABLES: the heuristics and lists of words (``text.words``,
  ``text.phrases``);
- characters of the scripts that a recipe names: tokenizers (``tokenization.config``).

So each of these parts words wherever the next one does, and all part them where such a script meets another.
"""

from __future__ import annotations

from functools import lru_cache

#: Ranges of code points, both ends included. Of each its letters are words by themselves.
CHARACTERS = (
    (0x3005, 0x3007),  # ideographic iteration mark, closing mark and zero
    (0x3021, 0x312F),  # Hangzhou numerals, Hiragana, Katakana, Bopomofo
    (0x31A0, 0x31FF),  # extensions of Bopomofo and Katakana
    (0x3400, 0x9FFF),  # Han
    (0xA000, 0xA4CF),  # Yi
    (0xF900, 0xFAFF),  # Han compatibility characters
    (0xFF66, 0xFF9F),  # half-width Katakana
    (0x1AFF0, 0x1B16F),  # extensions of Kana
    (0x20000, 0x3FFFF),  # Han beyond the basic plane
)

#: Ranges of scripts that write a syllable with several letters and marks.
SYLLABLES = (
    (0x0E00, 0x0FFF),  # Thai, Lao, Tibetan
    (0x1000, 0x109F),  # Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x1950, 0x19FF),  # Tai Le, New Tai Lue, Khmer symbols
    (0x1A20, 0x1AAF),  # Tai Tham
    (0xA980, 0xA9FF),  # Javanese, Myanmar extended
    (0xAA60, 0xAADF),  # Myanmar extended, Tai Viet
)

UNSPACED = CHARACTERS + SYLLABLES

#: Written with spaces, but so that a sentence may go on without one: after an address, say.
HANGUL = ((0x1100, 0x11FF), (0xA960, 0xA97F), (0xAC00, 0xD7FF), (0xFFA0, 0xFFDC))


def points(ranges: tuple[tuple[int, int], ...]) -> list[int]:
    """The code points of some of the ranges above."""
    return [point for first, last in ranges for point in range(first, last + 1)]


@lru_cache(1 << 16)
def is_unspaced(character: str) -> bool:
    """Whether the character belongs to a script without spaces between words."""
    return any(first <= ord(character) <= last for first, last in UNSPACED)
