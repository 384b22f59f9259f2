from __future__ import annotations

import numpy as np
import pytest

from pipeline import MillError
from training.finetuning.confidence import costs


def test_costs_stand_by_label_and_answer() -> None:
    found = costs.matrix({"spam": {"ham": 0.5}, "ham": {"spam": 20}}, ["ham", "scam", "spam"])
    assert found.tolist() == [[0, 1, 20], [1, 0, 1], [0.5, 1, 0]]
    with pytest.raises(MillError, match="'spm', which no row has"):
        costs.matrix({"spm": {"ham": 1}}, ["ham", "spam"])


def test_no_other_threshold_costs_less() -> None:
    draw = np.random.default_rng(0)
    for _ in range(20):
        second = np.round(draw.random(40), 1)
        shares = np.stack([1 - second, second], 1)
        labels = (second + draw.normal(0, 0.3, 40) > 0.5).astype(np.int64)
        cost = np.array([[0, draw.integers(1, 9)], [draw.integers(1, 9), 0]], np.float64)

        def total(limit: float, shares=shares, labels=labels, cost=cost) -> float:
            return cost[labels, costs.decide(shares, cost, limit)].sum()

        found = costs.threshold(shares, labels, cost)
        assert total(found) == min(total(limit) for limit in np.arange(-0.05, 1.1, 0.1))


def test_of_equal_costs_the_threshold_is_that_of_calibrated_probabilities() -> None:
    shares = np.array([[0.99, 0.01], [0.9, 0.1], [0.2, 0.8], [0.1, 0.9]])
    labels = np.array([0, 0, 0, 1])
    dear = np.array([[0.0, 4.0], [1.0, 0.0]])
    assert costs.threshold(shares, labels, dear) == pytest.approx(0.85)
    assert costs.threshold(shares[[0, 3]], labels[[0, 3]], dear) == pytest.approx((0.01 + 0.9) / 2)


def test_of_more_classes_the_least_expected_cost_is_answered() -> None:
    cost = np.array([[0, 1, 1], [1, 0, 1], [10, 10, 0.0]])
    shares = np.array([[0.8, 0.1, 0.1], [0.9, 0.05, 0.05]])
    # the first: answering 0 costs .1 + 1, 1 costs .8 + 1, 2 costs .9; the second: .05 + .5 against .95
    assert costs.decide(shares, cost).tolist() == [2, 0]
    assert costs.decide(shares, 1 - np.eye(3)).tolist() == [0, 0]
