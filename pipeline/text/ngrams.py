"""How much of a text its repeated word n-grams make up, for n from 2 to 10 (Rae et al. 2021, table A1).

An (n+1)-gram can occur twice only where both n-grams in it do. So each length looks only at the places that the one
before left over, and names an (n+1)-gram by the pair of its n-grams: in prose the work is little more than one table
look-up a word. N-grams are compared by the 64-bit hashes of their words.

Where words are characters or syllables (``pipeline.text.words``), one says less than an English word, and n of them
come again in good prose more often than n words do. There an n-gram is of as many as say about what n words say.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy import uint64

from pipeline.text.hashing import GOLDEN, slot_of
from pipeline.text.jit import njit
from pipeline.text.kernels import borrow

SHORTEST, LONGEST = 2, 10
#: Words of a document that are compared; in a longer one those after are not. Bounds the memory (about 200 MB).
MOST_WORDS = 1 << 22
_MOST_COUNTS = 1 << 18


#: Words of the n-grams of each length.
LENGTHS = np.arange(SHORTEST, LONGEST + 1)


def lengths(units: float) -> np.ndarray:
    """int64 [9]: words of the n-grams of each length, where ``units`` (1 or more) words say what one should."""
    return np.rint(LENGTHS * units).astype(np.int64)


class Workspace(NamedTuple):
    """The words of a document of up to ``len(keys)`` words, and room to work in."""

    keys: np.ndarray  # uint64: in: a hash of each word; then what n-gram starts there
    ahead: np.ndarray  # int32: in: characters of the words before each word, and at last of all words
    table: np.ndarray  # int32: open addressing, place of the first n-gram of a kind + 1
    first: np.ndarray  # int32: place where the n-gram at this place occurs first
    times: np.ndarray  # int32: how often the n-gram occurs that has its first place here
    places: np.ndarray  # int32: places whose n-gram occurs more than once, in order
    counts: np.ndarray  # uint8: n-grams by some bits of their keys: none, one, or more


def workspace(longest: int) -> Workspace:
    """For documents of up to ``longest`` bytes or words. Memory is touched only as it is used."""
    words = min(longest, MOST_WORDS)
    table = np.empty(_table_size(words), np.int32)
    first, times, places = (np.empty(words, np.int32) for _ in range(3))
    keys, ahead = np.empty(words, np.uint64), np.empty(words + 1, np.int32)
    return Workspace(keys, ahead, table, first, times, places, np.empty(_counts_size(words), np.uint8))


@njit(cache=True, nogil=True)
def repeats(space: Workspace, words: int, shortest: int, sizes: np.ndarray, top: np.ndarray, twice: np.ndarray) -> None:
    """Counts the characters in repeated n-grams of the ``words`` words in ``space``, those between words left out.

    An n-gram is of ``sizes[n - 2]`` words (``lengths``). For each n fills row n - 2 of ``top`` int64 [9, 2]: how often
    the most frequent n-gram occurs (the earliest of several) and its characters; and, from n = ``shortest`` on, of
    ``twice`` int64 [9, 2]: characters of n-grams that were met before, reading on after each one that was (datatrove);
    of all n-grams that occur more than once, overlapping (dolma).
    """
    keys, table, first = borrow(space.keys), borrow(space.table), borrow(space.first)
    times, places, ahead = borrow(space.times), borrow(space.places), borrow(space.ahead)
    top[:] = 0
    twice[:] = 0
    left = _pair(keys, borrow(space.counts), places, words)  # places that are still looked at
    row = 0
    for size in range(SHORTEST, min(sizes[-1], words) + 1):
        asked = size == sizes[row]
        if asked:
            top[row, 0], top[row, 1] = 1, ahead[size]
        if left >= 2:
            _name(keys, table, first, times, places, left)
            left = _keep_repeated(first, times, places, left)
            if asked:
                for place in places[:left]:
                    if times[first[place]] > top[row, 0]:  # the places come in order, so the earliest of several wins
                        top[row, 0], top[row, 1] = times[first[place]], ahead[place + size] - ahead[place]
                if row + SHORTEST >= shortest:
                    twice[row, 0], twice[row, 1] = _count(first, times, places, ahead, left, size)
            left = _lengthen(keys, first, places, left)
        row += asked


@njit(cache=True, nogil=True)
def _pair(keys, counts, places, words):
    """Turns the ``keys`` of words into those of pairs, and keeps the places of such that may occur more than once.

    Most pairs of a text occur once, which a count by some bits of their keys shows without a branch.
    """
    mask = _counts_size(words) - 1
    counts[: mask + 1] = 0
    for k in range(words - 1):
        keys[k] = uint64(keys[k] * GOLDEN) ^ keys[k + 1]
        slot = slot_of(keys[k], mask)
        counts[slot] = min(counts[slot] + 1, 2)
    kept = 0
    for k in range(words - 1):
        places[kept] = k
        kept += counts[slot_of(keys[k], mask)] > 1
    return kept


@njit(cache=True, nogil=True)
def _name(keys, table, first, times, places, left):
    """Sets ``first`` and ``times`` of the n-grams at ``places[:left]`` by their ``keys``."""
    mask = _table_size(left) - 1
    table[: mask + 1] = 0
    for place in places[:left]:
        key = keys[place]
        slot = slot_of(key, mask)
        while table[slot] and keys[table[slot] - 1] != key:
            slot = (slot + 1) & mask
        if table[slot] == 0:
            table[slot] = place + 1
            times[place] = 0
        first[place] = table[slot] - 1
        times[first[place]] += 1


@njit(cache=True, nogil=True)
def _keep_repeated(first, times, places, left):
    """Keeps the places whose n-gram occurs more than once; how many they are."""
    kept = 0
    for place in places[:left]:
        places[kept] = place
        kept += times[first[place]] > 1
    return kept


@njit(cache=True, nogil=True)
def _count(first, times, places, ahead, left, n):
    """Characters in n-grams met before, without overlap; and in all that are left, with it."""
    met, every, resume = 0, 0, 0
    for place in places[:left]:
        times[first[place]] = 0  # from here on: whether it was met
    for place in places[:left]:
        size = ahead[place + n] - ahead[place]
        every += size
        if place >= resume:
            if times[first[place]]:
                met += size
                resume = place + n
            times[first[place]] = 1
    return met, every


@njit(cache=True, nogil=True)
def _lengthen(keys, first, places, left):
    """The places where an (n+1)-gram may be repeated, with its key: the first places of its two n-grams."""
    kept = 0
    for k in range(left - 1):
        place = places[k]  # no branch: whether the next place is among them cannot be foreseen
        keys[place] = uint64(first[place]) << uint64(32) | uint64(first[place + 1])
        places[kept] = place
        kept += places[k + 1] == place + 1
    return kept


@njit(cache=True, nogil=True)
def _counts_size(words):
    """Counts for a number of words: a power of two, up to what a processor's cache holds."""
    size = 64
    while size < min(8 * words, _MOST_COUNTS):
        size *= 2
    return size


@njit(cache=True, nogil=True)
def _table_size(entries):
    size = 16
    while size < 2 * entries:
        size *= 2
    return size
