"""A trie of the pieces of a vocabulary, byte by byte, small enough for a processor's nearest caches.

The children of a node have numbers in a row, so that a step is a look at the bytes that lead to them, eight at a time.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy import int64, uint64

from pipeline.text.jit import njit
from pipeline.text.kernels import load64, trailing_zeros

INNER = 1  # the node that pieces going on a word start from; others start from 0
_EACH, _TOP = uint64(0x0101010101010101), uint64(0x8080808080808080)  # the lowest and the highest bit of every byte


class Trie(NamedTuple):
    """``roots`` int32 [2, 256]: the child of node 0 and of ``INNER`` by each byte, 0 for none. ``labels`` uint8
    [nodes + 8]: the byte that leads to each node. ``first`` int32 [nodes + 1]: ``2 * first child``, whose siblings end
    where the children of the next node begin, and 1 more where a piece ends. ``ids`` int32 and ``scores`` float64
    [nodes]: that piece, -1 for none, and its logarithm of probability.
    """

    roots: np.ndarray
    labels: np.ndarray
    first: np.ndarray
    ids: np.ndarray
    scores: np.ndarray


def of(rows: list[tuple[bytes, bool, int, float]]) -> Trie:
    """From (bytes, whether it goes on a word, id, score); of equal ones the last counts."""
    rows = sorted((row for row in rows if row[0]), key=lambda row: (row[1], row[0]))
    data = np.frombuffer(b"".join(row[0] for row in rows), np.uint8)
    ends = np.cumsum([0, *(len(row[0]) for row in rows)], dtype=np.int64)
    roots, labels, first, last = _grow(data, ends, sum(not row[1] for row in rows))
    ids, scores = np.full(len(first) - 1, -1, np.int32), np.zeros(len(first) - 1)
    ids[last], scores[last] = [row[2] for row in rows], [row[3] for row in rows]
    first *= 2
    first[last] |= 1
    return Trie(roots, labels, first, ids, scores)


@njit(cache=True, nogil=True)
def _grow(data, ends, inner):
    """``(roots, labels, first, last)`` of the sorted pieces ``data[ends[i]:ends[i + 1]]``, those from ``inner`` on
    going on a word; ``last`` int64: the node at which each ends."""
    most = len(data) + 2
    labels, first, last = np.zeros(most + 8, np.uint8), np.zeros(most + 1, np.int32), np.zeros(len(ends) - 1, np.int64)
    low, high, depth = np.zeros(most, np.int64), np.zeros(most, np.int64), np.zeros(most, np.int64)
    roots = np.zeros((2, 256), np.int32)
    high[0] = low[INNER] = inner
    high[INNER] = len(last)
    node, nodes = 0, 2
    while node < nodes:  # level by level: those that begin with the same bytes stand side by side
        first[node] = nodes
        i = low[node]
        while i < high[node]:
            at = ends[i] + depth[node]
            if at == ends[i + 1]:
                last[i] = node
                i += 1
                continue
            low[nodes], depth[nodes], labels[nodes] = i, depth[node] + 1, data[at]
            if node <= INNER:
                roots[node, data[at]] = nodes
            while i < high[node] and data[ends[i] + depth[node]] == labels[nodes]:
                i += 1
            high[nodes] = i
            nodes += 1
        node += 1
    first[nodes] = nodes
    return roots, labels[: nodes + 8].copy(), first[: nodes + 1].copy(), last


@njit(cache=True, nogil=True, forceinline=True)
def step(links: tuple[np.ndarray, np.ndarray, np.ndarray], node: Any, byte: Any) -> int:
    """The child of a node by a byte, 0 if it has none; ``links`` are ``roots``, ``labels`` and ``first``."""
    roots, labels, first = links
    if node <= INNER:
        return int64(roots[node, byte])  # type: ignore[return-value]
    at, end, wanted = int64(first[node] >> 1), int64(first[node + 1] >> 1), uint64(byte) * _EACH
    while at < end:
        other = load64(labels, at) ^ wanted
        equal = (other - _EACH) & ~other & _TOP  # of the bytes that are, the lowest for certain
        if equal:
            at += int64(trailing_zeros(equal)) >> 3
            return at if at < end else int64(0)  # type: ignore[return-value]
        at += 8
    return int64(0)  # type: ignore[return-value]
