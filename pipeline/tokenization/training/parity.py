"""Parity-aware BPE (Foroutan 2025): at each merge the group of text that is written worst chooses its best pair.

Plain BPE merges what is most frequent in all text, and so what the largest language needs; the others pay for it in
tokens. Here every group (a language, or a domain) keeps counts of its own. The group with the fewest units a token is
next: units are lines of parallel text, where there is such, or else characters of the text that is trained on. Its most
frequent pair is merged, in the text of all. Ties: the group whose name comes first; pairs as in plain BPE.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from pipeline.text.jit import njit
from pipeline.text.kernels import ZERO
from pipeline.tokenization.training import bpe, merges
from pipeline.tokenization.training.merges import Pairs, Pieces, Symbols

VERSION = 1


@dataclasses.dataclass
class _Group:
    """The text of a group as it is merged so far; ``tokens`` of it, and ``units`` to be held against them."""

    symbols: Symbols
    pairs: Pairs
    slots: np.ndarray
    heap: tuple[np.ndarray, np.ndarray]
    size: int
    tokens: int
    units: float


def group(symbols: np.ndarray, bounds: np.ndarray, frequency: np.ndarray, units: float, capacity: int) -> _Group:
    """A group of words, as ``merges.link`` takes them, that say ``units``, for up to ``capacity`` pieces."""
    tokens = int((np.diff(bounds) * frequency).sum())
    linked = merges.link(symbols, bounds, frequency)
    pairs, slots = merges.index_pairs(linked, capacity)
    heap = np.empty(1024, np.int64), np.empty(1024, np.int32)
    return _Group(linked, pairs, slots, heap, 0, tokens, units)


def learn(
    groups: Mapping[str, _Group],
    judged: Mapping[str, _Group],
    pieces: Pieces,
    target: int,
    min_frequency: int,
    longest: int,
    forbidden: tuple[np.ndarray, np.ndarray],
) -> tuple[np.ndarray, Pieces, dict[str, int]]:
    """Merge until there are ``target`` pieces or no group has a pair that occurs ``min_frequency`` times.

    ``judged`` are the texts by which the worst group is found, by the names of ``groups``. Returns the merges, int32
    [n, 2], the pieces, and how many merges each group chose.
    """
    chosen = dict.fromkeys(groups, 0)
    for one in groups.values():
        *heap, one.size = _fill(one.pairs, *one.heap, pieces, min_frequency, longest)
        one.heap = heap[0], heap[1]
    waiting = sorted(groups)
    learned: list[tuple[int, int]] = []
    while pieces.size[0] < target and waiting:
        name = min(waiting, key=lambda name: judged[name].units / max(judged[name].tokens, 1))
        worst = groups[name]
        pair, worst.size = _best(worst.pairs, *worst.heap, worst.size, min_frequency)
        if pair < 0:
            waiting.remove(name)
            continue
        left, right = int(worst.pairs.left[pair]), int(worst.pairs.right[pair])
        length = int(pieces.length[left] + pieces.length[right])
        new, pieces = merges.join(pieces, left, right, *forbidden, length)
        if new < 0:
            continue
        for one in {id(one): one for one in (*groups.values(), *judged.values())}.values():
            _merge(one, left, right, new, pieces, min_frequency, longest)
        learned.append((left, right))
        chosen[name] += 1
    return np.array(learned, np.int32).reshape(-1, 2), pieces, chosen


def _merge(one: _Group, left: int, right: int, new: int, pieces: Pieces, least: int, longest: int) -> None:
    pair = _found(one.pairs, one.slots, left, right)
    if pair < 0:
        return
    gained, one.slots, replaced = merges.apply(one.symbols, one.pairs, one.slots, pair, new)
    one.tokens -= replaced
    *heap, one.size = _add(gained, one.pairs, *one.heap, one.size, pieces, least, longest)
    one.heap = heap[0], heap[1]


@njit(cache=True, nogil=True)
def _fill(pairs, heap_count, heap_pair, pieces, least, longest):
    """The heap of all pairs that may merge, and its size."""
    every = np.arange(pairs.size[0]).astype(np.int32)
    return _add(every, pairs, heap_count, heap_pair, 0, pieces, least, longest)


@njit(cache=True, nogil=True)
def _add(gained, pairs, heap_count, heap_pair, size, pieces, least, longest):
    for pair in gained:
        if bpe.may_merge(pairs, pair, pieces, least, longest, ZERO):
            heap_count, heap_pair = bpe.push(heap_count, heap_pair, size, pairs, pair)
            size += 1
    return heap_count, heap_pair, size


@njit(cache=True, nogil=True)
def _best(pairs, heap_count, heap_pair, size, least):
    """``(pair, size)``: the most frequent pair, taken from the heap; -1 if none occurs ``least`` times."""
    while size > 0:
        pair = heap_pair[0]
        count = pairs.count[pair]
        if count != heap_count[0]:  # it has lost occurrences since: back to where it belongs now
            heap_count[0] = count
            bpe.sink(heap_count, heap_pair, size, pairs)
            continue
        if count < least or count < 1:
            break
        size -= 1
        heap_count[0], heap_pair[0] = heap_count[size], heap_pair[size]
        bpe.sink(heap_count, heap_pair, size, pairs)
        return int(pair), size
    return -1, size


@njit(cache=True, nogil=True)
def _found(pairs, slots, left, right):
    """The index of a pair, -1 if the group has never had it."""
    mask = len(slots) - 1
    slot = merges.pair_slot(left, right, mask)
    while slots[slot] != 0:
        pair = slots[slot] - 1
        if pairs.left[pair] == left and pairs.right[pair] == right:
            return int(pair)
        slot = (slot + 1) & mask
    return -1
