from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse, stats

from training.finetuning import worth_labelling


def test_the_entropy_is_scipys() -> None:
    shares = np.array([[0.5, 0.5], [1.0, 0.0], [0.2, 0.8]])
    assert worth_labelling.entropy(shares) == pytest.approx(stats.entropy(shares, axis=1))


def test_the_least_sure_first_then_the_farthest() -> None:
    angles = np.array([0.0, 0.05, 1.5, 0.7])
    features = sparse.csr_matrix(np.stack([np.cos(angles), np.sin(angles)], 1))
    first = np.array([0.5, 0.51, 0.6, 0.61])
    found = worth_labelling.choose(np.stack([first, 1 - first], 1), features, 4)
    assert found.tolist() == [0, 2, 3, 1]


def test_copies_are_not_labelled_twice() -> None:
    features = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    shares = np.array([[0.5, 0.5], [0.5, 0.5], [0.7, 0.3]])
    assert worth_labelling.choose(shares, features, 2).tolist() == [0, 2]
    assert sorted(worth_labelling.choose(shares, features, 9).tolist()) == [0, 1, 2]
