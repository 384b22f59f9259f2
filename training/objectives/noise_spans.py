"""Runs of tokens that noise takes out together: how long they are and where they lie."""

from __future__ import annotations

import numpy as np


def cut_to(lengths: np.ndarray, budget: int) -> np.ndarray:
    """As many of ``lengths``, int64 [n], as sum to ``budget`` tokens, the last one cut to fit."""
    if budget == 0:
        return lengths[:0]
    spent = np.cumsum(lengths)
    left = np.minimum(lengths, budget - (spent - lengths))
    return left[: int(np.searchsorted(spent, budget)) + 1]


def lay_out(lengths: np.ndarray, total: int, drawn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Starts and lengths, int64 [k], of runs somewhere in ``total`` tokens, ascending and without overlap.

    Every order of the runs and every arrangement among the other tokens is as likely. ``drawn`` are uniforms [2, n],
    n at least k and at least the number of tokens outside the runs plus k.
    """
    count = len(lengths)
    lengths = lengths[np.argsort(drawn[0, :count], kind="stable")]
    items = total - int(lengths.sum()) + count  # each run is one item among the tokens that stay
    places = np.sort(np.argsort(drawn[1, :items], kind="stable")[:count])
    return places + np.cumsum(lengths) - lengths - np.arange(count), lengths
