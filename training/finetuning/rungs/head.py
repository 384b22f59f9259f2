"""The logistic head: multinomial logistic regression of scikit-learn, its penalty chosen by the development rows."""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from scipy.special import softmax
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from training.finetuning import deadline
from training.finetuning.rungs.base import development_loss

#: scikit-learn's C, the inverse of the penalty.
STRENGTHS = (0.1, 1.0, 10.0, 100.0)
_UNSEEN = -30.0


@dataclass(frozen=True)
class Head:
    """``weights`` float32 [width, classes], ``bias`` float32 [classes]; ``strength`` is the C that was chosen.

    ``seconds`` is how long the fit with it took.
    """

    weights: np.ndarray
    bias: np.ndarray
    strength: float
    seconds: float

    def predict_proba(self, features: Any) -> np.ndarray:
        """softmax(features @ weights + bias), float64 [n, classes]; features dense or scipy's csr."""
        return softmax(np.asarray(features @ self.weights, np.float64) + self.bias, axis=1)

    def save(self, path: Path, **beside: np.ndarray) -> None:
        save_file({"weights": np.ascontiguousarray(self.weights), "bias": self.bias, **beside}, path)


def fit(features: Any, labels: np.ndarray, dev: Any, dev_labels: np.ndarray, classes: int) -> Head:
    """The head of ``features`` [n, width] and ``labels`` int64 [n] with the least loss on the development rows.

    A class without a training row is all but impossible; where one class is all there is, it is always predicted.
    """
    with threadpool_limits(1):  # more threads cost ten times the work where rows are few, and change the last digits
        heads = [_fit(features, labels, classes, strength) for strength in deadline.paced(STRENGTHS)]
    losses = [development_loss(head.predict_proba(dev), dev_labels) for head in heads]
    return heads[int(np.argmin(losses))]


def _fit(features: Any, labels: np.ndarray, classes: int, strength: float) -> Head:
    begun = time.perf_counter()
    seen = np.unique(labels)
    weights = np.zeros((features.shape[1], classes), np.float32)
    bias = np.full(classes, _UNSEEN, np.float32)
    bias[seen] = 0
    if len(seen) > 1:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # the development rows judge it as it is
            model = LogisticRegression(C=strength, max_iter=1_000).fit(features, labels)
        if len(seen) == 2:  # scikit-learn gives the second class' logit alone
            weights[:, seen[1]], bias[seen[1]] = model.coef_[0], model.intercept_[0]
        else:
            weights[:, seen], bias[seen] = model.coef_.T, model.intercept_
    return Head(weights, bias, strength, time.perf_counter() - begun)
