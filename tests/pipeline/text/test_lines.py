"""Lines found sixteen bytes at a time, beside Python's own search."""

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from pipeline.text import lines

PARTS = st.sampled_from([
    "\n", "\r", "\r\n", "\x0b", "\x1c", "\x1e", "\x1f", "\x85", "\u2028", "\u2029", "\u2030", "Â", "â", "é", "Ж", "猫",
    "🙂", "a" * 15, "b" * 16, "words and spaces", "",
])  # fmt: skip
TEXTS = st.lists(PARTS | st.text(max_size=5), max_size=20).map("".join)


@given(st.lists(TEXTS, max_size=4))
def test_lines_are_those_of_splitlines(texts: list[str]):
    first, found = lines.split(pa.array(texts, pa.string()))
    expected = [text.splitlines(keepends=True) for text in texts]
    assert found.to_pylist() == [line for text in expected for line in text]
    assert np.diff(first).tolist() == [len(text) for text in expected]


@given(TEXTS, st.sampled_from(b"\n[a "), st.integers(0, 40), st.integers(0, 40))
def test_a_byte_is_met_first_where_python_meets_it(text: str, byte: int, start: int, size: int):
    data = text.encode()
    start, end = min(start, len(data)), min(start + size, len(data))
    place = data.find(byte, start, end)
    assert lines.find_byte(np.frombuffer(data, np.uint8), start, end, byte) == (end if place < 0 else place)
