"""What a fastText classifier sees of a text: rows of its input matrix, for words, n-grams of words and of characters.

As ``Dictionary::getLine`` of fastText 0.9 has it, hash for hash, so that its library reads our models.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy import uint64

from pipeline.text.hashing import FASTTEXT_OFFSET, fasttext_hash, fasttext_step, fnv
from pipeline.text.jit import njit
from pipeline.text.utf8 import continues, following

#: What fastText puts after every line.
END = "</s>"


class Dictionary(NamedTuple):
    """``words``: UTF-8, the most frequent first; ``counts`` int64; ``keys`` uint64 and ``rows`` int32: a hash table."""

    words: tuple[bytes, ...]
    counts: np.ndarray
    keys: np.ndarray
    rows: np.ndarray


class Shape(NamedTuple):
    """Words of an n-gram at most; characters of one from ``shortest`` to ``longest`` (0: none); rows for n-grams."""

    word_ngrams: int
    shortest: int
    longest: int
    buckets: int


def dictionary(data: np.ndarray, offsets: np.ndarray, min_count: int) -> Dictionary:
    """The words that occur ``min_count`` times or more in texts as ``text_buffers`` gives them, and the end of line."""
    keys, starts, ends = _tokens(data, offsets)
    _, first, times = np.unique(keys, return_index=True, return_counts=True)
    entries = [(END.encode(), len(offsets) - 1)]
    entries += [
        (data[starts[at] : ends[at]].tobytes(), int(count))
        for at, count in zip(first, times, strict=True)
        if count >= min_count
    ]
    entries.sort(key=lambda entry: (-entry[1], entry[0]))
    words = tuple(word for word, _ in entries)
    size = 16
    while size < 2 * len(words):
        size *= 2
    table = np.zeros(size, np.uint64), np.full(size, -1, np.int32)
    joined = np.frombuffer(b"".join(words), np.uint8)
    _enter(joined, np.cumsum([0, *map(len, words)]), *table)
    return Dictionary(words, np.array([count for _, count in entries], np.int64), *table)


@njit(cache=True, nogil=True)
def _word_end(data, at, end):
    while at < end and data[at] != 32:
        at += 1
    return at


@njit(cache=True, nogil=True)
def _key(data, start, end):
    """A hash of 64 bits (FNV-1a), never 0, by which words are told apart."""
    return fnv(data, start, end) | uint64(1)


@njit(cache=True, nogil=True)
def _tokens(data, offsets):
    """Key, start and end of every word of all texts."""
    total = 0
    for filled in (False, True):
        if filled:
            keys, starts, ends = np.empty(total, np.uint64), np.empty(total, np.int64), np.empty(total, np.int64)
            total = 0
        else:
            keys, starts, ends = np.empty(0, np.uint64), np.empty(0, np.int64), np.empty(0, np.int64)
        for text in range(len(offsets) - 1):
            at = offsets[text]
            while at < offsets[text + 1]:
                stop = _word_end(data, at, offsets[text + 1])
                if stop > at:
                    if filled:
                        keys[total], starts[total], ends[total] = _key(data, at, stop), at, stop
                    total += 1
                at = stop + 1
    return keys, starts, ends


@njit(cache=True, nogil=True)
def _slot(key, keys):
    slot = np.int64(key >> uint64(20)) & (len(keys) - 1)
    while keys[slot] != 0 and keys[slot] != key:
        slot = (slot + 1) & (len(keys) - 1)
    return slot


@njit(cache=True, nogil=True)
def _enter(data, offsets, keys, rows):
    for word in range(len(offsets) - 1):
        key = _key(data, offsets[word], offsets[word + 1])
        slot = _slot(key, keys)
        keys[slot], rows[slot] = key, word


@njit(cache=True, nogil=True)
def most_rows(characters: int, shape: Shape) -> int:
    """How many rows a text of so many bytes can have at most."""
    words = characters // 2 + 2
    return words * (1 + shape.word_ngrams) + (characters + 2 * words) * shape.longest


@njit(cache=True, nogil=True)
def text_rows(
    data: np.ndarray, start: int, end: int, keys: np.ndarray, rows: np.ndarray, words: int, shape: Shape,
    hashes: np.ndarray, wrapped: np.ndarray, out: np.ndarray,
) -> int:  # fmt: skip
    """Fills ``out`` (int32) with the rows of the text ``data[start:end]``, whose words one blank parts; how many.

    ``words`` is the size of the dictionary; ``hashes`` (int32) and ``wrapped`` (uint8) are room to work in.
    """
    count, tokens, at = 0, 0, start
    while at < end:
        stop = _word_end(data, at, end)
        if stop > at:
            row = rows[_slot(_key(data, at, stop), keys)]  # that of an empty slot is -1
            if row >= 0:
                out[count] = row
                count += 1
            if shape.longest > 0:
                count = _characters(data, at, stop, words, shape, wrapped, out, count)
            hashes[tokens] = np.int32(fasttext_hash(data, at, stop))
            tokens += 1
        at = stop + 1
    wrapped[0], wrapped[1], wrapped[2], wrapped[3] = ord("<"), ord("/"), ord("s"), ord(">")
    row = rows[_slot(_key(wrapped, 0, 4), keys)]
    if row >= 0:
        out[count] = row
        count += 1
    hashes[tokens] = np.int32(fasttext_hash(wrapped, 0, 4))
    tokens += 1
    if shape.buckets > 0:
        for first in range(tokens):
            value = uint64(np.int64(hashes[first]))
            for last in range(first + 1, min(tokens, first + shape.word_ngrams)):
                value = uint64(uint64(value * uint64(116049371)) + uint64(np.int64(hashes[last])))
                out[count] = words + np.int64(value % uint64(shape.buckets))
                count += 1
    return count


@njit(cache=True, nogil=True)
def _characters(data, start, end, words, shape, wrapped, out, count):
    """The rows of the n-grams of ``<word>``."""
    size = min(end - start, len(wrapped) - 2)
    wrapped[0] = 60
    wrapped[1 : 1 + size] = data[start : start + size]
    wrapped[1 + size] = 62
    size += 2
    for first in range(size):
        if continues(wrapped[first]):
            continue
        value, at, length = FASTTEXT_OFFSET, first, 1
        while at < size and length <= shape.longest:
            stop = following(wrapped, at, size)
            while at < stop:
                value = fasttext_step(value, wrapped[at])
                at += 1
            if length >= shape.shortest and not (length == 1 and (first == 0 or at == size)):
                out[count] = words + np.int64(uint64(value) % uint64(shape.buckets))
                count += 1
            length += 1
    return count
