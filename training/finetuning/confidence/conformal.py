"""Split conformal prediction: sets of labels that hold the true one with a stated probability.

Vovk et al. 2005; Angelopoulos and Bates 2021, section 1: of n development rows take the score s = 1 - p(true label),
let q be its ceil((n + 1)(1 - alpha)) / n quantile, and answer {y: 1 - p(y) <= q}. Whatever the model, the set holds the
label with a probability of at least 1 - alpha, as long as the rows to come are like the development rows.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np


def rank(rows: int, alpha: float) -> int:
    """ceil((rows + 1)(1 - alpha)), exact for an ``alpha`` that is written in decimals."""
    return math.ceil((rows + 1) * (1 - Fraction(str(alpha))))


def quantile(probabilities: np.ndarray, labels: np.ndarray, alpha: float) -> float:
    """q, of probabilities [n, classes] and labels int64 [n]; 1 (every label) where n is too small for ``alpha``."""
    scores = np.sort(1 - probabilities[np.arange(len(labels)), labels])
    place = rank(len(labels), alpha)
    return float(scores[place - 1]) if place <= len(labels) else 1.0


def sets(probabilities: np.ndarray, q: float) -> np.ndarray:
    """Which labels each row's set holds: bool [n, classes]. A set may be empty."""
    return 1 - probabilities <= q


def covered(chosen: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Whether each row's set holds its label, bool [n]; the mean of it is the coverage."""
    return chosen[np.arange(len(labels)), labels]
