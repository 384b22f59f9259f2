"""How often words, or tokens, stand near each other.

Pennington et al. 2014: a pair d apart (d at most ``window``) counts 1 / d, on both sides.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import numpy as np

from pipeline.text.jit import njit

_PENDING = 1 << 24  # pairs that are held before they are added up


def count(documents: Iterable[tuple[np.ndarray, np.ndarray]], size: int, window: int) -> tuple[np.ndarray, ...]:
    """(i, j, X_ij) of every pair that occurs, ascending by i, then j: int32, int32, float64.

    ``documents`` are blocks of (places of words or -1, bounds); no pair reaches over a bound. An unknown word takes up
    its place and pairs with none. ``size``: words of the vocabulary.
    """
    keys, weights = np.zeros(0, np.int64), np.zeros(0)
    pending: list[tuple[np.ndarray, np.ndarray]] = []
    for words, bounds in documents:
        for part in _blocks(bounds, _PENDING // (2 * window)):
            pending.append(_pairs(words, part, size, window))
            if sum(len(pairs) for pairs, _ in pending) > _PENDING:
                keys, weights = _added_up([(keys, weights), *pending])
                pending = []
    keys, weights = _added_up([(keys, weights), *pending])
    return (keys // size).astype(np.int32), (keys % size).astype(np.int32), weights


def _blocks(bounds: np.ndarray, words: int) -> list[np.ndarray]:
    """``bounds`` in runs of documents of about ``words`` words each."""
    cuts = np.flatnonzero(np.diff(bounds // words)) + 1
    edges = [0, *cuts.tolist(), len(bounds) - 1]
    return [bounds[low : high + 1] for low, high in itertools.pairwise(edges) if high > low]


def _added_up(parts: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    keys = np.concatenate([part for part, _ in parts])
    weights = np.concatenate([part for _, part in parts])
    unique, where = np.unique(keys, return_inverse=True)
    return unique, np.bincount(where, weights, minlength=len(unique))


@njit(cache=True, nogil=True)
def _pairs(words: np.ndarray, bounds: np.ndarray, size: int, window: int) -> tuple[np.ndarray, np.ndarray]:
    """Keys i * size + j and weights of all pairs, both ways round."""
    room = 2 * window * (bounds[-1] - bounds[0])
    keys, weights = np.empty(room, np.int64), np.empty(room)
    count = 0
    for document in range(len(bounds) - 1):
        for at in range(bounds[document], bounds[document + 1]):
            word = np.int64(words[at])
            if word < 0:
                continue
            for back in range(1, min(window, at - bounds[document]) + 1):
                other = np.int64(words[at - back])
                if other >= 0:
                    keys[count], keys[count + 1] = word * size + other, other * size + word
                    weights[count] = weights[count + 1] = 1.0 / back
                    count += 2
    return keys[:count], weights[:count]
