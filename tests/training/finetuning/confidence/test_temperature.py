from __future__ import annotations

import numpy as np
import pytest

from training.finetuning.confidence import calibration, temperature


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


def partly_wrong(rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Logits of temperature 0.8, and labels of which 8 % are drawn evenly."""
    logits, labels = drawn(0.8, rows)
    draw = np.random.default_rng(1)
    return logits, np.where(draw.random(rows) < 0.08, draw.integers(0, 4, rows), labels)


def test_where_some_labels_are_wrong_confidence_is_true_and_no_prediction_changes() -> None:
    logits, labels = partly_wrong(23_000)
    found = temperature.fit_scaling(logits[:3_000], labels[:3_000])
    assert found.spread or found.curve
    logits, labels = logits[3_000:], labels[3_000:]
    shares = temperature.probabilities(logits, *found)
    assert (shares.argmax(1) == logits.argmax(1)).all()
    plain = temperature.probabilities(logits, temperature.fit(logits, labels))
    right = calibration.is_right(shares, labels)
    before, after = (calibration.error(calibration.confidences(each), right) for each in (plain, shares))
    assert after < 0.02 < before


def test_where_some_labels_are_wrong_their_share_is_spread() -> None:
    logits, labels = partly_wrong(3_000)
    found = temperature.fit_spread(logits, labels)
    assert found.spread == pytest.approx(0.08, abs=0.015)
    assert found.temperature == pytest.approx(0.8, rel=0.1)
    shares = temperature.probabilities(logits, *found)
    assert shares.sum(1) == pytest.approx(np.ones(3_000))
    assert (shares.argmax(1) == logits.argmax(1)).all()
    loss = -np.log(shares[np.arange(3_000), labels]).mean()
    for spread in np.linspace(0, temperature.MOST_SPREAD, 21):
        for t in np.geomspace(0.3, 3, 60):
            other = temperature.probabilities(logits, t, spread)[np.arange(3_000), labels]
            assert loss <= -np.log(other).mean() + 1e-7


def test_of_few_rows_the_temperature_alone_is_fitted() -> None:
    logits, labels = drawn(2.0, temperature.FEWEST - 1)
    labels[:5] = (labels[:5] + 1) % 4
    assert temperature.fit_scaling(logits, labels) == (temperature.fit(logits, labels), 0.0, ())


def test_where_confidence_is_no_function_of_a_temperature_a_curve_makes_it_true() -> None:
    """Logits that lie near two values, as a small encoder's, and a step in how often they are right."""
    draw = np.random.default_rng(3)
    lead = draw.normal(np.where(draw.random(22_000) < 0.5, 2.0, -2.0), 0.4)
    right = draw.random(22_000) < np.where(abs(lead) < 2, 0.7, 0.95)
    logits, labels = np.stack([-lead / 2, lead / 2], 1), np.where(right, lead > 0, lead <= 0).astype(np.int64)
    found = temperature.fit_scaling(logits[:2_000], labels[:2_000])
    assert found.curve
    plain, mapped = (
        temperature.probabilities(logits[2_000:], *scaling) for scaling in (found._replace(curve=()), found)
    )
    assert mapped.sum(1) == pytest.approx(np.ones(20_000))
    assert (mapped.argmax(1) == plain.argmax(1)).all()
    before, after = (calibration.error(shares.max(1), right[2_000:]) for shares in (plain, mapped))
    assert after < 0.03 < before


def steps_in_sureness(seed: int, rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits, labels, and whether the answer is right: its lead lies near two values, and of wrong answers the label is
    mostly the second most likely."""
    draw, each = np.random.default_rng(seed), np.arange(rows)
    lead = draw.normal(np.where(draw.random(rows) < 0.5, 3.0, 1.0), 0.3)
    logits = draw.normal(0, 4.0, (rows, 4))
    order = logits.argsort(1)
    answer, second, third = order[:, -1], order[:, -2], order[:, -3]
    logits[each, answer] = logits[each, second] + abs(lead)
    right = draw.random(rows) < np.where(lead < 2, 0.72, 0.93)
    return logits, np.where(right, answer, np.where(draw.random(rows) < 0.8, second, third)), right


def test_the_scaling_is_chosen_by_the_confidence_in_the_answer_and_not_by_what_else_is_likely() -> None:
    curves, own, shared = 0, [], []
    for seed in range(8):
        logits, labels, right = steps_in_sureness(seed, 21_000)
        found = temperature.fit_scaling(logits[:1_000], labels[:1_000])
        curves += bool(found.curve)
        for errors, scaling in ((own, found), (shared, temperature.fit_spread(logits[:1_000], labels[:1_000]))):
            sure = temperature.probabilities(logits[1_000:], *scaling).max(1)
            errors.append(calibration.error(sure, right[1_000:]))
    assert curves >= 6  # the likelihood of all labels takes it in less than half
    assert np.mean(own) < np.mean(shared)


def test_where_a_temperature_made_the_labels_there_is_no_curve() -> None:
    assert not temperature.fit_scaling(*drawn(2.0, 2_000)).curve
