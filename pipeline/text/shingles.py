"""Shingles: the n-grams of words that near duplicates have in common (Broder 1997).

``words``, ``shingles`` and ``shingle_hash`` are the definition, in plain Python for anyone to check
against; the kernels below compute the same straight from UTF-8 at some hundred megabytes a second.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import pyarrow as pa
from numpy import uint64

from pipeline.text import folding, scripts
from pipeline.text.buffers import text_buffers
from pipeline.text.folding import ALONE
from pipeline.text.hashing import FNV_OFFSET, FNV_PRIME, GOLDEN, fnv_step, mix
from pipeline.text.jit import int64, njit
from pipeline.text.kernels import between64, borrow, load64, trailing_zeros
from pipeline.text.runs import WINDOW, edges, without_lowest
from pipeline.text.utf8 import decode

#: What takes back the steps of FNV-1a over the zero bytes after a word of 0 to 8 bytes: each only multiplied.
_UNDONE = np.array([pow(int(FNV_PRIME), size - 8, 2**64) for size in range(9)], np.uint64)
_ONES, _TOPS = uint64(0x0101010101010101), uint64(0x8080808080808080)
#: Added to a byte of ASCII, they set its highest bit from "A" on and past "Z".
_TO_A, _PAST_Z = uint64(_ONES * uint64(0x80 - ord("A"))), uint64(_ONES * uint64(0x80 - ord("Z") - 1))


def words(text: str) -> Iterator[str]:
    """Maximal runs of letters, marks, numbers and ``_``, each character in lower case on its own.

    Like ``re.findall(r"\\w+", text.lower())``, but combining marks do not end a word, and a character of a
    script without spaces (``pipeline.text.scripts``) is a word by itself.
    """
    edges = [at for at in range(len(text) + 1) if _is_edge(text, at)]
    for start, end in pairwise(edges):
        if folding.in_word(text[start]):
            yield "".join(folding.lower(character) for character in text[start:end])


def _is_edge(text: str, at: int) -> bool:
    """Whether a word or a gap ends before ``text[at]``."""
    if at in (0, len(text)):
        return True
    before, after = folding.in_word(text[at - 1]), folding.in_word(text[at])
    if before and after:
        return scripts.is_unspaced(text[at - 1]) or scripts.is_unspaced(text[at])
    return before != after


def shingles(text: str, ngram: int) -> list[tuple[str, ...]]:
    """All runs of ``ngram`` words; of a shorter text the one run of all its words; of a text without words
    none.
    """
    listed = list(words(text))
    return [tuple(listed[i : i + ngram]) for i in range(max(len(listed) - ngram + 1, min(len(listed), 1)))]


def shingle_hash(shingle: Sequence[str]) -> int:
    """64 bits: a polynomial over the words' FNV-1a hashes (over code points), each and the whole mixed."""
    total = 0
    for word in shingle:
        h = 0xCBF29CE484222325
        for character in word:
            h = (h ^ ord(character)) * 0x100000001B3 % 2**64
        total = (total + _mixed(h)) * 0x9E3779B97F4A7C15 % 2**64
    return _mixed(total)


def _mixed(h: int) -> int:
    h = (h ^ h >> 32) * 0xD6E8FEB86659FD93 % 2**64
    return h ^ h >> 32


def shingle_sets(texts: pa.StringArray, ngram: int) -> tuple[np.ndarray, np.ndarray]:
    """``(hashes, offsets)``: the set of text ``i``, uint64 ascending, is ``hashes[offsets[i]:offsets[i +
    1]]``.

    Two different shingles of a pair of texts share a hash with probability 2**-64, which is what "exact"
    means in all that compares these sets.
    """
    data, offsets = text_buffers(texts)
    return _shingle_sets(data, offsets, folding.word_table(), ngram)


def word_counts(texts: pa.StringArray) -> np.ndarray:
    """int64 [n]: the words of each text."""
    return words_between(*text_buffers(texts))


def words_between(data: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """int64 [n]: the words of ``data[edges[i]:edges[i + 1]]`` for each of n + 1 ascending edges; none for no edge."""
    return _word_counts(data, edges, folding.word_table()) if len(edges) else np.zeros(0, np.int64)


@njit(cache=True, nogil=True)
def _word_counts(data, offsets, table):
    hashes, counts = scratch(offsets), np.zeros(len(offsets) - 1, np.int64)
    for i in range(len(counts)):
        counts[i] = _hash_words(data, offsets[i], offsets[i + 1], table, hashes)
    return counts


@njit(cache=True, nogil=True)
def scratch(offsets):
    """Room for the hashes of the longest text: a word and the gap after it take at least two bytes (or
    three alone).
    """
    longest = 0
    for i in range(len(offsets) - 1):
        longest = max(longest, offsets[i + 1] - offsets[i])
    return np.empty(longest // 2 + 1, np.uint64)


@njit(cache=True, nogil=True)
def hash_shingles(data, start, end, table, ngram, out):
    """Write the hash of each shingle of ``data[start:end]``, in order and with repeats, to ``out``; returns
    how many.

    ``out`` is uint64 with room for half the bytes and one more, rounded down.
    """
    count = _hash_words(data, start, end, table, out)
    return roll(out, count, min(ngram, count))


@njit(cache=True, nogil=True)
def roll(hashes, count, width):
    """Turn ``hashes[:count]`` in place into those of all runs of ``width`` of them; returns the number of runs."""
    if width == 0 or width > count:
        return 0
    total, highest = uint64(0), uint64(1)
    for i in range(width):
        total = uint64((total + hashes[i]) * GOLDEN)
        highest = uint64(highest * GOLDEN)
    for i in range(width, count):
        leaving = hashes[i - width]
        hashes[i - width] = mix(total)
        total = uint64((uint64(total - uint64(leaving * highest)) + hashes[i]) * GOLDEN)
    hashes[count - width] = mix(total)
    return count - width + 1


@njit(cache=True, nogil=True)
def _hash_words(data, start, end, table, out):
    data, table, out = borrow(data), borrow(table), borrow(out)
    count, at, inside, h = 0, start, False, FNV_OFFSET
    while at < end:
        if not inside and data[at] < 0x80 and at + WINDOW + 8 <= len(data):  # most words are ASCII throughout
            members = between64(data, at, 32, ord("a"), ord("z")) | between64(data, at, 0, ord("0"), ord("9"))
            members |= between64(data, at, 0, ord("_"), ord("_"))
            size = min(WINDOW, end - at, int64(trailing_zeros(between64(data, at, 0, 0x80, 0xFF))))
            starts, ends, rest = edges(members, uint64(0), size, at + size == end)
            while ends:
                word = int64(trailing_zeros(starts))
                out[count] = mix(_ascii_word(data, at + word, int64(trailing_zeros(ends)) - word))
                count, starts, ends = count + 1, without_lowest(starts), without_lowest(ends)
            at += rest
            if rest == size or (rest and size == WINDOW):
                continue
        code, at = decode(data, at)
        entry = table[code]
        if inside and (entry == 0 or entry & ALONE):
            out[count] = mix(h)
            count, inside, h = count + 1, False, FNV_OFFSET
        if entry == 0:
            continue
        h = fnv_step(h, entry & ~ALONE)
        if entry & ALONE:
            out[count] = mix(h)
            count, h = count + 1, FNV_OFFSET
        else:
            inside = True
    if inside:
        out[count] = mix(h)
        count += 1
    return count


@njit(cache=True, nogil=True, forceinline=True)
def _ascii_word(data, start, size):
    """FNV-1a of a word of ASCII letters, digits and ``_`` in lower case, which is not empty; eight bytes from its last
    on are inside the data."""
    h = FNV_OFFSET
    while size > 8:
        h = _eight_steps(h, _lower8(load64(data, start)))
        start, size = start + 8, size - 8
    rest = uint64(64 - 8 * size)
    return uint64(_eight_steps(h, _lower8(load64(data, start) & ~uint64(0) >> rest)) * _UNDONE[size])


@njit(cache=True, nogil=True, forceinline=True)
def _eight_steps(h, letters):
    for k in range(8):
        h = fnv_step(h, letters >> uint64(8 * k) & uint64(0xFF))
    return h


@njit(cache=True, nogil=True, forceinline=True)
def _lower8(letters):
    """Eight bytes of ASCII in lower case."""
    from_a, past_z = uint64(letters + _TO_A), uint64(letters + _PAST_Z)
    return letters | (from_a & ~past_z & _TOPS) >> uint64(2)


@njit(cache=True, nogil=True)
def _shingle_sets(data, offsets, table, ngram):
    hashes = scratch(offsets)
    sets = np.empty(1024, np.uint64)
    set_offsets = np.zeros(len(offsets), np.int64)
    size = 0
    for i in range(len(offsets) - 1):
        count = hash_shingles(data, offsets[i], offsets[i + 1], table, ngram, hashes)
        if size + count > len(sets):
            larger = np.empty(2 * (size + count), np.uint64)
            larger[:size] = sets[:size]
            sets = larger
        hashes[:count].sort()
        for j in range(count):
            if j == 0 or hashes[j] != hashes[j - 1]:
                sets[size] = hashes[j]
                size += 1
        set_offsets[i + 1] = size
    return sets[:size].copy(), set_offsets
