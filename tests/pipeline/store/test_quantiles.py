import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.store.quantiles import order_statistics

positive = st.floats(min_value=0, allow_nan=False, allow_infinity=True, width=32)


@given(st.lists(st.lists(positive, max_size=20), min_size=1, max_size=5).filter(any), st.data())
def test_equals_sorting_everything(batches, data):
    everything = np.sort(np.concatenate([np.array(batch, np.float32) for batch in batches]))
    ranks = data.draw(st.lists(st.integers(0, len(everything) - 1), min_size=1, max_size=4))
    arrays = [np.abs(np.array(batch, np.float32)) for batch in batches]
    assert order_statistics(lambda: arrays, ranks) == everything[ranks].astype(float).tolist()


def test_neighbours_that_differ_in_the_last_bit_are_told_apart():
    values = np.array([100.0], np.float32).view(np.uint32) + np.arange(1000, dtype=np.uint32)
    values = values.view(np.float32)
    assert (
        order_statistics(lambda: [values[::-1].copy()], [0, 499, 999]) == values[[0, 499, 999]].astype(float).tolist()
    )


@pytest.mark.parametrize("rank", [-1, 3])
def test_a_rank_outside_is_refused(rank: int):
    with pytest.raises(IndexError, match="3 values"):
        order_statistics(lambda: [np.ones(3, np.float32)], [rank])
