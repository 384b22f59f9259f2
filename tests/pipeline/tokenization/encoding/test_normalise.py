import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import normalizers

from pipeline.tokenization.encoding.normalise import KNOWN, normalise

#: Marks of several combining classes, characters that decompose, compose, grow or vanish, and ASCII that they may join.
PARTS = [
    "a",
    "E",
    "=",
    "<",
    " ",
    "\n",
    "\u0301",
    "\u0327",
    "\u0338",
    "\u0345",
    "é",
    "ﬁ",
    "½",
    "¨",
    "İ",
    "ß",
    "Σ",
    "Å",
    "ﷺ",
]
PARTS += [
    "\u1112",
    "\u1161",
    "\u11ab",
    "한",
    "が",
    "か\u3099",
    "\u0dd9",
    "\u0dcf",
    "中",
    "。",
    "😉",
    "Ǆ",
    "ϔ",
    "\u00a0",
    "Plain text of ASCII in Capitals and small letters, longer than 64 bytes. ",
]
TEXTS = st.lists(
    st.one_of(st.text(max_size=12), st.lists(st.sampled_from(PARTS), max_size=14).map("".join)), max_size=6
)
STEPS = st.lists(st.sampled_from(sorted(KNOWN)), min_size=1, max_size=4)


@given(TEXTS, STEPS)
def test_texts_are_normalised_as_by_the_engine(texts, steps):
    engine = normalizers.Sequence([getattr(normalizers, step)() for step in steps])
    assert normalise(pa.array(texts, pa.string()), engine)[0].to_pylist() == [engine.normalize_str(t) for t in texts]


@given(st.lists(st.text(max_size=9), max_size=6))
def test_a_slice_of_texts_is_normalised_by_itself(texts):
    engine = normalizers.NFKC()
    array = pa.array(["ﬁ", *texts], pa.string()).slice(1)
    assert normalise(array, engine)[0].to_pylist() == [engine.normalize_str(t) for t in texts]


@pytest.mark.parametrize(
    ("text", "before", "after"),
    [("ﬁ é. É", [0, 4, 8], [0, 3, 7]), ("a½ b", [0, 1, 4], [0, 1, 7]), ("。机ﬁ", [0, 3, 6], [0, 3, 6])],
)
def test_places_move_with_their_text(text, before, after):
    bounds = np.array([0, 0, len(before)])
    found = normalise(pa.array(["½", text]), normalizers.NFKC(), (np.array(before), bounds))[1]
    assert found.tolist() == after
