"""Decisions where one error costs more than another.

Elkan 2001, "The Foundations of Cost-Sensitive Learning": of probabilities p the class k of the least expected cost,
sum over y of p(y) cost(y, k), is answered. Between two classes that is a threshold, which is taken from the development
rows: where their mean cost is least.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from pipeline import MillError

#: Of an error that no cost is given for.
DEFAULT = 1.0


def matrix(costs: Mapping[str, Mapping[str, float]], labels: Sequence[str]) -> np.ndarray:
    """cost(label, answer), float64 [classes, classes], of ``costs`` by label and answer; a right answer costs nothing.

    Raises MillError for a label that no row has.
    """
    table = np.full((len(labels), len(labels)), DEFAULT)
    place = {label: at for at, label in enumerate(labels)}
    for label, answers in costs.items():
        for answer, cost in answers.items():
            if unknown := {label, answer} - place.keys():
                raise MillError(
                    f"`costs` names the label {min(unknown)!r}, which no row has; there is {', '.join(labels)}"
                )
            table[place[label], place[answer]] = cost
    np.fill_diagonal(table, 0)
    return table


def threshold(probabilities: np.ndarray, labels: np.ndarray, cost: np.ndarray) -> float:
    """From which probability of the second of two classes it is answered, so that rows cost least on the whole.

    ``probabilities`` float [n, 2], ``labels`` int64 [n], ``cost`` [2, 2]. A threshold lies halfway between the
    probabilities that it parts; of equal costs the one nearest to that of calibrated probabilities, c01 / (c01 + c10).
    """
    order = np.argsort(probabilities[:, 1], kind="stable")
    shares, second = probabilities[order, 1], labels[order] == 1
    # with the first k rows answered by the first class, and the others by the second
    missed = np.concatenate([[0.0], np.cumsum(second * cost[1, 0])])
    alarms = np.concatenate([[0.0], np.cumsum(~second * cost[0, 1])])
    total = missed + alarms[-1] - alarms
    bounds = np.concatenate([[0.0], shares, [1.0]])
    middles = (bounds[:-1] + bounds[1:]) / 2
    parted = np.concatenate([[True], shares[1:] > shares[:-1], [True]])
    nearest = np.abs(middles - cost[0, 1] / max(cost[0, 1] + cost[1, 0], 1e-12))
    best = np.lexsort((nearest, total))
    return float(middles[next(at for at in best if parted[at])])


def decide(probabilities: np.ndarray, cost: np.ndarray, limit: float | None = None) -> np.ndarray:
    """The class to answer for each row, int64 [n]: by the threshold ``limit``, or else by the least expected cost."""
    if limit is not None:
        return (probabilities[:, 1] >= limit).astype(np.int64)
    return (probabilities @ cost).argmin(1)
