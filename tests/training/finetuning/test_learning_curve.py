from __future__ import annotations

import numpy as np
import pytest

from training.finetuning import learning_curve
from training.finetuning.rungs import classical
from training.finetuning.rungs.base import Examples


def rights_of(exponent: float, test: int, seed: int = 0) -> tuple[list[int], list[list[np.ndarray]]]:
    """Right answers of models whose error is 2 n^-exponent."""
    draw = np.random.default_rng(seed)
    sizes = [16, 32, 64, 128, 256, 400]
    draws = [5] * 5 + [1]
    error = [2 * n**-exponent for n in sizes]
    return sizes, [
        [draw.random(test) >= wrong for _ in range(count)] for wrong, count in zip(error, draws, strict=True)
    ]


def test_a_power_law_and_what_more_labels_bring_are_found() -> None:
    sizes, rights = rights_of(0.5, 6_000)
    found = learning_curve.of_rights(sizes, rights, [str(row) for row in range(6_000)], 2)
    assert found.exponent == pytest.approx(0.5, abs=0.05)
    true = 2 * 400**-0.5 - 2 * 500**-0.5
    assert found.gain is not None
    assert found.gain.value == pytest.approx(true, rel=0.15)
    assert found.gain.low < true < found.gain.high
    assert [point.a_class for point in found.points] == [size / 2 for size in sizes]


@pytest.mark.slow
def test_the_interval_of_the_gain_holds_the_truth_as_often_as_it_says() -> None:
    true, held = 2 * 400**-0.5 - 2 * 500**-0.5, 0
    for seed in range(40):
        sizes, rights = rights_of(0.5, 300, seed)
        gain = learning_curve.of_rights(sizes, rights, [str(row) for row in range(300)], 2).gain
        assert gain is not None
        held += gain.low <= true <= gain.high
    assert held >= 34  # 95 % of 40 is 38, with a deviation of 1.4


def test_the_curve_of_a_rung_rises_and_ends_at_all_rows() -> None:
    draw = np.random.default_rng(0)

    def rows(count: int) -> Examples:
        labels = draw.integers(0, 2, count)
        texts = [" ".join(f"w{label * 25 + n}" for n in draw.integers(0, 40, 4)) for label in labels.tolist()]
        return Examples(texts, labels, [str(row) for row in range(count)])

    found = learning_curve.curve(classical.tf_idf, rows(330), rows(100), rows(400), 2)
    assert [point.labels for point in found.points] == [16, 32, 64, 128, 256, 330]
    assert found.points[-1].accuracy.value > found.points[0].accuracy.value
    assert all(point.accuracy.low <= point.accuracy.value <= point.accuracy.high for point in found.points)


def test_few_rows_give_points_but_no_law() -> None:
    rows = Examples(["a", "b"] * 11, np.array([0, 1] * 11), [str(row) for row in range(22)])
    found = learning_curve.curve(classical.majority, rows, rows, rows, 2)
    assert [point.labels for point in found.points] == [16, 22]
    assert found.gain is None
