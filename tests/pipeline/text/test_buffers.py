"""The buffers that the kernels read."""

import numpy as np
import pyarrow as pa
import pytest

from pipeline.text.buffers import string_array, text_buffers

ARRAYS = {
    "made by Arrow": pa.array(["one", "", None, "zwei ☃"]),
    "a slice": pa.array(["before", "one", "", None, "zwei ☃", "after"]).slice(1, 4),
    "large": pa.array(["one", "", None, "zwei ☃"], pa.large_string()),
    "made of numpy": string_array(np.frombuffer("onezwei ☃".encode(), np.uint8).copy(), np.array([0, 3, 3, 3, 11])),
}


@pytest.mark.parametrize("texts", ARRAYS.values(), ids=list(ARRAYS))
def test_every_text_is_where_its_offsets_say_and_cannot_be_written_to(texts):
    data, offsets = text_buffers(texts)
    found = [bytes(data[offsets[k] : offsets[k + 1]]).decode() for k in range(len(texts))]
    assert found == ["one", "", "", "zwei ☃"]
    assert not data.flags.writeable, "a kernel would be compiled once more for it"


@pytest.mark.parametrize("texts", [pa.array([], pa.string()), pa.nulls(2, pa.string()), pa.array(["", ""])])
def test_no_text_at_all_is_the_same_kind_of_array(texts):
    data, offsets = text_buffers(texts)
    assert data.dtype == np.uint8
    assert not data.flags.writeable
    assert offsets.tolist() == [0] * (len(texts) + 1)
