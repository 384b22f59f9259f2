"""GloVe: word vectors whose dot products are the logarithms of co-occurrence counts.

Pennington et al. 2014. A pair of words d apart (d at most ``window``) counts 1 / d, on both sides. The loss is
sum of f(X_ij) (w_i . w~_j + b_i + b~_j - log X_ij)^2 with f(x) = min(1, (x / 100)^0.75), minimised by AdaGrad over the
non-zero entries in an order drawn anew each epoch; a word's vector is w + w~.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import numpy as np
from numba import njit

from training.batches import random_streams

X_MAX, POWER = 100.0, 0.75
_PENDING = 1 << 24  # pairs that are held before they are added up


def cooccurrences(documents: Iterable[tuple[np.ndarray, np.ndarray]], size: int, window: int) -> tuple[np.ndarray, ...]:
    """(i, j, X_ij) of every pair that occurs, ascending by i, then j: int32, int32, float64.

    ``documents`` are blocks of (places of words or -1, bounds); no pair reaches over a bound. An unknown word takes up
    its place and pairs with none. ``size``: words of the vocabulary.
    """
    keys, weights = np.zeros(0, np.int64), np.zeros(0)
    pending: list[tuple[np.ndarray, np.ndarray]] = []
    for words, bounds in documents:
        for part in _blocks(bounds, _PENDING // (2 * window)):
            pending.append(_pairs(words, part, size, window))
            if sum(len(found) for found, _ in pending) > _PENDING:
                keys, weights = _added_up([(keys, weights), *pending])
                pending = []
    keys, weights = _added_up([(keys, weights), *pending])
    return (keys // size).astype(np.int32), (keys % size).astype(np.int32), weights


def _blocks(bounds: np.ndarray, words: int) -> list[np.ndarray]:
    """``bounds`` in runs of documents of about so many words."""
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


def train(
    i: np.ndarray, j: np.ndarray, x: np.ndarray, size: int, dimensions: int, epochs: int, rate: float, seed: int
) -> tuple[np.ndarray, list[float]]:
    """Vectors float32 [size, dimensions], and the mean loss of each epoch."""
    draw = random_streams.generator("glove", seed)
    # the last column is the bias; both sides begin as in the authors' program
    sides = [(draw.random((size, dimensions + 1)) - 0.5) / (dimensions + 1) for _ in range(2)]
    squares = [np.ones((size, dimensions + 1)) for _ in range(2)]
    wanted, weight = np.log(x), np.minimum(1.0, (x / X_MAX) ** POWER)
    losses = []
    for epoch in range(epochs):
        order = random_streams.generator("glove order", seed, epoch=epoch).permutation(len(x))
        losses.append(_epoch(order, i, j, wanted, weight, sides[0], sides[1], squares[0], squares[1], rate) / len(x))
    return (sides[0] + sides[1])[:, :-1].astype(np.float32), losses


@njit(cache=True, nogil=True)
def _epoch(order, i, j, wanted, weight, left, right, left_squares, right_squares, rate):
    last = left.shape[1] - 1
    total = 0.0
    for entry in order:
        a, b = i[entry], j[entry]
        error = left[a, last] + right[b, last] - wanted[entry]
        for k in range(last):
            error += left[a, k] * right[b, k]
        total += weight[entry] * error * error
        pull = weight[entry] * error
        for k in range(last + 1):
            to_left = pull * (right[b, k] if k < last else 1.0)
            to_right = pull * (left[a, k] if k < last else 1.0)
            left[a, k] -= rate * to_left / np.sqrt(left_squares[a, k])
            right[b, k] -= rate * to_right / np.sqrt(right_squares[b, k])
            left_squares[a, k] += to_left * to_left
            right_squares[b, k] += to_right * to_right
    return total
