"""Abstaining: what accuracy is left where a model answers only if it is sure enough.

The curve of selective classification (El-Yaniv and Wiener 2010): rows are answered in order of confidence. Its area is
1 - AURC of Geifman et al. 2019: the mean accuracy over all coverages.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Curve:
    """Of answering only at a confidence of ``threshold`` or above: the share answered and the accuracy on it.

    All float64 [points], coverage ascending; ``area`` is the mean accuracy over coverages.
    """

    threshold: np.ndarray
    coverage: np.ndarray
    accuracy: np.ndarray
    area: float

    def at(self, coverage: float) -> tuple[float, float, float]:
        """The first point that answers at least ``coverage``: threshold, share answered, accuracy."""
        place = min(int(np.searchsorted(self.coverage, coverage - 1e-12)), len(self.coverage) - 1)
        return float(self.threshold[place]), float(self.coverage[place]), float(self.accuracy[place])


def curve(confidence: np.ndarray, right: np.ndarray) -> Curve:
    """The curve of ``confidence`` float [n] and ``right`` bool [n]: a point for each confidence that occurs.

    Rows of equal confidence are answered together; in the area they count as answered in random order.
    """
    threshold, block = np.unique(-confidence, return_inverse=True)
    size, good = np.bincount(block), np.bincount(block, right)
    answered, correct = size.cumsum(), good.cumsum()
    before, correct_before = answered - size, correct - good
    counts = np.arange(1, len(right) + 1)
    own = np.repeat(np.arange(len(size)), size)
    expected = correct_before[own] + good[own] * (counts - before[own]) / size[own]
    return Curve(-threshold, answered / len(right), correct / answered, float((expected / counts).mean()))
