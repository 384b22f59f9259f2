"""Byte-pair encoding: over bytes (Radford 2019, GPT-2) and over characters (Sennrich 2016).

The pair that occurs most often is merged, again and again. **Ties**: of equally frequent pairs the one whose left piece
came first into the vocabulary, then whose right piece did; the alphabet comes first, in the order of its characters.
That is Hugging Face's rule, whose merges for byte-level BPE ours equal.
"""

from __future__ import annotations

import numpy as np

from pipeline.text.jit import njit
from pipeline.text.kernels import ZERO
from pipeline.tokenization.training import merges
from pipeline.tokenization.training.merges import Pairs, Pieces, Symbols


@njit(cache=True, nogil=True)
def learn(
    symbols: Symbols,
    pieces: Pieces,
    target: int,
    min_frequency: int,
    max_length: int,
    strings: np.ndarray,
    bounds: np.ndarray,
    shared: int | np.int64 = ZERO,
) -> tuple[np.ndarray, Pieces]:
    """Merge until there are ``target`` pieces or no pair occurs ``min_frequency`` times.

    Returns the merges as int32 [n, 2] ids of pieces, in order, and all pieces; ``symbols`` is left as the training
    text's segmentation. No piece longer than ``max_length`` characters is made, and none of the strings
    ``strings[bounds[i]:bounds[i + 1]]`` (alphabet.forbidden): their parts stay apart.
    ``shared``: how much shorter a piece is than its parts where the right one is ``inner``.
    """
    pairs, slots = merges.index_pairs(symbols, target)
    return _learn(symbols, pairs, slots, pieces, target, min_frequency, max_length, strings, bounds, shared)


@njit(cache=True, nogil=True)
def _learn(
    symbols: Symbols,
    pairs: Pairs,
    slots: np.ndarray,
    pieces: Pieces,
    target: int,
    min_frequency: int,
    max_length: int,
    strings: np.ndarray,
    bounds: np.ndarray,
    shared: int | np.int64,
) -> tuple[np.ndarray, Pieces]:
    pairs = merges.lend(pairs)
    heap_count, heap_pair = np.empty(1024, np.int64), np.empty(1024, np.int32)
    size = n = 0
    rarest = pairs.count[: pairs.size[0]].max() + 1 if pairs.size[0] else 0  # what occurs less waits outside the heap
    learned = np.empty((1024, 2), np.int32)
    while pieces.size[0] < target:
        if size == 0:
            above, rarest = rarest, max(rarest // 2, min_frequency, 1)
            if rarest >= above:
                break
            for pair in range(pairs.size[0]):
                if rarest <= pairs.count[pair] < above and may_merge(pairs, pair, pieces, rarest, max_length, shared):
                    heap_count, heap_pair = push(heap_count, heap_pair, size, pairs, pair)
                    size += 1
            continue
        pair = heap_pair[0]
        count = pairs.count[pair]
        if count != heap_count[0] and count >= rarest:  # it has lost occurrences since: back to where it belongs now
            heap_count[0] = count
            sink(heap_count, heap_pair, size, pairs)
            continue
        size -= 1
        heap_count[0], heap_pair[0] = heap_count[size], heap_pair[size]
        sink(heap_count, heap_pair, size, pairs)
        if count < rarest:
            continue
        left, right = pairs.left[pair], pairs.right[pair]
        new, pieces = merges.join(pieces, left, right, strings, bounds, _length(pieces, left, right, shared))
        if new < 0:
            continue
        if n == len(learned):
            learned = np.concatenate((learned, np.empty_like(learned)))
        learned[n, 0], learned[n, 1] = left, right
        gained, slots, _ = merges.apply(symbols, pairs, slots, pair, new)
        n += 1
        for pair in gained:  # what is too rare now comes back here, or where all pairs are looked at
            if may_merge(pairs, pair, pieces, rarest, max_length, shared):
                heap_count, heap_pair = push(heap_count, heap_pair, size, pairs, pair)
                size += 1
    return learned[:n], pieces


@njit(cache=True, nogil=True, inline="always")
def _length(pieces: Pieces, left: int, right: int, shared: int | np.int64) -> int:
    return int(pieces.length[left] + pieces.length[right]) - shared * pieces.inner[right]


@njit(cache=True, nogil=True, inline="always")
def may_merge(
    pairs: Pairs, pair: int, pieces: Pieces, min_frequency: int, max_length: int, shared: int | np.int64
) -> bool:
    longest = _length(pieces, pairs.left[pair], pairs.right[pair], shared)
    return int(pairs.count[pair]) >= min_frequency and longest <= max_length


@njit(cache=True, nogil=True, inline="always")
def _before(pairs: Pairs, count: int, pair: int, other_count: int, other: int) -> bool:
    """Whether ``pair`` is merged before ``other``."""
    if count != other_count:
        return count > other_count
    if pairs.left[pair] != pairs.left[other]:
        return pairs.left[pair] < pairs.left[other]
    return pairs.right[pair] < pairs.right[other]


@njit(cache=True, nogil=True)
def push(
    heap_count: np.ndarray, heap_pair: np.ndarray, size: int, pairs: Pairs, pair: int
) -> tuple[np.ndarray, np.ndarray]:
    if size == len(heap_pair):
        heap_count = np.concatenate((heap_count, np.empty_like(heap_count)))
        heap_pair = np.concatenate((heap_pair, np.empty_like(heap_pair)))
    count, at = pairs.count[pair], size
    while at > 0:
        parent = (at - 1) >> 1
        if not _before(pairs, count, pair, heap_count[parent], heap_pair[parent]):
            break
        heap_count[at], heap_pair[at] = heap_count[parent], heap_pair[parent]
        at = parent
    heap_count[at], heap_pair[at] = count, pair
    return heap_count, heap_pair


@njit(cache=True, nogil=True)
def sink(heap_count: np.ndarray, heap_pair: np.ndarray, size: int, pairs: Pairs) -> None:
    """Restore the heap of ``size`` entries after its top has changed."""
    if size == 0:
        return
    count, pair, at = heap_count[0], heap_pair[0], 0
    while True:
        child = 2 * at + 1
        if child >= size:
            break
        if child + 1 < size and _before(
            pairs, heap_count[child + 1], heap_pair[child + 1], heap_count[child], heap_pair[child]
        ):
            child += 1
        if not _before(pairs, heap_count[child], heap_pair[child], count, pair):
            break
        heap_count[at], heap_pair[at] = heap_count[child], heap_pair[child]
        at = child
    heap_count[at], heap_pair[at] = count, pair
