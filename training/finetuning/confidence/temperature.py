"""Temperature scaling: one number that makes a classifier's probabilities as sure as it is right.

Guo et al. 2017, "On Calibration of Modern Neural Networks", section 4.2: logits are divided by the T that gives the
development rows the least negative log likelihood. The order of the classes, so every prediction, stays.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

#: Limits of T. A model that is right on every development row would else ask for T = 0, one that is wrong for infinity.
LEAST, MOST = 0.05, 20.0


def fit(logits: np.ndarray, labels: np.ndarray) -> float:
    """The T in [LEAST, MOST] with the least mean negative log likelihood.

    ``logits`` float [n, classes] (logarithms of probabilities will do), ``labels`` int64 [n]. The likelihood is concave
    in 1/T, so its one maximum is found whatever the start.
    """
    found = minimize_scalar(
        lambda sharpness: negative_log_likelihood(logits * sharpness, labels),
        bounds=(1 / MOST, 1 / LEAST),
        method="bounded",
        options={"xatol": 1e-6},
    )
    return float(1 / found.x)


def negative_log_likelihood(logits: np.ndarray, labels: np.ndarray) -> float:
    """Mean over rows, in nats."""
    return float(-log_softmax(logits, axis=1)[np.arange(len(labels)), labels].mean())


def probabilities(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """softmax(logits / T), float64 [n, classes]."""
    return softmax(logits.astype(np.float64) / temperature, axis=1)
