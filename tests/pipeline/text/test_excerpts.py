from itertools import pairwise

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.text.excerpts import PIECES, SMALLEST, excerpts

texts = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=400), max_size=5)


@given(texts, st.integers(SMALLEST, 500))
def test_short_texts_stay_and_long_ones_fit(values: list[str], limit: int):
    found = excerpts(pa.array(values, pa.string()), limit)
    found.validate(full=True)
    for text, excerpt in zip(values, found.to_pylist(), strict=True):
        if len(text.encode()) <= limit:
            assert excerpt == text
        else:
            assert limit // 2 < len(excerpt.encode()) <= limit


@given(st.text("aé漢😀", min_size=300, max_size=600))
def test_pieces_are_runs_of_the_text_in_its_order_from_its_start_to_its_end(text: str):
    (excerpt,) = excerpts(pa.array([text]), 200).to_pylist()
    pieces = excerpt.split("\n")
    assert len(pieces) == PIECES
    assert text.startswith(pieces[0])
    assert text.endswith(pieces[-1])
    at = 0
    for piece in pieces:
        at = text.find(piece, at)
        assert at >= 0
        at += len(piece)


def test_pieces_lie_evenly():
    text = "".join(chr(0x4E00 + i) for i in range(2000))
    (excerpt,) = excerpts(pa.array([text]), 600).to_pylist()
    starts = [text.index(piece[0]) for piece in excerpt.split("\n")]
    gaps = [b - a for a, b in pairwise(starts)]
    assert max(gaps) - min(gaps) <= 1


def test_a_slice_of_an_array_gives_the_same():
    values = ["a" * 500, "b" * 500, "short"]
    assert excerpts(pa.array(["x", *values])[1:], 100).equals(excerpts(pa.array(values), 100))


def test_too_small_an_excerpt_is_refused():
    with pytest.raises(ValueError, match=str(SMALLEST)):
        excerpts(pa.array(["a"]), SMALLEST - 1)
