"""How predicted numbers go with true ones: Pearson's and Spearman's correlation and the mean error, with intervals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from training.batches import random_streams
from training.finetuning import scores
from training.finetuning.scores import RESAMPLES, Interval, Measure

#: Most weights of rows that are held at once.
_HELD = 4_000_000


@dataclass(frozen=True)
class OfRows(Measure):
    """A score that no sums over groups determine: ``value`` takes how often each row counts, float64 [..., rows].

    ``counts`` is float64 [1, rows] of ones; ``group`` int64 [rows] is the group of each row.
    """

    group: np.ndarray

    def interval(self) -> Interval:
        groups = int(self.group.max()) + 1
        draw = random_streams.generator("bootstrap", groups)
        at_once = max(1, _HELD // len(self.group))
        drawn = []
        for start in range(0, RESAMPLES, at_once):
            size = min(at_once, RESAMPLES - start)
            weights = draw.multinomial(groups, np.full(groups, 1 / groups), size=size)
            drawn.append(self.value(weights[:, self.group].astype(np.float64)))
        low, high = np.quantile(np.concatenate(drawn), [0.025, 0.975])
        return Interval(self.score, float(low), float(high))


def measures(predicted: np.ndarray, true: np.ndarray, groups: list[str]) -> list[Measure]:
    """Spearman's and Pearson's correlation and the mean absolute error of numbers [rows]."""
    return [
        spearman_of(predicted, true, groups),
        Measure("pearson", scores.by_group(_moments(predicted, true), groups), pearson),
        Measure("mae", scores.by_group(_errors(predicted, true), groups), scores.ratio),
    ]


def spearman_of(predicted: np.ndarray, true: np.ndarray, groups: list[str]) -> Measure:
    """Spearman's rank correlation; equal values share their mean rank. Each resample is ranked by itself."""
    predicted_order, true_order = _Order.of(predicted), _Order.of(true)
    _, group = np.unique(np.array(groups), return_inverse=True)

    def value(weights: np.ndarray) -> np.ndarray:
        x, y = predicted_order.ranks(weights), true_order.ranks(weights)
        count = weights.sum(-1, keepdims=True)
        x, y = (side - (weights * side).sum(-1, keepdims=True) / count for side in (x, y))
        together, own, other = ((weights * product).sum(-1) for product in (x * y, x * x, y * y))
        return _over(together, own * other)

    return OfRows("spearman", np.ones((1, len(true))), value, group)


@dataclass(frozen=True)
class _Order:
    """Rows in ascending ``order`` of a value, the ``starts`` of equal ones in it, and each row's place among these."""

    order: np.ndarray
    starts: np.ndarray
    place: np.ndarray

    @staticmethod
    def of(values: np.ndarray) -> _Order:
        _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
        return _Order(np.argsort(values, kind="stable"), np.cumsum(counts) - counts, place)

    def ranks(self, weights: np.ndarray) -> np.ndarray:
        """The mean rank of each row where row i is there ``weights[..., i]`` times: [..., rows]."""
        equal = np.add.reduceat(weights[..., self.order], self.starts, axis=-1)
        return (np.cumsum(equal, axis=-1) - equal + (equal + 1) / 2)[..., self.place]


def _moments(predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
    """1, x, y, xx, yy and xy of each row, of numbers less their mean: float64 [rows, 6]."""
    x, y = (side.astype(np.float64) - side.mean() for side in (predicted, true))
    return np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], axis=1)


def pearson(sums: np.ndarray) -> np.ndarray:
    """Of sums [..., 6] of ``1, x, y, xx, yy, xy``; 0 where one side is constant."""
    count, x, y, xx, yy, xy = np.moveaxis(sums, -1, 0)
    return _over(xy - x * y / count, (xx - x * x / count) * (yy - y * y / count))


def _over(together: np.ndarray, product: np.ndarray) -> np.ndarray:
    varies = product > 1e-18
    return np.where(varies, together / np.sqrt(np.where(varies, product, 1)), 0.0)


def _errors(predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
    return np.stack([np.abs(predicted - true), np.ones(len(true))], axis=1)
