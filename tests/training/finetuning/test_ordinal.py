from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, cohen_kappa_score

from training.finetuning import ordinal


def test_measures_are_those_of_scikit_learn() -> None:
    draw = np.random.default_rng(0)
    stars = np.array([1.0, 2, 3, 5, 10])
    true = draw.choice(stars, 300)
    predicted = true + draw.normal(size=300) * 2
    groups = [f"g{at}" for at in draw.integers(0, 40, 300)]
    found = {measure.name: measure for measure in ordinal.measures(predicted, true, stars, groups)}
    rounded = np.array([min(stars, key=lambda star: (abs(star - value), star)) for value in predicted])
    assert found["accuracy"].score == pytest.approx(accuracy_score(true, rounded))
    assert found["quadratic_kappa"].score == pytest.approx(cohen_kappa_score(true, rounded, weights="quadratic"))
    apart = np.abs(np.searchsorted(stars, rounded) - np.searchsorted(stars, true))
    assert found["off_by_one"].score == pytest.approx((apart <= 1).mean())
    for measure in found.values():
        interval = measure.interval()
        assert interval.low < interval.value < interval.high


def test_the_nearest_class_is_the_lower_of_two_and_never_outside() -> None:
    assert ordinal.nearest(np.array([-9, 1.5, 1.51, 2.5, 99]), np.array([1.0, 2, 3])).tolist() == [0, 0, 1, 1, 2]


def test_kappa_of_one_class_is_no_division_by_zero() -> None:
    counts = np.zeros((3, 3))
    counts[1, 1] = 5
    assert ordinal.quadratic_kappa(counts) == 0
    assert ordinal.quadratic_kappa(np.zeros((3, 3))) == 0
    assert ordinal.quadratic_kappa(np.diag([2, 3, 4])) == 1


@pytest.mark.parametrize(
    ("scores", "found"),
    [
        ([[1, 2, 3], [2]], [1, 2, 3]),
        ([[1, 2], [2, 1]], None),  # a yes or no has no order
        ([[1, 2, 2.5]], None),
        ([list(range(21))], None),
        ([list(range(20))], list(range(20))),
    ],
)
def test_few_whole_numbers_are_classes(scores: list[list[float]], found: list[float] | None) -> None:
    classes = ordinal.classes(np.array(part, np.float64) for part in scores)
    assert (None if classes is None else classes.tolist()) == found
