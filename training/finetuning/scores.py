"""Scores of a classifier, with intervals from resampling whole groups.

Documents of one group resemble each other, so groups are resampled, not documents (cluster bootstrap): intervals over
documents would be too narrow.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from training.batches import random_streams

RESAMPLES = 2_000


@dataclass(frozen=True)
class Interval:
    """A score and its central 95 % bootstrap interval."""

    value: float
    low: float
    high: float


def confusion(labels: np.ndarray, predicted: np.ndarray, groups: list[str], classes: int) -> np.ndarray:
    """Counts [groups, label, prediction], int64; groups in sorted order."""
    _, group = np.unique(np.array(groups), return_inverse=True)
    counts = np.zeros((group.max() + 1, classes, classes), np.int64)
    np.add.at(counts, (group, labels, predicted), 1)
    return counts


def accuracy(counts: np.ndarray) -> np.ndarray:
    """Share of right predictions, of confusion counts [..., label, prediction]."""
    return np.trace(counts, axis1=-2, axis2=-1) / np.maximum(1, counts.sum((-2, -1)))


def macro_f1(counts: np.ndarray) -> np.ndarray:
    """Mean over classes of F1 = 2 TP / (labelled + predicted), of counts [..., label, prediction].

    A class that is neither labelled nor predicted is left out of the mean.
    """
    right = np.diagonal(counts, axis1=-2, axis2=-1)
    either = counts.sum(-1) + counts.sum(-2)
    f1 = 2 * right / np.maximum(1, either)
    return f1.sum(-1) / np.maximum(1, (either > 0).sum(-1))


def resamples(groups: int) -> np.ndarray:
    """How often each group is drawn in each resample: float64 [RESAMPLES, groups]; always the same."""
    draw = random_streams.generator("bootstrap", groups)
    return draw.multinomial(groups, np.full(groups, 1 / groups), size=RESAMPLES).astype(np.float64)


def interval(score, counts: np.ndarray, against: np.ndarray | None = None) -> Interval:
    """``score`` of confusion counts [groups, label, prediction]; its lead over ``against`` where that is given."""
    drawn = resamples(len(counts))

    def lead(weights: np.ndarray) -> np.ndarray:
        mine = score(np.tensordot(weights, counts, 1))
        return mine if against is None else mine - score(np.tensordot(weights, against, 1))

    low, high = np.quantile(lead(drawn), [0.025, 0.975])
    return Interval(float(lead(np.ones(len(counts)))), float(low), float(high))
