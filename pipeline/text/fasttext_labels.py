"""The best labels of a fastText classifier, given the mean of a text's vectors (fastText's loss.cc)."""

from __future__ import annotations

import numpy as np

from pipeline.store.fasttext_model import SOFTMAX
from pipeline.text.jit import njit

#: fastText adds this to a probability before its logarithm, and stays with the sum.
_TINY = 1e-5
#: Its table of the sigmoid: the number of steps, and how far it reaches to both sides of 0.
SIGMOID_STEPS, SIGMOID_LIMIT = 512, 8.0


@njit(cache=True, nogil=True)
def _log(value):
    return np.float32(np.log(np.float64(np.float32(value)) + _TINY))


@njit(cache=True, nogil=True)
def _insert(label, score, labels, scores):
    """Puts a label among the best; ``scores`` are logarithms, downwards, of those whose label is not -1."""
    at = len(labels)
    while at > 0 and (labels[at - 1] < 0 or scores[at - 1] <= score):
        at -= 1
    if at == len(labels):
        return
    for k in range(len(labels) - 1, at, -1):
        labels[k], scores[k] = labels[k - 1], scores[k - 1]
    labels[at], scores[at] = label, score


@njit(cache=True, nogil=True)
def _exponentials(labels, scores):
    for k in range(len(labels)):
        if labels[k] >= 0:
            scores[k] = np.exp(scores[k])


@njit(cache=True, nogil=True)
def walk(hidden, output, children, nodes, node_scores, labels, scores):
    """The best leaves of the tree, without a look below what is worse already than all of them.

    If only the best is asked for, most that is worse is known from the start: what is below the leaf to which the
    likelier branches lead, by more than ``_TINY`` adds on the way to any, cannot become the best.
    """
    leaves = len(output)
    least = _log(0.0)
    if len(labels) == 1:
        least = max(least, _likely_score(hidden, output, children) - np.float32(4 * _TINY * leaves))
    nodes[0], node_scores[0], depth = 2 * leaves - 2, 0, 1
    while depth:
        depth -= 1
        node, score = nodes[depth], node_scores[depth]
        if score < least or (labels[-1] >= 0 and score < scores[-1]):
            continue
        if node < leaves:
            _insert(node, score, labels, scores)
            continue
        yes = _yes(hidden, output, node - leaves)
        nodes[depth], node_scores[depth] = children[node, 1], score + _log(yes)
        nodes[depth + 1], node_scores[depth + 1] = children[node, 0], score + _log(1 - np.float64(yes))
        depth += 2
    _exponentials(labels, scores)


@njit(cache=True, nogil=True)
def _likely_score(hidden, output, children):
    """The score of the leaf to which the likelier branch of each node leads."""
    leaves = len(output)
    node, score = 2 * leaves - 2, np.float32(0)
    while node >= leaves:
        yes = np.float64(_yes(hidden, output, node - leaves))
        score += _log(max(yes, 1 - yes))
        node = np.int64(children[node, np.int64(yes >= 0.5)])
    return score


@njit(cache=True, nogil=True)
def _yes(hidden, output, row):
    value = np.float32(0)
    for d in range(len(hidden)):
        value += output[row, d] * hidden[d]
    return np.float32(1 / (1 + np.float64(np.exp(-value))))


@njit(cache=True, nogil=True)
def rate(hidden, output, loss, sigmoid, values, labels, scores):
    """The best labels by a softmax over all, or by a sigmoid for each."""
    for label in range(len(values)):
        values[label] = 0
    for d in range(len(hidden)):
        for label in range(len(values)):
            values[label] += output[d, label] * hidden[d]
    if loss == SOFTMAX:
        greatest, total = values[0], np.float32(0)
        for label in range(len(values)):
            greatest = max(greatest, values[label])
        for label in range(len(values)):
            values[label] = np.exp(values[label] - greatest)
            total += values[label]
        for label in range(len(values)):
            values[label] /= total
    else:
        for label in range(len(values)):
            if values[label] < -SIGMOID_LIMIT:
                values[label] = 0
            elif values[label] > SIGMOID_LIMIT:
                values[label] = 1
            else:
                values[label] = sigmoid[int((values[label] + SIGMOID_LIMIT) * SIGMOID_STEPS / SIGMOID_LIMIT / 2)]
    least = -np.inf
    for label in range(len(values)):
        if values[label] < least:  # most are, and a logarithm takes as long as all else here
            continue
        _insert(label, _log(values[label]), labels, scores)
        if labels[-1] >= 0:
            least = np.exp(np.float64(scores[-1])) * (1 - _TINY) - _TINY  # scores are rounded, by less than that
    _exponentials(labels, scores)
