"""Where several labels may hold at once: above what probability each is given, as maximises its F1 on development."""

from __future__ import annotations

import numpy as np

DEFAULT = 0.5


def fit(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The threshold of each class, float64 [classes]: a row has the class at that probability or above.

    ``probabilities`` [n, classes], ``labels`` bool [n, classes]. A threshold lies halfway between the probabilities
    that it parts; of equal F1 the higher one. A class that no row has keeps DEFAULT.
    """
    return np.array([_best(probabilities[:, k], labels[:, k]) for k in range(labels.shape[1])])


def f1(predicted: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """2 TP / (predicted + labelled) of each class, of bool [n, classes]; 0 where neither is."""
    right = (predicted & labels).sum(0)
    return 2 * right / np.maximum(1, predicted.sum(0) + labels.sum(0))


def _best(probability: np.ndarray, label: np.ndarray) -> float:
    if not label.any():
        return DEFAULT
    values, place = np.unique(-probability, return_inverse=True)
    values = -values
    predicted, right = np.bincount(place).cumsum(), np.bincount(place, label).cumsum()
    best = int((2 * right / (predicted + label.sum())).argmax())
    below = values[best + 1] if best + 1 < len(values) else 0.0
    return float((values[best] + below) / 2)
