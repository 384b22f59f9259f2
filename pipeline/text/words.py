"""Words of a text.

What is a word: a run without whitespace is split as spaCy's English tokenizer does it (datatrove counts its tokens),
whatever the language: punctuation and symbols come off both ends one by one, hyphens, slashes and the like split
between letters, web addresses stay whole, English contractions come apart (``pipeline.text.english``). Punctuation
marks are words too; what counts real words only looks at their class.

Scripts that write no spaces are split by character or syllable, because a dictionary would be needed for more: each
Han or Kana character is a word, and each orthographic syllable of Thai, Lao, Khmer and Myanmar (a consonant with the
vowels and marks around it and what is stacked below it).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, uint64

from pipeline.text import characters, english
from pipeline.text.affixes import split_run
from pipeline.text.characters import (
    ALONE,
    BEFORE_STOP,
    CLOSING,
    CLUSTER,
    DIGIT,
    JOINING,
    LEADING,
    LETTER,
    PUNCTUATION,
    SILENT,
    SPACE,
    STACKING,
    TERMINAL,
    kind,
    width,
)
from pipeline.text.english import EXCEPTION, HASH_START, HASH_STEP, find_key

#: A word: its bytes in the data; its ``text_hash``; its length in code points; the class bits that some and that all of
#: its characters have.
WORD = np.dtype(
    [
        ("start", np.int64),
        ("end", np.int64),
        ("key", np.uint64),
        ("characters", np.int64),
        ("some", np.int64),
        ("every", np.int64),
    ]
)
#: Bytes of a run without whitespace that are split as one; a longer run is cut there. Bounds memory and time.
RUN = 1 << 14
#: Entries that the array for ``split`` needs at least.
CAPACITY = 4 * RUN


def word_spans(data: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``(word_offsets int64 [n + 1], starts int64, ends int64)`` of the words of n texts.

    ``data`` and ``offsets`` as ``text_buffers`` gives them. Word k of text i is
    ``data[starts[word_offsets[i] + k]:ends[word_offsets[i] + k]]``.
    """
    word_offsets, words = _all_words(data, offsets, characters.table(), english.lookup())
    return word_offsets, words["start"].copy(), words["end"].copy()


@njit(cache=True, nogil=True)
def _all_words(data, offsets, table, slots):
    words, total = np.empty(2 * CAPACITY, WORD), 0
    word_offsets = np.zeros(len(offsets), np.int64)
    for text in range(len(offsets) - 1):
        at = offsets[text]
        while at < offsets[text + 1]:
            if len(words) - total < CAPACITY:
                words = np.concatenate((words, np.empty(len(words), WORD)))
            count, at = split(data, at, offsets[text + 1], table, slots, words[total:])
            total += count
        word_offsets[text + 1] = total
    return word_offsets, words[:total]


@njit(cache=True, nogil=True)
def split(
    data: np.ndarray, start: int, end: int, table: np.ndarray, slots: np.ndarray, words: np.ndarray
) -> tuple[int, int]:
    """``(count, at)``: fills ``words`` (WORD [>= CAPACITY]) with the words of ``data[start:end]``.

    It stops at ``at``, between two words, when the array is nearly full; call again from there until ``at == end``.
    ``table`` and ``slots`` as ``characters.table()`` and ``english.lookup()`` give them.
    """
    count, at = 0, start
    while at < end and count + 2 * RUN < len(words):
        if kind(data, at, table) & SPACE:
            at += width(data[at])
            continue
        begin, stop = at, min(end, at + RUN)
        key, size, some, every = uint64(HASH_START), 0, 0, -1
        marks, mark, key_before = 0, at, key
        while at < stop:
            byte = data[at]
            if byte < 0x80:
                this = np.int64(table[byte])
                if this & SPACE:
                    break
                if not this & LETTER:
                    marks, mark, key_before = marks + 1, at, key
                key = uint64((key ^ uint64(byte)) * uint64(HASH_STEP))
                at += 1
            else:
                this = kind(data, at, table)
                if this & SPACE or at + width(byte) > stop:
                    break
                if not this & LETTER:
                    marks, mark, key_before = marks + 2, at, key  # no simple mark
                for _ in range(width(byte)):
                    key = uint64((key ^ uint64(data[at])) * uint64(HASH_STEP))
                    at += 1
            some |= this
            every &= this
            size += 1
        if some & (ALONE | CLUSTER):
            count = _split_unspaced(data, begin, at, table, slots, words, count)
        elif find_key(key, slots) & EXCEPTION:
            count = _split_run(data, begin, at, table, slots, words, count)
        elif marks == 0 or size == 1 or some == DIGIT | BEFORE_STOP:
            word = words[count]
            word.start, word.end, word.key = begin, at, key
            word.characters, word.some, word.every = size, some, every
            count += 1
        elif marks == 1 and begin < mark == at - 1 and _closes(data, mark, table):
            if find_key(key_before, slots) & EXCEPTION:
                count = _split_run(data, begin, at, table, slots, words, count)
            else:
                word = words[count]
                word.start, word.end, word.key = begin, mark, key_before
                word.characters, word.some, word.every = size - 1, LETTER, LETTER
                _describe(data, mark, at, table, words[count + 1])
                count += 2
        else:
            count = _split_run(data, begin, at, table, slots, words, count)
    return count, at


@njit(cache=True, nogil=True)
def _closes(data, mark, table):
    """Whether the ASCII mark after letters is a word of its own, whatever the letters are (no exception)."""
    if data[mark] == ord("."):
        return ord("a") <= data[mark - 1] <= ord("z")
    return table[data[mark]] & CLOSING > 0


@njit(cache=True, nogil=True)
def _split_run(data, start, end, table, slots, words, count):
    first = count
    count = split_run(data, start, end, table, slots, words, count)
    for k in range(first, count):
        _describe(data, words[k].start, words[k].end, table, words[k])
    return count


@njit(cache=True, nogil=True)
def _describe(data, start, end, table, word):
    key, size, some, every = uint64(HASH_START), 0, 0, -1
    for at in range(start, end):
        byte = data[at]
        key = uint64((key ^ uint64(byte)) * uint64(HASH_STEP))
        if byte & 0xC0 != 0x80:
            this = np.int64(table[byte]) if byte < 0x80 else kind(data, at, table)
            some |= this
            every &= this
            size += 1
    word.start, word.end, word.key = start, end, key
    word.characters, word.some, word.every = size, some, every


@njit(cache=True, nogil=True)
def _split_unspaced(data, start, end, table, slots, words, count):
    """Words of a run with characters of scripts that write no spaces; what lies between them is split as usual."""
    at = start
    while at < end:
        begin = at
        while at < end and not kind(data, at, table) & (ALONE | CLUSTER):
            at += width(data[at])
        if at > begin:
            count = _split_run(data, begin, at, table, slots, words, count)
        if at < end:
            begin, at = at, _unit_end(data, at, end, table)
            _describe(data, begin, at, table, words[count])
            count += 1
    return count


@njit(cache=True, nogil=True)
def _unit_end(data, at, end, table):
    """End of the character or syllable that starts at ``at``."""
    before = kind(data, at, table)
    at += width(data[at])
    while at < end:
        this = kind(data, at, table)
        stays = this & JOINING
        if this & CLUSTER and not this & LEADING:
            after = at + width(data[at])
            final = after < end and kind(data, after, table) & SILENT
            stays |= before & (LEADING | STACKING) or final
        if not stays:
            break
        before = this
        at += width(data[at])
    return at


@njit(cache=True, nogil=True)
def next_sentence(sentences: int, ended: bool, word: Any) -> tuple[int, bool]:
    """``(sentences, ended)`` after one more word (a WORD).

    A sentence ends at a word that is a single terminal mark, and the next begins at the first word after it that is no
    punctuation (spaCy's sentencizer).
    """
    mark = word.characters == 1 and word.every & TERMINAL > 0
    if sentences == 0:
        return 1, mark
    if ended and not mark and not word.every & PUNCTUATION:
        return sentences + 1, False
    return sentences, ended or mark
