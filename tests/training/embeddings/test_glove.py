from __future__ import annotations

import numpy as np

from training.batches import cooccurrences
from training.embeddings import glove


def test_training_recovers_the_logarithms_of_a_low_rank_table() -> None:
    draw = np.random.default_rng(1)
    size = 30
    truth = draw.normal(size=(size, 4)) @ draw.normal(size=(4, size)) * 0.5 + 3
    i, j = (part.ravel().astype(np.int32) for part in np.indices((size, size)))
    _, losses = glove.train(i, j, np.exp(truth).ravel(), size, 8, 120, 0.1, seed=2)
    spread = float(np.var(truth))
    assert losses[0] > losses[-1]
    assert losses[-1] < 0.01 * spread  # a constant would leave the whole variance


def test_the_same_seed_gives_the_same_vectors_and_another_does_not() -> None:
    places = np.array([0, 1, 2, 3, 0, 2, 1] * 5, np.int32)
    i, j, x = cooccurrences.count([(places, np.arange(0, 36, 7))], 4, 3)
    one, two, other = (glove.train(i, j, x, 4, 6, 3, 0.05, seed)[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, two)
    assert not np.allclose(one, other)
