import numpy as np
import pyarrow as pa
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from pipeline.text.hashing import document_hash, unit_interval


@given(st.lists(st.text(max_size=90), min_size=1), st.integers(0, 2**64 - 1))
def test_document_hash_is_xxh64(texts: list[str], seed: int):
    hashes = document_hash(pa.array(texts, pa.string()), seed)
    assert hashes.tolist() == [xxhash.xxh64_intdigest(text.encode(), seed) for text in texts]


@given(st.integers(0, 2**64 - 1))
def test_unit_interval_never_reaches_one(value: int):
    assert 0.0 <= unit_interval(np.array([value], np.uint64))[0] < 1.0
