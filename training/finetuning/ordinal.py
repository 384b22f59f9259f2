"""How right predicted numbers are about classes that have an order: one to five stars, school grades.

A prediction is of the class that is nearest to it. Cohen 1968, "Weighted kappa": agreement beyond chance, where an
error costs the square of the classes between; what scikit-learn computes with ``weights="quadratic"``.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from training.finetuning import scores
from training.finetuning.scores import Measure

#: Most different scores that are taken for classes.
MOST = 20


def classes(values: Iterable[np.ndarray]) -> np.ndarray | None:
    """The classes in the scores of all rows, ascending; None where they are none: not whole, or too many, or two."""
    levels = np.unique(np.concatenate(list(values)))
    return levels if 2 < len(levels) <= MOST and (levels == np.round(levels)).all() else None


def nearest(predicted: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """The index of the class nearest to each of ``predicted``, int64 [rows]; of two equally near the lower one."""
    return np.searchsorted((classes[1:] + classes[:-1]) / 2, predicted, side="left")


def measures(predicted: np.ndarray, true: np.ndarray, classes: np.ndarray, groups: list[str]) -> list[Measure]:
    """Accuracy, the share of rows that are off by one class at most, and quadratic kappa, of numbers [rows]."""
    confusion = scores.confusion(nearest(true, classes), nearest(predicted, classes), groups, len(classes))
    return [
        Measure("accuracy", confusion, scores.accuracy),
        Measure("off_by_one", confusion, _off_by_one),
        Measure("quadratic_kappa", confusion, quadratic_kappa),
    ]


def _off_by_one(counts: np.ndarray) -> np.ndarray:
    """The share that is no further than one class away, of counts [..., label, prediction]."""
    place = np.arange(counts.shape[-1])
    near = np.abs(place[:, None] - place) <= 1
    return (counts * near).sum((-2, -1)) / np.maximum(1, counts.sum((-2, -1)))


def quadratic_kappa(counts: np.ndarray) -> np.ndarray:
    """1 - observed / expected cost, of counts [..., label, prediction]; 0 where no cost is to be expected."""
    place = np.arange(counts.shape[-1])
    cost = (place[:, None] - place) ** 2
    by_chance = (
        counts.sum(-1)[..., :, None]
        * counts.sum(-2)[..., None, :]
        / np.maximum(1, counts.sum((-2, -1)))[..., None, None]
    )
    expected = (cost * by_chance).sum((-2, -1))
    return np.where(expected > 0, 1 - (cost * counts).sum((-2, -1)) / np.where(expected > 0, expected, 1), 0.0)
