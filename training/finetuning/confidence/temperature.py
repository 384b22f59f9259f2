"""Temperature scaling: one number that makes a classifier's probabilities as sure as it is right.

Guo et al. 2017, "On Calibration of Modern Neural Networks", section 4.2: logits are divided by the T that gives the
development rows the least negative log likelihood. Where some labels are wrong, or nothing in a text tells, no T is
right for the surest rows and the others both; then a share of the probability is spread evenly over the classes
(ensemble temperature scaling: Zhang et al. 2020, "Mix-n-Match", section 4.2, without the unscaled part). Either way the
order of the classes, so every prediction, stays.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize, minimize_scalar
from scipy.special import log_softmax, softmax

#: Limits of T. A model that is right on every development row would else ask for T = 0, one that is wrong for infinity.
LEAST, MOST = 0.05, 20.0
#: The largest share that is spread, and the rows below which nothing is: a few cannot show that it helps.
MOST_SPREAD, FEWEST = 0.2, 100
_FOLDS = 5


class Scaling(NamedTuple):
    """Probabilities (1 - spread) softmax(logits / temperature) + spread / classes."""

    temperature: float = 1.0
    spread: float = 0.0


def fit_scaling(logits: np.ndarray, labels: np.ndarray) -> Scaling:
    """The scaling by which rows that it was not fitted on have the least negative log likelihood.

    Shapes as in ``fit``. With FEWEST rows or more a share is spread if that is better in cross-validation.
    """
    if len(labels) < FEWEST:
        return Scaling(fit(logits, labels))
    fold = np.arange(len(labels)) % _FOLDS
    gain = 0.0
    for at in range(_FOLDS):
        seen, rest = (logits[fold != at], labels[fold != at]), (logits[fold == at], labels[fold == at])
        plain = Scaling(fit(*seen))
        gain += _loss(plain, *rest) - _loss(_fit_spread(plain.temperature, *seen), *rest)
    t = fit(logits, labels)
    return _fit_spread(t, logits, labels) if gain > 0 else Scaling(t)


def _loss(scaling: Scaling, logits: np.ndarray, labels: np.ndarray) -> float:
    """Negative log likelihood of all rows, in nats."""
    own = probabilities(logits, *scaling)[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(own, np.finfo(float).tiny)).sum())


def _fit_spread(t: float, logits: np.ndarray, labels: np.ndarray) -> Scaling:
    """The scaling of the least ``_loss``, from temperature ``t`` on; or that alone."""
    each, classes = np.arange(len(labels)), logits.shape[1]

    def loss(asked: np.ndarray) -> tuple[float, np.ndarray]:
        sharpness, spread = np.exp(asked[0]), asked[1]
        shares = softmax(logits * sharpness, axis=1)
        own = shares[each, labels]
        mixed = np.maximum((1 - spread) * own + spread / classes, np.finfo(float).tiny)
        lead = logits[each, labels] - (shares * logits).sum(1)
        slopes = [((1 - spread) * own * lead * sharpness / mixed).mean(), ((1 / classes - own) / mixed).mean()]
        return float(-np.log(mixed).mean()), -np.array(slopes)

    bounds = [(-np.log(MOST), -np.log(LEAST)), (0.0, MOST_SPREAD)]
    minimum = minimize(loss, [-np.log(t), 0.02], jac=True, method="L-BFGS-B", bounds=bounds)
    spread = Scaling(float(np.exp(-minimum.x[0])), float(minimum.x[1]))
    return min(spread, Scaling(t), key=lambda scaling: _loss(scaling, logits, labels))


def fit(logits: np.ndarray, labels: np.ndarray) -> float:
    """The T in [LEAST, MOST] with the least mean negative log likelihood.

    ``logits`` float [n, classes] (logarithms of probabilities will do), ``labels`` int64 [n]. The likelihood is concave
    in 1/T, so its one maximum is found whatever the start.
    """
    minimum = minimize_scalar(
        lambda sharpness: negative_log_likelihood(logits * sharpness, labels),
        bounds=(1 / MOST, 1 / LEAST),
        method="bounded",
        options={"xatol": 1e-6},
    )
    return float(1 / minimum.x)


def negative_log_likelihood(logits: np.ndarray, labels: np.ndarray) -> float:
    """Mean over rows, in nats."""
    return float(-log_softmax(logits, axis=1)[np.arange(len(labels)), labels].mean())


def probabilities(logits: np.ndarray, temperature: float = 1.0, spread: float = 0.0) -> np.ndarray:
    """(1 - spread) softmax(logits / T) + spread / classes, float64 [n, classes]."""
    return (1 - spread) * softmax(logits.astype(np.float64) / temperature, axis=1) + spread / logits.shape[1]
