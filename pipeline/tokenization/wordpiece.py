"""WordPiece by likelihood (Schuster and Nakajima 2012): merge the pair with the highest freq(xy) / (freq(x) freq(y)).

That is the merge which raises the likelihood of the text under a unigram model most, relative to its parts. **Ties**:
the pair with the smaller left, then the smaller right id; ids follow the vocabulary. The score is one correctly
rounded division of doubles, so that equal fractions tie.

A merge lowers the frequencies of its two parts, which raises the score of every pair that holds one of them. So each
left piece x keeps its best partner by freq(xy) / freq(y), which only a change of x's own pairs or of freq(y) can move,
and the best of the bests is looked for among the left pieces.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from pipeline.tokenization import merges
from pipeline.tokenization.merges import Pairs, Pieces, Symbols


class Bests(NamedTuple):
    """Per left piece its best pair (-1: none), its count and score when it was chosen, and if that is outdated."""

    pair: np.ndarray  # int32
    count: np.ndarray  # int64
    score: np.ndarray  # float64
    stale: np.ndarray  # bool


@njit(cache=True, nogil=True)
def learn(
    symbols: Symbols, pieces: Pieces, target: int, min_frequency: int, max_length: int
) -> tuple[np.ndarray, Pieces]:
    """As ``bpe.learn``, by the likelihood score; pairs that occur less than ``min_frequency`` times are left alone."""
    pairs, slots = merges.index_pairs(symbols)
    frequency = np.zeros(target, np.int64)
    for at in range(len(symbols.symbol)):
        if symbols.symbol[at] >= 0:
            frequency[symbols.symbol[at]] += symbols.weight[at]
    rows, columns = (
        np.full(target, -1, np.int32),
        np.full(target, -1, np.int32),
    )  # lists of pairs by left, by right
    next_in_row, next_in_column = np.empty(len(pairs.left), np.int32), np.empty(len(pairs.left), np.int32)
    bests = Bests(
        np.full(target, -1, np.int32), np.zeros(target, np.int64), np.zeros(target), np.ones(target, np.bool_)
    )
    learned = np.empty((target, 2), np.int32)
    n = listed = new = 0
    while pieces.size[0] < target and n < target:
        for pair in range(listed, pairs.size[0]):
            left, right = pairs.left[pair], pairs.right[pair]
            next_in_row[pair], rows[left] = rows[left], pair
            next_in_column[pair], columns[right] = columns[right], pair
        listed = pairs.size[0]
        if (
            n > 0
        ):  # the frequencies of the last merge's parts have fallen: their pairs may now be the best of their rows
            for part in (np.int64(learned[n - 1, 0]), np.int64(learned[n - 1, 1]), np.int64(new)):
                pair = int(columns[part])
                while pair >= 0:
                    _offer(pairs, pieces, frequency, bests, pair, min_frequency, max_length)
                    pair = int(next_in_column[pair])
        top = -1
        for left in range(pieces.size[0]):
            if bests.stale[left]:
                bests.stale[left], bests.pair[left], bests.score[left] = False, -1, 0.0
                pair = int(rows[left])
                while pair >= 0:
                    _offer(pairs, pieces, frequency, bests, pair, min_frequency, max_length)
                    pair = int(next_in_row[pair])
            if bests.pair[left] >= 0 and (top < 0 or bests.score[left] > bests.score[top]):
                top = left
        if top < 0:
            break
        pair = bests.pair[top]
        left, right = pairs.left[pair], pairs.right[pair]
        new, pieces = merges.join(pieces, left, right)
        learned[n, 0], learned[n, 1] = left, right
        _, slots, replaced = merges.apply(symbols, pairs, slots, pair, new, n)
        n += 1
        frequency[left] -= replaced
        frequency[right] -= replaced
        frequency[new] += replaced
        bests.stale[left] = bests.stale[right] = bests.stale[new] = True
    return learned[:n], pieces


@njit(cache=True, nogil=True)
def _offer(
    pairs: Pairs,
    pieces: Pieces,
    frequency: np.ndarray,
    bests: Bests,
    pair: int,
    min_frequency: int,
    max_length: int,
) -> None:
    """Let ``pair`` become the best of its row; if it was and has lost occurrences, the row must be looked through."""
    left, right, count = pairs.left[pair], pairs.right[pair], pairs.count[pair]
    if bests.stale[left]:
        return
    best = bests.pair[left]
    if best == pair and count < bests.count[left]:
        bests.stale[left] = True
        return
    if count < min_frequency or count < 1 or pieces.length[left] + pieces.length[right] > max_length:
        return
    score = float(count) / (float(frequency[left]) * float(frequency[right]))
    if best == pair or score > bests.score[left] or (score == bests.score[left] and right < pairs.right[best]):
        bests.pair[left], bests.count[left], bests.score[left] = pair, count, score
