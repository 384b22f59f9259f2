"""What more labels would bring: accuracy at 8, 16, 32, ... labels a class, and a power law through the errors.

Error falls about as a power of the number of labels (Hestness et al. 2017): log error is a line over log labels. The
line is fitted to the larger sizes, as the small ones are near guessing, and resampled with the test rows and the draws.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from training.batches import random_streams
from training.finetuning import deadline, scores
from training.finetuning.rungs.base import Examples, Fit
from training.finetuning.scores import Interval

FIRST, DRAWS, MORE = 8, 5, 100
_POINTS = 4  # of the largest, that the line goes through
_MOST_TEST = 4_000
_APART = 1.25  # the last size is at most so near to all rows, which are a point of their own


@dataclass(frozen=True)
class Point:
    """``labels`` training rows, on average ``a_class`` of each class; the interval is that of one such draw."""

    labels: int
    a_class: float
    accuracy: Interval


@dataclass(frozen=True)
class Curve:
    """``gain`` is the accuracy that ``MORE`` labels beyond all there are would add; None with fewer than 3 points."""

    points: list[Point]
    exponent: float | None
    gain: Interval | None


def curve(fit: Fit, train: Examples, dev: Examples, test: Examples, classes: int) -> Curve:
    """The curve of one rung: DRAWS random draws of each size, and all rows at the end.

    The development rows that settings are chosen by are as few as the training rows. At most _MOST_TEST test rows.
    Raises OutOfTime where another fit would end after a deadline.
    """
    draw = random_streams.generator("learning curve", len(train))
    if len(test) > _MOST_TEST:
        test = test.take(np.sort(draw.permutation(len(test))[:_MOST_TEST]))
    sizes = [size for size in (FIRST * 2**power * classes for power in range(32)) if size * _APART < len(train)]
    orders = [draw.permutation(len(train)) for _ in range(DRAWS)]
    chosen_by = dev.take(draw.permutation(len(dev)))
    rights: list[list[np.ndarray]] = []
    a_row = 0.0  # seconds, in the fit before
    for size in [*sizes, len(train)]:
        draws = orders if size < len(train) else orders[:1]
        few = chosen_by.take(np.arange(min(size, len(dev))))
        rights.append([])
        for order in draws:
            deadline.check(a_row * size)
            begun = time.perf_counter()
            rights[-1].append(_right(fit, train.take(np.sort(order[:size])), few, test, classes))
            a_row = (time.perf_counter() - begun) / size
    return of_rights([*sizes, len(train)], rights, test.groups, classes)


def _right(fit: Fit, train: Examples, dev: Examples, test: Examples, classes: int) -> np.ndarray:
    return fit(train, dev, classes).predict_proba(test.texts).argmax(1) == test.labels


def of_rights(sizes: list[int], rights: list[list[np.ndarray]], groups: list[str], classes: int) -> Curve:
    """The curve of which test rows, bool [n], were right at each of ``sizes`` in each draw."""
    rows = [right for draws in rights for right in draws]
    _, group = np.unique(np.array(groups), return_inverse=True)
    total = np.bincount(group)
    counts = np.stack([np.bincount(group, right, len(total)) for right in rows], 1)
    weights = scores.resamples(np.ones(len(total)))
    resampled = (weights @ counts) / (weights @ total)[:, None]
    ends = np.cumsum([len(draws) for draws in rights])
    by_size = np.split(resampled, ends[:-1], axis=1)
    means = np.array([np.mean([right.mean() for right in draws]) for draws in rights])
    points = [
        Point(size, size / classes, Interval(float(mean), *map(float, np.quantile(sample, [0.025, 0.975]))))
        for size, mean, sample in zip(sizes, means, by_size, strict=True)
    ]
    if len(sizes) < 3:
        return Curve(points, None, None)
    floor = 0.5 / len(groups)
    drawn = np.stack([_mean_of_drawn(sample) for sample in by_size])
    n = np.array(sizes[-_POINTS:], np.float64)
    slope, gain = _power_law(n, np.maximum(1 - means[-_POINTS:, None], floor))
    _, gains = _power_law(n, np.maximum(1 - drawn[-_POINTS:], floor))
    low, high = np.quantile(gains, [0.025, 0.975])
    return Curve(points, float(-slope[0]), Interval(float(gain[0]), float(low), float(high)))


def _mean_of_drawn(sample: np.ndarray) -> np.ndarray:
    """Mean over draws that are drawn with replacement, [resamples], of [resamples, draws]."""
    resamples, draws = sample.shape
    taken = random_streams.generator("draws", draws).integers(0, draws, (resamples, draws))
    return np.take_along_axis(sample, taken, 1).mean(1)


def _power_law(n: np.ndarray, error: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Slopes of log error [sizes, k] over log ``n``, and by how much MORE labels beyond the last lower the error."""
    x = np.log(n) - np.log(n).mean()
    y = np.log(error)
    slope = (x[:, None] * y).sum(0) / (x**2).sum()
    last, beyond = (np.exp(y.mean(0) + slope * (np.log(size) - np.log(n).mean())) for size in (n[-1], n[-1] + MORE))
    return slope, last - beyond
