"""Labels that are probably wrong, by confident learning (Northcutt et al. 2021), from features that are there already.

A logistic head predicts each row while trained on the other folds. Class j's threshold t_j is the mean p_j of the rows
labelled j; a row labelled i counts for C_ij where p_j >= t_j and j is the most probable of the classes that pass. C
says how many labels of each class are wrong, and the class' least probable labels are the suspects ("prune by class",
section 3.2, method 3), the smallest margin p_label - max of the others first. The rows off the diagonal of C itself
would be too few: many whose label is wrong pass no threshold.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_limits

from pipeline import MillError
from training.finetuning import deadline

FOLDS = 5
NEIGHBOURS = 5


@dataclass(frozen=True)
class Audit:
    """``rows`` int64 [suspects], the most suspect first, with the class that each seems to belong to, and the margin.

    ``counts`` int64 [label, class] is C. ``share`` estimates how many of all labels are wrong, with C's rows scaled to
    the counts of the labels: there are about as many suspects.
    """

    rows: np.ndarray
    suggested: np.ndarray
    margins: np.ndarray
    counts: np.ndarray
    share: float


def out_of_fold(
    features: Any, labels: np.ndarray, groups: list[str], strength: float = 1.0, seconds: float = 0.0
) -> np.ndarray:
    """Probabilities [n, classes] of each row by a logistic head that did not see its fold.

    ``features`` [n, width], dense or scipy's csr; ``labels`` int64 [n] in 0..classes-1; rows of one of ``groups`` are
    in one fold; ``strength`` is scikit-learn's C, and ``seconds`` what a fit of all rows may take. Raises MillError
    where a class is in one group alone, and OutOfTime where another fold would end after a deadline.
    """
    classes = int(labels.max()) + 1
    shares = np.zeros((len(labels), classes))
    for kept, rest in deadline.paced(_folds(labels, groups), seconds * (FOLDS - 1) / FOLDS):
        if missing := sorted(set(range(classes)) - set(labels[kept].tolist())):
            raise MillError(
                f"the label audit needs rows of each label in at least 2 groups; label number {missing[0]} has fewer"
            )
        with threadpool_limits(1):
            head = LogisticRegression(C=strength, max_iter=1_000).fit(features[kept], labels[kept])
        shares[rest] = head.predict_proba(features[rest])
    return shares


def _folds(labels: np.ndarray, groups: list[str]) -> list[tuple[np.ndarray, np.ndarray]]:
    alone = len(set(groups)) == len(groups)
    kind = StratifiedKFold if alone else StratifiedGroupKFold  # the second loops over groups in Python
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that a class has fewer rows than there are folds
        return list(kind(FOLDS, shuffle=True, random_state=0).split(labels, labels, None if alone else groups))


def audit(probabilities: np.ndarray, labels: np.ndarray) -> Audit:
    """What confident learning says of ``labels`` int64 [n] by out-of-fold ``probabilities`` [n, classes]."""
    n, classes = probabilities.shape
    each = np.arange(n)
    sizes = np.bincount(labels, minlength=classes)
    own = probabilities[each, labels]
    thresholds = np.bincount(labels, own, classes) / np.maximum(1, sizes)
    thresholds[sizes == 0] = np.inf
    passing = np.where(probabilities >= thresholds, probabilities, -1.0)
    confident = passing.max(1) >= 0
    believed = passing.argmax(1)
    counts = np.zeros((classes, classes), np.int64)
    np.add.at(counts, (labels[confident], believed[confident]), 1)
    others = probabilities.copy()
    others[each, labels] = -np.inf
    margins = own - others.max(1)
    wrong = sizes - np.diagonal(counts) * sizes / np.maximum(1, counts.sum(1))
    wrong[counts.sum(1) == 0] = 0
    least = np.lexsort((each, own))
    ranked = [least[labels[least] == label][: round(wrong[label])] for label in range(classes)]
    rows = np.concatenate(ranked)
    rows = rows[margins[rows] < 0]
    rows = rows[np.lexsort((rows, margins[rows]))]
    return Audit(rows, others[rows].argmax(1), margins[rows], counts, float(wrong.sum() / n))


def neighbours(features: Any, rows: np.ndarray, count: int = NEIGHBOURS) -> tuple[np.ndarray, np.ndarray]:
    """The ``count`` nearest other rows of each of ``rows``: places int64 and cosines float64, [rows, count] each."""
    count = min(count, features.shape[0] - 1)
    if not len(rows) or not count:
        return np.zeros((len(rows), 0), np.int64), np.zeros((len(rows), 0))
    search = NearestNeighbors(n_neighbors=count + 1, metric="cosine", algorithm="brute").fit(features)
    distances, places = search.kneighbors(features[rows])
    self_last = np.argsort(places == rows[:, None], axis=1, kind="stable")[:, :count]
    return np.take_along_axis(places, self_last, 1), 1 - np.take_along_axis(distances, self_last, 1)
