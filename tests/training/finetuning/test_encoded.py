from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from training.finetuning.encoded import Encoded, Order


def test_batches_are_padded_as_the_model_pads() -> None:
    data = Encoded(
        [np.array([5, 6, 7]), np.array([8])],
        [np.array([0, 0, 1]), np.array([0])],
        np.arange(2),
        {"labels": [np.array(1), np.array(0)], "tags": [np.array([1, -100, 2]), np.array([3])]},
        pad=259,
    )
    made = data.arrays(np.array([0, 1]))
    assert made["tokens"].tolist() == [[5, 6, 7], [8, 259, 259]]
    assert made["mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert made["types"].tolist() == [[0, 0, 1], [0, 0, 0]]
    assert made["labels"].tolist() == [1, 0]
    assert made["tags"].tolist() == [[1, -100, 2], [3, -100, -100]]


@given(st.lists(st.integers(1, 500), min_size=1, max_size=300), st.integers(1, 7), st.integers(0, 3))
def test_an_epoch_reads_every_example_once_and_is_a_function_of_seed_and_step(
    lengths: list[int], batch_size: int, epoch: int
) -> None:
    order = Order(np.array(lengths), batch_size, seed=1)
    steps = range(epoch * order.steps_per_epoch, (epoch + 1) * order.steps_per_epoch)
    read = [order.rows(step) for step in steps]
    assert sorted(np.concatenate(read)) == list(range(len(lengths)))
    assert sum(len(rows) < batch_size for rows in read) <= 1
    again = Order(np.array(lengths), batch_size, seed=1)
    assert [rows.tolist() for rows in reversed([again.rows(step) for step in reversed(steps)])] == [
        rows.tolist() for rows in read
    ]


def test_epochs_and_seeds_differ_and_batches_hardly_pad() -> None:
    lengths = np.random.default_rng(0).integers(10, 500, 2_000)
    order = Order(lengths, 16, seed=1)
    first, second = order.rows(0), order.rows(order.steps_per_epoch)
    assert first.tolist() != second.tolist() != Order(lengths, 16, seed=2).rows(0).tolist()
    padded = sum(lengths[order.rows(step)].max() * len(order.rows(step)) for step in range(order.steps_per_epoch))
    assert padded / lengths.sum() < 1.12  # lengths within a tenth count as equal; unsorted it is nearly 1.9
