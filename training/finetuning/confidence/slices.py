"""Slices where a model does worse than elsewhere: by length, and by any column of the rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from training.finetuning import scores

#: Slices with fewer rows say little; columns with more values than this are no slices but names.
SMALLEST, MOST_VALUES = 20, 20
_QUARTILES = ("shortest quarter", "second quarter", "third quarter", "longest quarter")


@dataclass(frozen=True)
class Slice:
    """``lead`` is the accuracy on the slice less that on all other rows; the model fails where it is surely below 0."""

    column: str
    value: str
    rows: int
    accuracy: scores.Interval
    lead: scores.Interval

    @property
    def fails(self) -> bool:
        return self.lead.high < 0


def by_length(texts: Sequence[str]) -> list[str]:
    """The quarter of each text by its length in characters; texts of equal length are in the same."""
    lengths = np.array([len(text) for text in texts])
    edges = np.quantile(lengths, [0.25, 0.5, 0.75])
    return [f"{_QUARTILES[place]}" for place in np.searchsorted(edges, lengths)]


def find(right: np.ndarray, groups: list[str], columns: Mapping[str, Sequence[str | None]]) -> list[Slice]:
    """Every slice of at least SMALLEST rows (that leaves as many), the worst lead first.

    ``right`` bool [n]; ``columns`` name n values each. Of a column the MOST_VALUES most frequent values are taken.
    Intervals are of 95 % for each slice by itself: of twenty slices one may seem to fail by chance.
    """
    slices = []
    for column, values in columns.items():
        counted = Counter(value for value in values if value is not None)
        for value, rows in sorted(counted.most_common(MOST_VALUES)):
            if min(rows, len(right) - rows) < SMALLEST:
                continue
            inside = np.array([each == value for each in values])
            part, rest = (_counts(right, inside == side, groups) for side in (True, False))
            lead = scores.interval(scores.accuracy, part, rest)
            slices.append(Slice(column, value, rows, scores.interval(scores.accuracy, part), lead))
    return sorted(slices, key=lambda each: (each.lead.value, each.column, each.value))


def _counts(right: np.ndarray, inside: np.ndarray, groups: list[str]) -> np.ndarray:
    """Right (0, 0) and wrong (0, 1) predictions inside, by group, all groups in their order: int64 [groups, 2, 2]."""
    _, group = np.unique(np.array(groups), return_inverse=True)
    counts = np.zeros((group.max() + 1, 2, 2), np.int64)
    for side, rows in enumerate((inside & right, inside & ~right)):
        counts[:, 0, side] = np.bincount(group[rows], minlength=len(counts))
    return counts
