from __future__ import annotations

import numpy as np
import pytest

from training.finetuning.confidence import temperature


def drawn(t: float, rows: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and labels that are drawn from softmax(logits / t)."""
    draw = np.random.default_rng(0)
    logits = draw.normal(size=(rows, 4)) * 3
    cumulative = temperature.probabilities(logits, t).cumsum(1)
    return logits, (draw.random((rows, 1)) > cumulative).sum(1)


@pytest.mark.parametrize("t", [0.4, 1.0, 3.0])
def test_the_temperature_that_made_the_labels_is_found(t: float) -> None:
    logits, labels = drawn(t)
    assert temperature.fit(logits, labels) == pytest.approx(t, rel=0.05)


def test_it_is_the_least_likelihood_of_a_fine_grid() -> None:
    logits, labels = drawn(2.0, 500)
    grid = np.geomspace(temperature.LEAST, temperature.MOST, 2_000)
    best = min(temperature.negative_log_likelihood(logits / t, labels) for t in grid)
    found = temperature.negative_log_likelihood(logits / temperature.fit(logits, labels), labels)
    assert found <= best + 1e-9


def test_no_prediction_changes_and_a_perfect_model_stays_finite() -> None:
    logits, labels = drawn(2.0, 500)
    scaled = temperature.probabilities(logits, temperature.fit(logits, labels))
    assert (scaled.argmax(1) == logits.argmax(1)).all()
    assert temperature.fit(logits, logits.argmax(1)) == pytest.approx(temperature.LEAST, rel=1e-2)


def test_two_classes_by_hand() -> None:
    # three of four right at logit difference 2: softmax(2 / T) = 3/4, T = 2 / ln 3
    logits = np.array([[2.0, 0.0]] * 4)
    assert temperature.fit(logits, np.array([0, 0, 0, 1])) == pytest.approx(2 / np.log(3), rel=1e-4)
