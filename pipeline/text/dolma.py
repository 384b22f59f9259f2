"""What dolma's Gopher tagger (gopher_v1) counts: words are runs without whitespace, lines end at newlines.

A repeated line or n-gram counts with all its copies, shares are of the characters in words, n-grams overlap. Repeated
n-grams and lines are looked for among the first ``ngrams.MOST_WORDS`` words and ``lines.MOST_LINES`` lines.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from pipeline.text import characters, ngrams
from pipeline.text.buffers import text_buffers
from pipeline.text.characters import LETTER, SPACE, kind
from pipeline.text.hashing import word_key
from pipeline.text.jit import njit
from pipeline.text.kernels import borrow, text_data
from pipeline.text.lines import MOST_LINES, clear_set, count_byte, count_characters, find_byte, set_size, times_met
from pipeline.text.utf8 import width
from pipeline.text.words import word_slot, word_tables

#: Lengths of words differ up to here; in the median a longer word counts as one of this length.
LONGEST_WORD = 255

_FIELDS = """
    words word_characters lower_median upper_median symbol_words letter_words stop_words
    lines bullet_lines ellipsis_lines repeated_lines repeated_line_characters compared_characters
"""
#: One record a document. The median word length is the mean of the two medians.
COUNTS = np.dtype([(name, np.int64) for name in _FIELDS.split()])


class Counted(NamedTuple):
    """What was counted in n documents: ``counts`` COUNTS [n], and for n-grams of 2 to 10 words: ``top`` int64
    [n, 9, 2] as ``ngrams.repeats`` fills it, ``repeated`` and ``every`` int64 [n, 9], the characters in repeated and
    in all n-grams; zeros if n-grams were not asked for."""

    counts: np.ndarray
    top: np.ndarray
    repeated: np.ndarray
    every: np.ndarray


def count(
    texts: pa.StringArray,
    stop_words: Sequence[tuple[str, ...]] = ((),),
    duplicates_from: int | None = 2,
    sorts: np.ndarray | None = None,
) -> Counted:
    """Counts the documents ``texts``. The stop words of text i are ``stop_words[sorts[i]]`` (int64 [n], zeros if not
    given), and count each time that they occur; n-grams are counted unless ``duplicates_from`` is None, repeated ones
    from that length on."""
    data, offsets = text_buffers(texts)
    counts = np.zeros(len(texts), COUNTS)
    top, twice = np.zeros((2, len(texts), 9, 2), np.int64)
    every = np.zeros((len(texts), 9), np.int64)
    longest = int(np.diff(offsets).max(initial=1))
    grams, lines = ngrams.workspace(longest), np.empty(set_size(longest + 1), np.uint64)
    chosen = np.zeros(len(texts), np.int64) if sorts is None else sorts
    stops = (chosen, word_tables(stop_words))
    shortest = duplicates_from or 0
    _count(text_data(data), offsets, characters.table(), *stops, shortest, grams, lines, counts, top, twice, every)
    return Counted(counts, top, twice[:, :, 1], every)


@njit(cache=True, nogil=True)
def _count(data, offsets, table, sorts, stop_tables, duplicates_from, grams, lines, counts, top, twice, every):
    data, table, lines = borrow(data), borrow(table), borrow(lines)
    keys, ahead = borrow(grams.keys), borrow(grams.ahead)
    lengths = np.empty(LONGEST_WORD + 1, np.int64)
    ahead[0] = 0
    for text in range(len(offsets) - 1):
        row, at, end = counts[text], offsets[text], offsets[text + 1]
        stops = borrow(stop_tables[sorts[text]])
        lengths[:] = 0
        compared = 0
        while at < end:
            if kind(data, at, table) & SPACE:
                at += width(data[at])
                continue
            start, size, some, symbol = at, 0, 0, False
            while at < end and not kind(data, at, table) & SPACE:
                some |= kind(data, at, table)
                symbol |= data[at] == ord("#")
                symbol |= data[at] == 0xE2 and data[at + 1] == 0x80 and data[at + 2] == 0xA6
                size += 1
                at += width(data[at])
            key = word_key(data, start, at)
            row.words += 1
            row.word_characters += size
            row.symbol_words += symbol
            row.letter_words += some & LETTER > 0
            row.stop_words += word_slot(key, stops) >= 0
            lengths[min(size, LONGEST_WORD)] += 1
            if compared < len(keys):
                keys[compared], ahead[compared + 1] = key, ahead[compared] + size
                compared += 1
        row.lower_median = _length_of(lengths, (row.words + 1) // 2)
        row.upper_median = _length_of(lengths, row.words // 2 + 1)
        row.compared_characters = ahead[compared]
        _count_lines(data, offsets[text], end, lines, row)
        if duplicates_from:
            ngrams.repeats(grams, compared, duplicates_from, ngrams.LENGTHS, top[text], twice[text])
            for n in range(ngrams.SHORTEST, min(ngrams.LONGEST, compared) + 1):
                for k in range(compared - n + 1):
                    every[text, n - ngrams.SHORTEST] += ahead[k + n] - ahead[k]


@njit(cache=True, nogil=True)
def _length_of(lengths, rank):
    """The length of the ``rank``-th shortest word, from 1; 0 if there are fewer words."""
    for length in range(len(lengths)):
        rank -= lengths[length]
        if rank <= 0:
            return length
    return 0


@njit(cache=True, nogil=True)
def _count_lines(data, at, end, lines, row):
    if at == end:
        return
    row.lines = count_byte(data, at, end, ord("\n")) + 1
    members = clear_set(lines, row.lines)
    seen = 0
    while at <= end:
        stop = find_byte(data, at, end, ord("\n"))
        row.bullet_lines += stop > at and (data[at] == ord("*") or data[at] == ord("-"))
        if stop - at > 2:
            row.ellipsis_lines += data[stop - 3] == 0xE2 and data[stop - 2] == 0x80 and data[stop - 1] == 0xA6
        seen += 1
        met = times_met(data, at, stop, members) if seen <= MOST_LINES else 0
        if met:
            copies = 2 if met == 1 else 1  # with the second copy the first is counted too
            row.repeated_lines += copies
            row.repeated_line_characters += copies * count_characters(data, at, stop)
        at = stop + 1
