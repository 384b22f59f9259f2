"""Words and phrases of a list, counted in texts.

A phrase is found where it stands by itself, in any case, any whitespace between its words. By itself means: no letter,
digit or mark goes on before or after it. Where a script writes no spaces (``pipeline.text.scripts``) there is no such
place: a phrase is found anywhere, but never from or to the middle of a syllable, and one of a single Han, Kana or Yi
character only by itself, because most words that hold it mean something else. Of phrases that begin at one place the
longest counts, and what it covers is not looked at again.

The list is a trie over the bytes of its lower-cased phrases, its edges in a hash table: its size is that of the list.
A text is read once; where a word begins the trie is walked for as long as it matches.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy import uint64

from pipeline import MillError
from pipeline.text import characters
from pipeline.text.buffers import text_buffers
from pipeline.text.characters import ALONE, CLUSTER, DIGIT, JOINING, LETTER, NUMERAL, SPACE, continues_syllable, kind
from pipeline.text.hashing import slot_of
from pipeline.text.jit import njit
from pipeline.text.kernels import borrow, text_data
from pipeline.text.utf8 import continues, width

LONGEST = 200  # bytes of a phrase


class Phrases(NamedTuple):
    """A list as ``count`` takes it. ``phrases``: lower-cased, sorted, each once; numbers stand for places in it.

    ``edges`` uint64: state and byte, from 1 (0: a free slot); ``targets`` int32: the state that the edge leads to;
    ``ends`` int32: for each state the phrase that ends there, -1 for none. ``single`` bool: for each phrase whether it
    is one Han or Kana character.
    """

    phrases: tuple[str, ...]
    edges: np.ndarray
    targets: np.ndarray
    ends: np.ndarray
    single: np.ndarray


class Counts(NamedTuple):
    """Of n texts: ``words`` int64 [n], how many there are, and ``covered`` int64 [n], those in a phrase that was found.

    ``matches`` int32: the phrases found in text i are ``matches[offsets[i]:offsets[i + 1]]`` (int64 [n + 1]), in order.
    """

    words: np.ndarray
    covered: np.ndarray
    offsets: np.ndarray
    matches: np.ndarray


def prepare(phrases: Sequence[str]) -> Phrases:
    """The list of ``phrases``, empty ones left out. Raises ValueError for one longer than LONGEST bytes."""
    folded = pc.utf8_lower(pa.array([" ".join(phrase.split()) for phrase in phrases], pa.string())).to_pylist()
    known = sorted({phrase for phrase in folded if phrase})
    children: dict[tuple[int, int], int] = {}
    ends = [-1]
    for number, phrase in enumerate(known):
        data = phrase.encode()
        if len(data) > LONGEST:
            raise MillError(f"{phrase[:40]!r}...: a phrase of {len(data)} bytes; the most is {LONGEST}")
        state = 0
        for byte in data:
            state = children.setdefault((state, byte), len(ends))
            if state == len(ends):
                ends.append(-1)
        ends[state] = number
    size = 16
    while size < 2 * len(children):
        size *= 2
    edges, targets = np.zeros(size, np.uint64), np.zeros(size, np.int32)
    keys = np.array([state << 8 | byte for state, byte in children], np.int64)
    _fill(keys, np.array(list(children.values()), np.int32), edges, targets)
    single = np.array([_is_single(phrase) for phrase in known], np.bool_)
    return Phrases(tuple(known), edges, targets, np.array(ends, np.int32), single)


def _is_single(phrase: str) -> bool:
    data = np.frombuffer(phrase.encode(), np.uint8)
    return len(phrase) == 1 and bool(kind(text_data(data), 0, characters.table()) & ALONE)


def count(texts: pa.StringArray, phrases: Phrases) -> Counts:
    """What of ``phrases`` is in ``texts``. A word is a run of letters, digits and marks, or where no spaces are written
    a character or syllable."""
    data, offsets = text_buffers(pc.utf8_lower(texts))
    return Counts(*_count(text_data(data), offsets, *phrases[1:], characters.table()))


@njit(cache=True, nogil=True)
def _slot(key, edges):
    """Where the edge ``key`` is in the table, or the free slot where it would be."""
    slot = slot_of(uint64(key + 1), len(edges) - 1)
    while edges[slot] != 0 and edges[slot] != uint64(key + 1):
        slot = (slot + 1) & (len(edges) - 1)
    return slot


@njit(cache=True, nogil=True)
def _fill(keys, values, edges, targets):
    for k in range(len(keys)):
        slot = _slot(keys[k], edges)
        edges[slot], targets[slot] = uint64(keys[k] + 1), values[k]


_INSIDE = LETTER | DIGIT | NUMERAL | JOINING
_UNSPACED = ALONE | CLUSTER


@njit(cache=True, nogil=True, inline="always")
def _joined(before, this):
    """The class of a character, with the script of what it continues: marks and vowels have none of their own."""
    if not this & JOINING:
        return this
    return this | (CLUSTER if this & LETTER else before & _UNSPACED)


@njit(cache=True, nogil=True)
def _count(data, offsets, edges, targets, ends, single, table) -> tuple:
    data, edges, targets = borrow(data), borrow(edges), borrow(targets)  # pyright: ignore
    ends, single, table = borrow(ends), borrow(single), borrow(table)  # pyright: ignore
    count = len(offsets) - 1
    words, covered = np.zeros(count, np.int64), np.zeros(count, np.int64)
    match_offsets, matches, total = np.zeros(count + 1, np.int64), np.empty(1024, np.int32), 0
    for text in range(count):
        at, end = offsets[text], offsets[text + 1]
        before, stop = 0, at  # class of the character before; end of the last phrase found
        while at < end:
            this = kind(data, at, table)
            if not this & SPACE and _parts(before, this, data, at, end, table):
                begins = this & _INSIDE > 0
                words[text] += begins
                if at >= stop:
                    phrase, stop_here = _longest(data, at, end, edges, targets, ends, table)
                    if phrase >= 0 and single[phrase]:
                        after = kind(data, stop_here, table) if stop_here < end else 0
                        phrase = -1 if (before | after) & _INSIDE else phrase
                    if phrase >= 0:
                        stop = stop_here
                        if total == len(matches):
                            matches = np.concatenate((matches, np.empty_like(matches)))
                        matches[total] = phrase
                        total += 1
                covered[text] += begins and at < stop
            before = _joined(before, this)
            at += width(data[at])
            if before & _INSIDE and not before & _UNSPACED:  # most characters: the rest of an ASCII word
                while at < end and data[at] < 0x80 and table[data[at]] & _INSIDE:
                    before = np.int64(table[data[at]])
                    at += 1
        match_offsets[text + 1] = total
    return words, covered, match_offsets, matches[:total].copy()


@njit(cache=True, nogil=True, inline="always")
def _parts(one, other, data, at, end, table):
    """Whether a word may end after a character of class ``one`` and another begin at ``at``, of class ``other``."""
    if other & JOINING:
        return not one & _INSIDE
    if one & _UNSPACED and other & CLUSTER:
        after = at + width(data[at])
        return not continues_syllable(one, other, kind(data, after, table) if after < end else 0)
    return not (one & _INSIDE and other & _INSIDE) or (one | other) & _UNSPACED > 0


@njit(cache=True, nogil=True)
def _longest(data, at, end, edges, targets, ends, table):
    """``(phrase, stop)`` of the longest phrase that begins at ``at`` and ends where a word may; (-1, -1) for none."""
    phrase, stop, state, last = -1, -1, np.int64(0), np.int64(0)
    while at < end:
        byte = np.int64(data[at])
        size = 1
        if not continues(byte):
            this = kind(data, at, table)
            last = _joined(last, this)
            if this & SPACE:  # any whitespace is the one blank of a phrase
                byte = 32
                size = width(data[at])
                while at + size < end and kind(data, at + size, table) & SPACE:
                    size += width(data[at + size])
        slot = _slot(state << 8 | byte, edges)
        if edges[slot] == 0:
            break
        state = np.int64(targets[slot])
        at += size
        if ends[state] >= 0 and (at == end or _parts(last, kind(data, at, table), data, at, end, table)):
            phrase, stop = np.int64(ends[state]), at
    return phrase, stop
