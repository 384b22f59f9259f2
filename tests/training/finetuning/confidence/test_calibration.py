from __future__ import annotations

import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from training.finetuning.confidence import calibration
from training.finetuning.confidence.calibration import Bin


def test_error_and_table_by_hand() -> None:
    confidence = np.array([0.6, 0.6, 0.9, 0.9])
    right = np.array([True, False, True, True])
    assert calibration.reliability(confidence, right, 2) == [Bin(2, 0.6, 0.5), Bin(2, 0.9, 1.0)]
    assert calibration.error(confidence, right, 2) == pytest.approx((2 * 0.1 + 2 * 0.1) / 4)


def test_the_bins_are_scikit_learns() -> None:
    draw = np.random.default_rng(1)
    confidence = draw.random(5_003)
    right = draw.random(5_003) < confidence**2
    accuracy, mean = calibration_curve(right, confidence, n_bins=calibration.BINS, strategy="quantile")
    found = calibration.reliability(confidence, right)
    assert [b.accuracy for b in found] == pytest.approx(accuracy)
    assert [b.confidence for b in found] == pytest.approx(mean)
    assert max(b.rows for b in found) - min(b.rows for b in found) <= 1


def test_rows_of_equal_confidence_stay_together_in_any_order() -> None:
    draw = np.random.default_rng(2)
    confidence = draw.choice([0.5, 0.7, 1.0], 300)
    right = draw.random(300) < 0.7
    order = draw.permutation(300)
    found = calibration.reliability(confidence, right)
    assert len(found) == 3
    assert found == calibration.reliability(confidence[order], right[order])


def test_chance_is_what_a_perfectly_calibrated_model_has() -> None:
    draw = np.random.default_rng(3)
    confidence = draw.uniform(0.5, 1, 600)
    errors = [calibration.error(confidence, draw.random(600) < confidence) for _ in range(200)]
    assert calibration.by_chance(confidence) == pytest.approx(np.mean(errors), rel=0.05)
    assert np.mean(errors) > 0.03  # a small sample does not show a small error


def test_the_most_probable_class_is_what_counts() -> None:
    probabilities = np.array([[0.2, 0.8], [0.7, 0.3]])
    assert calibration.confidences(probabilities).tolist() == [0.8, 0.7]
    assert calibration.is_right(probabilities, np.array([1, 1])).tolist() == [True, False]
