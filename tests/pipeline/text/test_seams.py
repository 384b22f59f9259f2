"""Tidy cuts against what a text must not show where something was cut."""

import random
import re
from itertools import pairwise

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.text import seams, spans
from pipeline.text.folding import in_word
from pipeline.text.scripts import is_unspaced
from pipeline.text.spans import SPANS


def cut(text: str, *parts: str) -> str:
    """``text`` without each of ``parts``, which stand in it once."""
    data = text.encode()
    ranges = [{"start": data.index(p.encode()), "end": data.index(p.encode()) + len(p.encode())} for p in parts]
    texts = pa.array([text])
    tidied = seams.tidy(texts, pa.array([sorted(ranges, key=lambda r: r["start"])], SPANS))
    return spans.cut(spans.overwrite(texts, tidied.overwrites, tidied.fill), tidied.cuts)[0].as_py()


@pytest.mark.parametrize(
    ("text", "parts", "left"),
    [
        ("Account/a b c/resources", ["/a b c/"], "Account resources"),
        ("Account/a/b/resources", ["/a/b/"], "Account resources"),
        ("Account—resources", ["—"], "Account   resources"),
        ("one two three", ["two"], "one three"),
        ("one two. Three", ["two"], "one . Three"),
        ("one two three", ["one"], "two three"),
        ("one two three\n", ["three"], "one two"),
        ("one.\n\nTwo.\n\nThree.", ["Two."], "one.\n\nThree."),
        ("one.\n\nTwo.\n\nThree.", ["Two.\n\n"], "one.\n\nThree."),
        ("One. Two.\n\nThree.", ["Two.\n\n"], "One.\n\nThree."),
        ("if a:\n    b\n    c\nd", ["b"], "if a:\n    c\nd"),
        ("one two x three four", ["two", "x"], "one three four"),
        ("我们在这里工作", ["在这"], "我们里工作"),
        ("ไทยภาษาไทย", ["ภาษา"], "ไทยไทย"),
        ("мир—и-дом", ["—и-"], "мир дом"),
        ("e\u0301-x-o", ["-x-"], "e\u0301 o"),
        ("a b", [" "], "a b"),
    ],
)
def test_what_is_left_reads_well(text, parts, left):
    assert cut(text, *parts) == left


TEXT = st.text(alphabet="ab1_-./é\u0301我ไ \n\u00a0", max_size=30)


@given(st.lists(TEXT, min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_a_seam_neither_joins_words_nor_doubles_whitespace_and_loses_nothing_else(texts, draw: random.Random):
    ranges = []
    for text in texts:
        places = sorted(draw.sample(range(len(text) + 1), min(len(text) + 1, 2 * draw.randrange(3))))
        pairs = zip(places[::2], places[1::2], strict=False)
        ranges.append([(a, b) for a, b in pairs])
    given_ranges = [
        [{"start": len(t[:a].encode()), "end": len(t[:b].encode())} for a, b in found]
        for t, found in zip(texts, ranges, strict=True)
    ]
    array = pa.array(texts)
    tidied = seams.tidy(array, pa.array(given_ranges, SPANS))
    left = spans.cut(spans.overwrite(array, tidied.overwrites, tidied.fill), tidied.cuts).to_pylist()
    for text, found, after in zip(texts, ranges, left, strict=True):
        kept = [c for i, c in enumerate(text) if not any(a <= i < b for a, b in found)]
        assert "".join("".join(kept).split()) == "".join(after.split())  # only whitespace differs
        if not any(text[a:b].strip() for a, b in found):
            assert after == text
            continue
        longest = max(map(len, re.findall(r"\n[\s]*", text)), default=0)
        assert max(map(len, re.findall(r"\n[\s]*", after)), default=0) <= max(longest, 3)
        # words that were apart are apart
        pieces = [p for p in _pieces(text, found) if p]
        for one, other in pairwise(pieces):
            if _spaced(one) and _spaced(other[::-1]):
                assert one[-1] + other[0] not in after or one[-1] + other[0] in text


def _pieces(text, found):
    at, pieces = 0, []
    for a, b in found:
        pieces.append(text[at:a])
        at = b
    return [*pieces, text[at:]]


def _spaced(piece):
    base = piece.rstrip("\u0301")
    return bool(base) and in_word(base[-1]) and not is_unspaced(base[-1])
