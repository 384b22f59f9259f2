"""The class table against Python's own view of each character."""

from __future__ import annotations

import unicodedata

import numpy as np
import pytest

from pipeline.text import characters
from pipeline.text.characters import kind
from pipeline.text.utf8 import width


def kind_of(char: str) -> int:
    data = np.frombuffer(char.encode(), np.uint8)
    assert width(data[0]) == len(data)
    return int(kind(data, 0, characters.table()))


@pytest.mark.parametrize("step", [1, 7919])
def test_whitespace_letters_digits_and_punctuation_are_what_python_says(step: int) -> None:
    points = range(0x3000) if step == 1 else range(0x3000, 0x110000, step)
    for point in points:
        char = chr(point)
        if 0xD800 <= point < 0xE000:
            continue
        found = kind_of(char)
        ideograph = 0x20000 <= point < 0x40000  # unassigned ones among them are taken for ideographs
        assert bool(found & characters.SPACE) == char.isspace(), hex(point)
        assert bool(found & characters.LETTER) == char.isalpha() or ideograph, hex(point)
        assert bool(found & characters.NUMERAL) == char.isdigit(), hex(point)
        assert bool(found & characters.BREAK) == (len(f"a{char}b".splitlines()) == 2), hex(point)
        assert bool(found & characters.PUNCTUATION) == unicodedata.category(char).startswith("P") or point >= 0x20000


@pytest.mark.parametrize(
    ("chars", "bit"),
    [
        (".?!。؟।…"[:6], characters.TERMINAL),
        ("漢あカ𠀀", characters.ALONE),
        ("กກកက", characters.CLUSTER),
        ("เໄ", characters.LEADING),
        ("😀©°", characters.ICON),
        ("$€¥", characters.CURRENCY),
        ("#.-$~\x07", characters.SYMBOL),
    ],
)
def test_marks_and_scripts_have_their_class(chars: str, bit: int) -> None:
    assert [char for char in chars if not kind_of(char) & bit] == []
    assert not kind_of("a") & bit
