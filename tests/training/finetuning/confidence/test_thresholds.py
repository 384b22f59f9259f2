from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import f1_score, precision_recall_curve

from training.finetuning.confidence import thresholds


def test_by_hand() -> None:
    probability = np.array([[0.9], [0.6], [0.4], [0.1]])
    label = np.array([[True], [True], [False], [False]])
    assert thresholds.fit(probability, label) == pytest.approx([0.5])


def test_the_f1_is_the_largest_of_scikit_learns_curve() -> None:
    draw = np.random.default_rng(0)
    label = draw.random((400, 3)) < [0.1, 0.4, 0.02]
    probability = np.round(np.clip(draw.random((400, 3)) + 0.4 * label, 0, 1), 2)  # many are equal
    found = thresholds.fit(probability, label)
    predicted = probability >= found
    for k in range(3):
        assert thresholds.f1(predicted, label)[k] == pytest.approx(f1_score(label[:, k], predicted[:, k]))
        precision, recall, _ = precision_recall_curve(label[:, k], probability[:, k])
        best = (2 * precision * recall / np.maximum(precision + recall, 1e-12)).max()
        assert thresholds.f1(predicted, label)[k] == pytest.approx(best)


def test_a_class_that_no_row_has_keeps_the_default() -> None:
    assert thresholds.fit(np.array([[0.9], [0.2]]), np.zeros((2, 1), bool)).tolist() == [thresholds.DEFAULT]
