"""WordPiece by likelihood (Schuster and Nakajima 2012): merge the pair with the highest freq(xy) / (freq(x) freq(y)).

That is the merge which raises the likelihood of the text under a unigram model most, relative to its parts. **Ties**:
the pair with the smaller left, then the smaller right id; ids follow the vocabulary. The score is one correctly
rounded division of doubles, so that equal fractions tie.

A merge lowers the frequencies of its two parts, which raises the score of every pair that holds one of them. So each
left piece x keeps its best partner by freq(xy) / freq(y), which only a change of x's own pairs or of freq(y) can move,
and a tournament among the left pieces keeps the best of the bests: a merge costs what it changes, whatever the size of
the vocabulary.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from pipeline.text.jit import njit
from pipeline.text.kernels import borrow
from pipeline.tokenization.training import merges
from pipeline.tokenization.training.merges import Pairs, Pieces, Symbols


class Bests(NamedTuple):
    """Per left piece its best pair (-1: none), its count and score when it was chosen, and if that is outdated.

    ``winners`` is a binary tree over the left pieces: node i holds the better of its children 2 i and 2 i + 1 (-1:
    none), node 1 the best of all. ``waiting`` lists the outdated pieces, ``size[0]`` of them.
    """

    pair: np.ndarray  # int32
    count: np.ndarray  # int64
    score: np.ndarray  # float64
    stale: np.ndarray  # bool
    winners: np.ndarray  # int32
    waiting: np.ndarray  # int32
    size: np.ndarray  # int64 [1]


class Lists(NamedTuple):
    """Linked lists of the pairs by left piece (``rows``) and by right piece (``columns``), -1 at an end.

    Whoever walks a list takes out the pairs that have become too rare to merge; ``_enter`` puts back those that
    occur more often again.
    """

    rows: np.ndarray  # int32, first pair per left piece
    columns: np.ndarray  # int32, first pair per right piece
    next_in_row: np.ndarray  # int32, per pair
    next_in_column: np.ndarray  # int32, per pair
    in_row: np.ndarray  # bool, per pair
    in_column: np.ndarray  # bool, per pair


@njit(cache=True, nogil=True)
def _no_lists(target: int, room: int) -> Lists:
    return Lists(
        np.full(target, -1, np.int32),
        np.full(target, -1, np.int32),
        np.empty(room, np.int32),
        np.empty(room, np.int32),
        np.zeros(room, np.bool_),
        np.zeros(room, np.bool_),
    )


@njit(cache=True, nogil=True)
def _enter(lists: Lists, pairs: Pairs, pair: int | np.int32) -> None:
    """Put ``pair`` into both its lists where it is not in them."""
    left, right = pairs.left[pair], pairs.right[pair]
    if not lists.in_row[pair]:
        lists.next_in_row[pair], lists.rows[left], lists.in_row[pair] = lists.rows[left], pair, True
    if not lists.in_column[pair]:
        lists.next_in_column[pair], lists.columns[right], lists.in_column[pair] = lists.columns[right], pair, True


@njit(cache=True, nogil=True)
def _no_bests(target: int) -> Bests:
    leaves = 1
    while leaves < target:
        leaves *= 2
    return Bests(
        np.full(target, -1, np.int32),
        np.zeros(target, np.int64),
        np.zeros(target),
        np.zeros(target, np.bool_),
        np.full(2 * leaves, -1, np.int32),
        np.empty(target, np.int32),
        np.zeros(1, np.int64),
    )


@njit(cache=True, nogil=True)
def learn(
    symbols: Symbols,
    pieces: Pieces,
    target: int,
    min_frequency: int,
    max_length: int,
    strings: np.ndarray,
    bounds: np.ndarray,
) -> tuple[np.ndarray, Pieces]:
    """As ``bpe.learn``, by the likelihood score; pairs that occur less than ``min_frequency`` times are left alone."""
    pairs, slots = merges.index_pairs(symbols, target)
    frequency = np.zeros(target, np.int64)
    for at in range(len(symbols.symbol)):
        if symbols.symbol[at] >= 0:
            frequency[symbols.symbol[at]] += merges.weight(symbols, at)
    lists = _no_lists(target, len(pairs.left))
    for pair in range(pairs.size[0]):
        _enter(lists, pairs, pair)
    bests = _no_bests(target)
    for left in range(pieces.size[0]):
        _outdate(bests, left)
    learned = np.empty((target, 2), np.int32)
    n = new = 0
    while pieces.size[0] < target and n < target:
        if n > 0:  # the last merge's parts are rarer now: their pairs may have become the best of their rows
            for part in (np.int64(learned[n - 1, 0]), np.int64(learned[n - 1, 1]), np.int64(new)):
                _offer_column(pairs, pieces.length, frequency, bests, lists, part, min_frequency, max_length)
        _search_rows(pairs, pieces.length, frequency, bests, lists, min_frequency, max_length)
        top = int(bests.winners[1])
        if top < 0:
            break
        pair = int(bests.pair[top])
        left, right = int(pairs.left[pair]), int(pairs.right[pair])
        length = int(pieces.length[left] + pieces.length[right])
        new, pieces = merges.join(pieces, left, right, strings, bounds, length)
        learned[n, 0], learned[n, 1] = left, right
        gained, slots, replaced = merges.apply(symbols, pairs, slots, pair, new)
        for other in gained:
            _enter(lists, pairs, other)
        n += 1
        frequency[left] -= replaced
        frequency[right] -= replaced
        frequency[new] += replaced
        for changed in (np.int64(left), np.int64(right), np.int64(new)):
            _outdate(bests, int(changed))
    return learned[:n], pieces


@njit(cache=True, nogil=True)
def _offer_column(
    pairs: Pairs,
    length: np.ndarray,
    frequency: np.ndarray,
    bests: Bests,
    lists: Lists,
    right: int | np.int64,
    min_frequency: int,
    max_length: int,
) -> None:
    """Offer every pair that ends in ``right`` to its row."""
    pairs, bests, length, frequency = merges.lend(pairs), _lend(bests), borrow(length), borrow(frequency)
    following, listed = borrow(lists.next_in_column), borrow(lists.in_column)
    last, pair = -1, int(lists.columns[right])
    while pair >= 0:
        after = int(following[pair])
        if _offer(pairs, length, frequency, bests, pair, min_frequency, max_length):
            _compete(bests, int(pairs.left[pair]))
        if pairs.count[pair] >= min_frequency:
            last = pair
        else:
            listed[pair] = False
            if last < 0:
                lists.columns[right] = after
            else:
                following[last] = after
        pair = after


@njit(cache=True, nogil=True)
def _search_rows(
    pairs: Pairs,
    length: np.ndarray,
    frequency: np.ndarray,
    bests: Bests,
    lists: Lists,
    min_frequency: int,
    max_length: int,
) -> None:
    """Find the best pair of every outdated row."""
    pairs, bests, length, frequency = merges.lend(pairs), _lend(bests), borrow(length), borrow(frequency)
    following, listed = borrow(lists.next_in_row), borrow(lists.in_row)
    for k in range(bests.size[0]):
        left = int(bests.waiting[k])
        bests.stale[left], bests.pair[left], bests.score[left] = False, -1, 0.0
        last, pair = -1, int(lists.rows[left])
        while pair >= 0:
            after = int(following[pair])
            _offer(pairs, length, frequency, bests, pair, min_frequency, max_length)
            if pairs.count[pair] >= min_frequency:
                last = pair
            else:
                listed[pair] = False
                if last < 0:
                    lists.rows[left] = after
                else:
                    following[last] = after
            pair = after
        _compete(bests, left)
    bests.size[0] = 0


@njit(cache=True, nogil=True, inline="always")
def _lend(bests: Bests) -> Bests:
    return Bests(
        borrow(bests.pair),
        borrow(bests.count),
        borrow(bests.score),
        borrow(bests.stale),
        borrow(bests.winners),
        borrow(bests.waiting),
        borrow(bests.size),
    )


@njit(cache=True, nogil=True)
def _outdate(bests: Bests, left: int) -> None:
    if not bests.stale[left]:
        bests.stale[left] = True
        bests.waiting[bests.size[0]] = left
        bests.size[0] += 1


@njit(cache=True, nogil=True)
def _compete(bests: Bests, left: int) -> None:
    """Carry the new score of ``left`` up the tournament."""
    node = len(bests.winners) // 2 + left
    bests.winners[node] = left if bests.pair[left] >= 0 else -1
    while node > 1:
        node >>= 1
        one, other = bests.winners[2 * node], bests.winners[2 * node + 1]
        wins = other >= 0 and (one < 0 or bests.score[other] > bests.score[one])
        bests.winners[node] = other if wins else one


@njit(cache=True, nogil=True)
def _offer(
    pairs: Pairs,
    length: np.ndarray,
    frequency: np.ndarray,
    bests: Bests,
    pair: int,
    min_frequency: int,
    max_length: int,
) -> bool:
    """Let ``pair`` become the best of its row; whether it did. If it was and is rarer now, the row is outdated."""
    left, right, count = pairs.left[pair], pairs.right[pair], pairs.count[pair]
    if bests.stale[left]:
        return False
    best = bests.pair[left]
    if best == pair and count < bests.count[left]:
        _outdate(bests, left)
        return False
    if count < min_frequency or count < 1 or length[left] + length[right] > max_length:
        return False
    score = float(count) / (float(frequency[left]) * float(frequency[right]))
    if best == pair or score > bests.score[left] or (score == bests.score[left] and right < pairs.right[best]):
        bests.pair[left], bests.count[left], bests.score[left] = pair, count, score
        return True
    return False
