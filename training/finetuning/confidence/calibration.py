"""Calibration: of the predictions made with confidence p, is the share p right?

Expected calibration error of Naeini et al. 2015 in bins of equal mass (Nguyen and O'Connor 2015), so that no bin rests
on a few rows. A perfectly calibrated model has an error above 0, too, because each bin is a sample: ``by_chance`` says
how large it is for the same confidences.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from training.batches import random_streams

BINS = 15
_DRAWS = 200


@dataclass(frozen=True)
class Bin:
    """Predictions of like confidence: how many, their mean confidence, and the share that is right."""

    rows: int
    confidence: float
    accuracy: float


def confidences(probabilities: np.ndarray) -> np.ndarray:
    """Probability of the predicted class, [n]."""
    return probabilities.max(1)


def is_right(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Whether the most probable class is the label, bool [n]."""
    return probabilities.argmax(1) == labels


def reliability(confidence: np.ndarray, right: np.ndarray, bins: int = BINS) -> list[Bin]:
    """The reliability table: at most ``bins`` bins of equal mass in order of confidence.

    ``confidence`` float [n], ``right`` bool [n]. Equal confidences stay in one bin, so the table does not depend on the
    order of the rows; an empty bin is left out.
    """
    place = _places(confidence, bins)
    rows = np.bincount(place, minlength=bins)
    sure, good = (np.bincount(place, weights, bins) for weights in (confidence, right.astype(np.float64)))
    return [Bin(int(n), float(c / n), float(a / n)) for n, c, a in zip(rows, sure, good, strict=True) if n]


def error(confidence: np.ndarray, right: np.ndarray, bins: int = BINS) -> float:
    """Expected calibration error: mean over rows of |accuracy - mean confidence| of the row's bin."""
    return sum(b.rows * abs(b.accuracy - b.confidence) for b in reliability(confidence, right, bins)) / len(right)


def by_chance(confidence: np.ndarray, bins: int = BINS) -> float:
    """Mean error of a model whose predictions are right with exactly these probabilities (200 fixed draws)."""
    place = _places(confidence, bins)
    draw = random_streams.generator("calibration", len(confidence))
    rights = draw.random((_DRAWS, len(confidence))) < confidence
    excess = [np.abs(np.bincount(place, right - confidence, bins)).sum() for right in rights]
    return float(np.mean(excess) / len(confidence))


def _places(confidence: np.ndarray, bins: int) -> np.ndarray:
    """The bin of each row, by quantiles of all."""
    edges = np.quantile(confidence, np.arange(1, bins) / bins)
    return np.searchsorted(edges, confidence)
