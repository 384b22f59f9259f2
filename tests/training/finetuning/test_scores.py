from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import matthews_corrcoef

from training.finetuning import scores


def test_accuracy_and_macro_f1_by_hand() -> None:
    counts = np.array([[3, 1, 0], [0, 2, 0], [1, 1, 0]])
    assert scores.accuracy(counts) == pytest.approx(5 / 8)
    # F1 = 2 TP / (labelled + predicted): 6 / (4 + 4), 4 / (2 + 4), 0 / (2 + 0)
    assert scores.macro_f1(counts) == pytest.approx((6 / 8 + 4 / 6 + 0) / 3)


def test_the_matthews_correlation_is_scikit_learns() -> None:
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 3, 60)
    guesses = {"drawn": draw.integers(0, 3, 60), "right": labels, "wrong": (labels + 1) % 3, "one": np.ones(60, int)}
    counts = np.stack([scores.confusion(labels, guess, ["all"] * 60, 3)[0] for guess in guesses.values()])
    expected = [matthews_corrcoef(labels, guess) for guess in guesses.values()]
    assert scores.matthews(counts) == pytest.approx(expected)
    assert scores.matthews(counts[:, None])[1, 0] == 1
    assert expected[3] == 0


def test_the_confusion_keeps_groups_apart() -> None:
    found = scores.confusion(np.array([0, 1, 1]), np.array([0, 0, 1]), ["b", "a", "b"], 2)
    assert found.tolist() == [[[0, 0], [1, 0]], [[1, 0], [0, 1]]]


def test_the_interval_of_a_mean_is_that_of_theory() -> None:
    draw = np.random.default_rng(0)
    right = draw.random(2000) < 0.7
    labels = np.zeros(2000, np.int64)
    counts = scores.confusion(labels, (~right).astype(np.int64), [str(row) for row in range(2000)], 2)
    found = scores.interval(scores.accuracy, counts)
    error = 1.96 * np.sqrt(0.7 * 0.3 / 2000)
    assert found.value == right.mean()
    assert (found.low, found.high) == pytest.approx((right.mean() - error, right.mean() + error), abs=0.003)


def test_documents_of_one_group_widen_the_interval() -> None:
    draw = np.random.default_rng(0)
    predicted = np.repeat((draw.random(50) < 0.3).astype(np.int64), 40)
    labels = np.zeros(2000, np.int64)
    apart, together = (
        scores.interval(scores.accuracy, scores.confusion(labels, predicted, groups, 2))
        for groups in ([str(n) for n in range(2000)], [str(n // 40) for n in range(2000)])
    )
    assert together.high - together.low > 3 * (apart.high - apart.low)


def test_the_lead_over_oneself_is_nothing() -> None:
    counts = np.random.default_rng(0).integers(0, 5, (30, 3, 3))
    assert scores.interval(scores.macro_f1, counts, counts) == scores.Interval(0.0, 0.0, 0.0)


def test_mcnemar_by_hand() -> None:
    def pair(first: int, second: int, both: int) -> tuple[np.ndarray, np.ndarray]:
        return (
            np.array([True] * first + [False] * second + [True] * both),
            np.array([False] * first + [True] * second + [True] * both),
        )

    # exact: 2 (C(10,0) + C(10,1) + C(10,2)) / 2^10 = 112 / 1024
    found = scores.mcnemar(*pair(2, 8, 5))
    assert (found.first, found.second, found.p) == (2, 8, pytest.approx(112 / 1024))
    # (|30 - 15| - 1)^2 / 45 = 4.3556, p of chi-squared with one degree of freedom
    assert scores.mcnemar(*pair(30, 15, 5)).p == pytest.approx(0.03689, abs=1e-4)
    assert scores.mcnemar(*pair(0, 0, 5)).p == 1
    assert scores.mcnemar(*pair(20, 20, 0)).p == 1


def test_mean_and_deviation_over_seeds() -> None:
    found = scores.over_seeds([0.7, 0.8, 0.9])
    assert (found.mean, found.deviation, found.runs) == (pytest.approx(0.8), pytest.approx(0.1), 3)
    assert scores.over_seeds([0.7]) == scores.OverSeeds(0.7, 0.0, 1)


def test_many_rows_need_no_memory_by_rows() -> None:
    labels = np.arange(400_000) % 2
    counts = scores.confusion(labels, np.zeros_like(labels), [str(n) for n in range(400_000)], 2)
    found = scores.interval(scores.accuracy, counts)
    assert found.value == 0.5
    assert found.high - found.low == pytest.approx(2 * 1.96 * 0.5 / np.sqrt(400_000), rel=0.1)
