"""What kind a character is: one table over Unicode, as the kernels look it up.

The class of a character is a sum of the bits below. ``table()[c]`` is that of the ASCII character ``c``, ``kind``
looks up any. The properties are those of Python's ``unicodedata`` and of ``regex``; the planes from U+20000 hold
ideographs only.
"""

from __future__ import annotations

import unicodedata
from functools import cache

import numpy as np
import regex

from pipeline.text import scripts
from pipeline.text.jit import njit
from pipeline.text.utf8 import code_point

SPACE = 1  # str.isspace
LETTER = 2  # general category L*, as str.isalpha
LOWER = 4  # letters that are not upper-case; those of scripts without case are both
UPPER = 8
DIGIT = 16  # 0 to 9
OPENING = 32  # split off the front of a word
CLOSING = 64  # split off the end of a word
QUOTE = 128
ICON = 256  # category So: symbols, emoji
PUNCTUATION = 512  # category P*
SYMBOL = 1024  # no word by itself: the characters that datatrove does not count as a word
TERMINAL = 2048  # ends a sentence: Unicode's Sentence_Terminal
BEFORE_STOP = 4096  # a full stop after it ends the sentence and is no part of the word
CURRENCY = 8192
ALONE = 16384  # a letter of scripts.CHARACTERS (Han, Kana, Yi): a word by itself
CLUSTER = 32768  # a letter of scripts.SYLLABLES (Thai, Khmer, Tibetan): starts an orthographic syllable
JOINING = 65536  # a mark, vowel or tone that continues one
LEADING = 131072  # a vowel written before the consonant that it belongs to (Thai, Lao)
STACKING = 262144  # the next letter belongs to the same syllable: after a virama (Khmer), and in all of Tibetan
SILENT = 524288  # an asat: the consonant before it closes the syllable (Myanmar)
BREAK = 1 << 20  # ends a line for str.splitlines
NUMERAL = 1 << 21  # str.isdigit, in any script
CONTINUOUS = 1 << 22  # of a script without spaces, or Hangul: may go on where another script ends

_IDEOGRAPHS, _END = 0x20000, 0x40000  # planes 2 and 3 hold ideographs only; what lies above has no class
_MARKS = "…,:;!?¿؟¡()[]{}<>_#*&。？！，、；：～·।،۔؛٪"
_QUOTES = ",'\"”“`‘´’‚„»«「」『』（）〔〕【】《》〈〉⟦⟧"
_SYMBOLS = "—”％１〈、━【「」，】；“《„’∶´．（–？！：～«〉》）。…►»"  # the １ is datatrove's

#: Letters that continue a syllable: vowels, finals and tones of Thai, Lao, Tai Le, New Tai Lue and Tai Viet; Kana's.
_CONTINUING = (
    "[\u0e30\u0e32\u0e33\u0e45\u0e46\u0eb0\u0eb2\u0eb3\u0ebd\u0ec6\u1963-\u1974\u19b0-\u19b4\u19b8\u19b9\u19bb-\u19c9"
    "\uaab1\uaaba\uaabd\uaac0\uaac2\u30fc\uff70\uff9e\uff9f]"
)


@cache
def table() -> np.ndarray:
    """uint32 [about 40,000]: the class of every character, for ``kind``; made on the first call (about 0.1 s)."""
    rows: dict[bytes, int] = {}  # in order of first appearance, so ASCII's block is the first
    ideographs = np.full(256, LETTER | LOWER | UPPER | ALONE | BEFORE_STOP | CONTINUOUS, np.uint32)
    blocks = [*_flat().reshape(-1, 256), *[ideographs] * ((_END - _IDEOGRAPHS) >> 8)]
    index = np.array([rows.setdefault(block.tobytes(), len(rows)) for block in blocks])
    places = np.where(index == 0, 0, 256 * (index - 1) + 256 + len(index)).astype(np.uint32)
    classes = np.frombuffer(b"".join(rows), np.uint32)
    return np.concatenate([classes[:256], places, classes[256:]])


def _flat() -> np.ndarray:
    """uint32 [_IDEOGRAPHS]: the class of each code point."""
    text = "".join(map(chr, range(_IDEOGRAPHS)))
    category = np.array([unicodedata.category(char) for char in text])
    major = category.astype("U1")
    flat = np.zeros(_IDEOGRAPHS, np.uint32)

    def add(bits: int, where: str | np.ndarray | list[int]) -> None:
        flat[[ord(char) for char in where] if isinstance(where, str) else where] |= np.uint32(bits)

    add(SPACE, np.array([char.isspace() for char in text]))
    add(BREAK, "\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029")
    add(LETTER, major == "L")
    add(LOWER | BEFORE_STOP, (major == "L") & (category != "Lu") & (category != "Lt"))
    add(UPPER, (major == "L") & (category != "Ll"))
    add(DIGIT | BEFORE_STOP, "0123456789")
    add(NUMERAL, np.array([char.isdigit() for char in text]))
    add(PUNCTUATION, major == "P")
    add(ICON | OPENING | CLOSING, category == "So")
    add(CURRENCY | OPENING, category == "Sc")
    add(OPENING | CLOSING, _MARKS + _QUOTES + "—–")
    add(OPENING, "§%=")
    add(QUOTE, _QUOTES)
    add(BEFORE_STOP, _MARKS + _QUOTES + "%²-+|")
    add(TERMINAL | SYMBOL, _matches(r"[\p{Sentence_Terminal}\u17D6\u17D9\u17DA]", text))
    add(SYMBOL, _matches(r"[\x00-\x08\x0B-\x1F\x7F-\x9F]|[!-~--[0-9A-Za-z]]", text))
    add(SYMBOL, _SYMBOLS)
    add(JOINING, major == "M")
    for ranges, bit in ((scripts.CHARACTERS, ALONE), (scripts.SYLLABLES, CLUSTER)):
        add(bit, [point for point in scripts.points(ranges) if point < _IDEOGRAPHS and major[point] == "L"])
    continuing = _matches(_CONTINUING, text)
    add(JOINING, continuing)
    flat[continuing] &= np.uint32(~(ALONE | CLUSTER) & 0xFFFFFFFF)
    add(LEADING, _matches(r"\p{Logical_Order_Exception}", text))
    add(STACKING, "\u17d2\u1039\u1a60\ua9c0")
    add(STACKING, _matches(r"[\u0f00-\u0fff&&[\p{L}\p{M}]]", text))  # a mark, the tsheg, ends the syllable
    add(OPENING | CLOSING | SYMBOL, _matches(r"[[\u0f04-\u0f14\ua9c1-\ua9df]&&\p{P}]", text))  # tsheg, shad, padas
    add(SILENT, "\u103a")
    continuous = scripts.points(scripts.UNSPACED + scripts.HANGUL)
    add(CONTINUOUS, [point for point in continuous if point < _IDEOGRAPHS])
    return flat


def _matches(pattern: str, text: str) -> list[int]:
    return [match.start() for match in regex.finditer(pattern, text, regex.V1)]


@njit(cache=True, nogil=True, forceinline=True)
def kind(data: np.ndarray, at: int, table: np.ndarray) -> np.int64 | int:
    """The class of the character that starts at ``data[at]``; ``table`` as ``table()`` gives it."""
    return np.int64(table[data[at]]) if data[at] < 0x80 else _wide_kind(data, at, table)


@njit(cache=True, nogil=True)
def _wide_kind(data, at, table):
    point = code_point(data, at)
    return np.int64(table[np.int64(table[256 + (point >> 8)]) + (point & 255)]) if point < _END else 0


@njit(cache=True, nogil=True, forceinline=True)
def continues_syllable(before: int | np.int64, this: int | np.int64, after: int | np.int64) -> np.bool | bool:
    """Whether a character belongs to the syllable (or letter) that the one before it, of ``before``, is part of.

    ``this`` is its class, ``after`` that of the next character, 0 if there is none.
    """
    if this & JOINING:
        return True
    if this & LEADING or not this & CLUSTER:
        return False
    return before & (LEADING | STACKING) > 0 or after & SILENT > 0
