from __future__ import annotations

import numpy as np
import pytest

from training.finetuning.confidence import abstain


def test_the_curve_by_hand() -> None:
    found = abstain.curve(np.array([0.5, 0.9, 0.7, 0.8]), np.array([False, True, False, True]))
    assert found.threshold.tolist() == [0.9, 0.8, 0.7, 0.5]
    assert found.coverage.tolist() == [0.25, 0.5, 0.75, 1.0]
    assert found.accuracy.tolist() == pytest.approx([1, 1, 2 / 3, 1 / 2])
    assert found.area == pytest.approx((1 + 1 + 2 / 3 + 1 / 2) / 4)
    assert found.at(0.6) == (0.7, 0.75, pytest.approx(2 / 3))
    assert found.at(1.0) == (0.5, 1.0, 0.5)


def test_equal_confidences_count_as_answered_in_random_order() -> None:
    draw = np.random.default_rng(0)
    confidence = draw.choice([0.6, 0.8, 0.9], 12)
    right = draw.random(12) < 0.6
    areas = []
    for _ in range(20_000):
        order = np.lexsort((draw.random(12), -confidence))
        areas.append((right[order].cumsum() / np.arange(1, 13)).mean())
    found = abstain.curve(confidence, right)
    assert found.area == pytest.approx(np.mean(areas), abs=0.003)
    assert found.coverage[-1] == 1
    assert found.accuracy[-1] == right.mean()
