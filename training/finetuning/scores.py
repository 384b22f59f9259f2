"""Scores of a classifier, with intervals from resampling whole groups.

Documents of one group resemble each other, so groups are resampled, not documents (cluster bootstrap): intervals over
documents would be too narrow.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from training.batches import random_streams

RESAMPLES = 2_000


@dataclass(frozen=True)
class Interval:
    """A score and its central 95 % bootstrap interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Measure:
    """A score of predictions: ``value`` of ``counts`` [groups, ...] summed over the groups.

    ``value`` takes [..., *counts.shape[1:]] and gives [...]. Of the main one of a task, higher is better.
    """

    name: str
    counts: np.ndarray
    value: Callable[[np.ndarray], np.ndarray]

    @property
    def score(self) -> float:
        """Of all groups."""
        return float(self.value(self.counts.sum(0)))

    def interval(self) -> Interval:
        return interval(self.value, self.counts)


def ratio(counts: np.ndarray) -> np.ndarray:
    """The first of two counts [..., 2] as a share of the second; 0 of none."""
    return counts[..., 0] / np.where(counts[..., 1] == 0, 1, counts[..., 1])


def f1(counts: np.ndarray) -> np.ndarray:
    """F1 = 2 right / (predicted + labelled), of counts [..., (right, predicted, labelled)]; 0 where all are 0."""
    return 2 * counts[..., 0] / np.maximum(1, counts[..., 1] + counts[..., 2])


def by_group(values: np.ndarray, groups: list[str]) -> np.ndarray:
    """``values`` [rows, ...] summed over the rows of each group, in sorted order of groups: float64 [groups, ...]."""
    _, group = np.unique(np.array(groups), return_inverse=True)
    sums = np.zeros((group.max() + 1, *values.shape[1:]))
    np.add.at(sums, group, values)
    return sums


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


def matthews(counts: np.ndarray) -> np.ndarray:
    """Matthews correlation of counts [..., label, prediction], between -1 and 1; 0 where only one class is predicted.

    Of several classes Gorodkin's R_K (2004, "Comparing two K-category assignments by a K-category correlation
    coefficient"), as scikit-learn has it: the covariance of labels and predictions over the root of their variances.
    """
    counts = np.asarray(counts, np.float64)
    labelled, predicted, rows = counts.sum(-1), counts.sum(-2), counts.sum((-2, -1))
    together = np.trace(counts, axis1=-2, axis2=-1) * rows - (labelled * predicted).sum(-1)
    variances = (rows**2 - (labelled**2).sum(-1)) * (rows**2 - (predicted**2).sum(-1))
    return together / np.sqrt(np.where(variances == 0, 1, variances))


def of_classes(confusion: np.ndarray) -> list[Measure]:
    """What is said of predicted classes, of counts [groups, label, prediction]."""
    values = {"accuracy": accuracy, "macro_f1": macro_f1, "matthews": matthews}
    return [Measure(name, confusion, value) for name, value in values.items()]


def resamples(groups: np.ndarray) -> np.ndarray:
    """How often groups of each kind are drawn in each resample, where kind k is ``groups[k]`` groups that are alike.

    Float64 [RESAMPLES, kinds]; always the same. Drawing all groups and adding up those that are alike is the same
    distribution, but takes memory by groups: of a hundred thousand rows, gigabytes.
    """
    total = int(groups.sum())
    draw = random_streams.generator("bootstrap", total)
    return draw.multinomial(total, groups / total, size=RESAMPLES).astype(np.float64)


def interval(score, counts: np.ndarray, against: np.ndarray | None = None) -> Interval:
    """``score`` of ``counts`` [groups, ...] summed over groups; its lead over ``against`` where that is given."""
    sides = [counts] if against is None else [counts, against]
    rows = np.concatenate([side.reshape(len(side), -1) for side in sides], axis=1)
    kinds, times = np.unique(rows, axis=0, return_counts=True)

    def lead(weights: np.ndarray) -> np.ndarray:
        sums = (weights @ kinds).reshape(*weights.shape[:-1], len(sides), *counts.shape[1:])
        first, *second = np.moveaxis(sums, weights.ndim - 1, 0)
        return score(first) - score(second[0]) if second else score(first)

    low, high = np.quantile(lead(resamples(times)), [0.025, 0.975])
    return Interval(float(lead(times)), float(low), float(high))


@dataclass(frozen=True)
class McNemar:
    """``first`` rows that only the first model has right, ``second`` those of the second; p of their being alike."""

    first: int
    second: int
    p: float


def mcnemar(first: np.ndarray, second: np.ndarray) -> McNemar:
    """McNemar's test of two models on the same rows, of bool [n] each: which rows they have right.

    McNemar 1947. Two-sided: exact by the binomial below 25 rows that only one has right, else chi-squared with the
    correction for continuity (Edwards 1948).
    """
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    differ = only_first + only_second
    if differ < 25:
        p = float(stats.binomtest(only_first, differ).pvalue) if differ else 1.0
    else:
        p = float(stats.chi2.sf(max(0, abs(only_first - only_second) - 1) ** 2 / differ, 1))
    return McNemar(only_first, only_second, p)


@dataclass(frozen=True)
class OverSeeds:
    """A score over runs that differ in the seed alone: mean and sample deviation (0 of one run)."""

    mean: float
    deviation: float
    runs: int


def over_seeds(values: Sequence[float]) -> OverSeeds:
    """Mean and deviation (with n - 1) of at least one value."""
    return OverSeeds(float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else 0.0, len(values))
