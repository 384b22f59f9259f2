"""Temperature scaling: one number that makes a classifier's probabilities as sure as it is right.

Guo et al. 2017, "On Calibration of Modern Neural Networks", section 4.2: logits are divided by the T that gives the
development rows the least negative log likelihood. Where some labels are wrong, or nothing in a text tells, no T is
right for the surest rows and the others both; then a share of the probability is spread evenly over the classes
(ensemble temperature scaling: Zhang et al. 2020, "Mix-n-Match", section 4.2, without the unscaled part). Where logits
are no function of how sure one may be, as those of a small encoder that all lie near two values, a rising curve maps
the probabilities (isotonic regression over all classes, section 4.3 there). Whichever it is, the order of the classes,
so every prediction, stays.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize, minimize_scalar
from scipy.special import log_softmax, softmax
from sklearn.isotonic import IsotonicRegression

#: Limits of T. A model that is right on every development row would else ask for T = 0, one that is wrong for infinity.
LEAST, MOST = 0.05, 20.0
#: The largest share that is spread, and the rows below which T is all: a few cannot show that more helps.
MOST_SPREAD, FEWEST = 0.2, 100
_FOLDS = 5
#: The part of a probability that no curve maps, so that it rises where the curve is flat, and no class gets 0.
_UNMAPPED = 0.1
#: Knots of a curve: probabilities, and what they are mapped to.
Curve = Sequence[Sequence[float]]


class Scaling(NamedTuple):
    """Probabilities (1 - spread) softmax(logits / temperature) + spread / classes, mapped by ``curve`` if there is."""

    temperature: float = 1.0
    spread: float = 0.0
    curve: Curve = ()


def fit_scaling(logits: np.ndarray, labels: np.ndarray) -> Scaling:
    """The scaling by which it is least surprising, on rows it was not fitted on, whether an answer is right.

    Shapes as in ``fit``. With FEWEST rows or more the best in cross-validation: T alone, with a share, or with a curve.
    They are compared by the confidence in the answer, which is what people go by: the likelihood of all labels also
    counts how the rest is spread over the wrong classes, which hides a confidence that is wrong.
    """
    if len(labels) < FEWEST:
        return _plain(logits, labels)
    fold = np.arange(len(labels)) % _FOLDS

    def loss(fitted: Callable[[np.ndarray, np.ndarray], Scaling]) -> float:
        return sum(
            _surprise(fitted(logits[fold != at], labels[fold != at]), logits[fold == at], labels[fold == at])
            for at in range(_FOLDS)
        )

    return min((_plain, fit_spread, _fit_curve), key=loss)(logits, labels)


def _plain(logits: np.ndarray, labels: np.ndarray) -> Scaling:
    return Scaling(fit(logits, labels))


def _fit_curve(logits: np.ndarray, labels: np.ndarray) -> Scaling:
    """T, and the rising curve of the least squared error over all probabilities that it gives."""
    t = fit(logits, labels)
    shares = probabilities(logits, t)
    own = np.eye(shares.shape[1])[labels]
    fitted = IsotonicRegression(y_min=0, y_max=1).fit(shares.ravel(), own.ravel())
    return Scaling(t, 0.0, list(zip(fitted.X_thresholds_.tolist(), fitted.y_thresholds_.tolist(), strict=True)))


def _loss(scaling: Scaling, logits: np.ndarray, labels: np.ndarray) -> float:
    """Negative log likelihood of all rows, in nats."""
    own = probabilities(logits, *scaling)[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(own, np.finfo(float).tiny)).sum())


def _surprise(scaling: Scaling, logits: np.ndarray, labels: np.ndarray) -> float:
    """Negative log likelihood of whether the most probable class of each row is its label, summed, in nats."""
    shares = probabilities(logits, *scaling)
    sure, right = shares.max(1), shares.argmax(1) == labels
    return float(-np.log(np.maximum(np.where(right, sure, 1 - sure), np.finfo(float).tiny)).sum())


def fit_spread(logits: np.ndarray, labels: np.ndarray) -> Scaling:
    """T and a spread share of the least negative log likelihood, from the T of ``fit`` on; or that alone."""
    t = fit(logits, labels)
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


def probabilities(logits: np.ndarray, temperature: float = 1.0, spread: float = 0.0, curve: Curve = ()) -> np.ndarray:
    """Those of Scaling(temperature, spread, curve) for ``logits``, float64 [n, classes]."""
    shares = (1 - spread) * softmax(logits.astype(np.float64) / temperature, axis=1) + spread / logits.shape[1]
    if not len(curve):
        return shares
    mapped = (1 - _UNMAPPED) * np.interp(shares, *np.array(curve).T) + _UNMAPPED * shares
    return mapped / mapped.sum(1, keepdims=True)
