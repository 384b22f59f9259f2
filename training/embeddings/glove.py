"""GloVe: word vectors whose dot products are the logarithms of co-occurrence counts.

Pennington et al. 2014. The counts are those of ``cooccurrences``. The loss is
sum of f(X_ij) (w_i . w~_j + b_i + b~_j - log X_ij)^2 with f(x) = min(1, (x / 100)^0.75), minimised by AdaGrad over the
non-zero entries in a new order each epoch; a word's vector is w + w~.
"""

from __future__ import annotations

import numpy as np

from pipeline.text.jit import njit
from training.batches import random_streams

X_MAX, POWER = 100.0, 0.75


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
