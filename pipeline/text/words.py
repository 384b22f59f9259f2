"""Words of a text.

What is a word: a run without whitespace is split as spaCy's English tokenizer does it (datatrove counts its tokens),
whatever the language: punctuation and symbols come off both ends one by one, hyphens, slashes and the like split
between letters, web addresses stay whole, English contractions come apart (``pipeline.text.english``). Punctuation
marks are words too; what counts real words only looks at their class.

Scripts that write no spaces (``pipeline.text.scripts``) are split by letter or syllable, because a dictionary would be
needed for more: each Han, Kana or Yi letter is a word, and each orthographic syllable of Thai, Lao, Khmer, Myanmar,
Javanese and their like (a consonant with the vowels and marks around it and what is stacked below it). A syllable of
Tibetan is what stands between two marks.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy import uint64

from pipeline.text import characters, english
from pipeline.text.affixes import is_solid, split_run
from pipeline.text.characters import (
    ALONE,
    BEFORE_STOP,
    CLOSING,
    CLUSTER,
    DIGIT,
    LETTER,
    PUNCTUATION,
    SPACE,
    TERMINAL,
    continues_syllable,
    kind,
)
from pipeline.text.english import EXCEPTION, find_key, may_be_there
from pipeline.text.hashing import short_key, slot_of, word_key
from pipeline.text.jit import njit
from pipeline.text.kernels import ZERO, between32, borrow, text_data, trailing_zeros
from pipeline.text.utf8 import width

#: A word: its bytes in the data; its ``word_key``; its length in code points; the class bits that some and that all of
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
#: Runs that ``split_again`` remembers, a power of two; the bytes and the words that such a run has at most.
_REMEMBERED, _SHORT, _FEW = 1 << 12, 32, 3


def word_spans(data: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``(word_offsets int64 [n + 1], starts int64, ends int64)`` of the words of n texts.

    ``data`` and ``offsets`` as ``text_buffers`` gives them. Word k of text i is
    ``data[starts[word_offsets[i] + k]:ends[word_offsets[i] + k]]``.
    """
    word_offsets, words = _all_words(text_data(data), offsets, characters.table(), english.lookup())
    return word_offsets, words["start"].copy(), words["end"].copy()


@njit(cache=True, nogil=True)
def _all_words(data, offsets, table, slots):
    words, total = np.empty(2 * CAPACITY, WORD), ZERO
    word_offsets = np.zeros(len(offsets), np.int64)
    for text in range(len(offsets) - 1):
        at = offsets[text]
        while at < offsets[text + 1]:
            if len(words) - total < CAPACITY:
                larger = np.empty(2 * len(words), WORD)
                for k in range(total):
                    larger[k] = words[k]
                words = larger
            count, at = split(data, at, offsets[text + 1], table, slots, words[total:])
            total += count
        word_offsets[text + 1] = total
    return word_offsets, words[:total]


@njit(cache=True, nogil=True)
def split(
    data: np.ndarray, start: int, end: int, table: np.ndarray, slots: np.ndarray, words: np.ndarray
) -> tuple[Any, int]:
    """``(count, at)``: fills ``words`` (WORD [>= CAPACITY]) with the words of ``data[start:end]``.

    It stops at ``at``, between two words, when the array is nearly full; call again from there until ``at == end``.
    ``table`` and ``slots`` as ``characters.table()`` and ``english.lookup()`` give them.
    """
    count, at = ZERO, start
    while at < end and count + 2 * RUN < len(words):
        if kind(data, at, table) & SPACE:
            at += width(data[at])
            continue
        begin, stop = at, min(end, at + RUN)
        size, some, every = 0, 0, -1
        marks, mark = 0, at
        while at < stop:
            this, wide = kind(data, at, table), width(data[at])
            if this & SPACE or at + wide > stop:
                break
            if not this & LETTER:
                marks, mark = marks + wide, at  # a wide one is no simple mark
            at += wide
            some |= this
            every &= this
            size += 1
        first = count
        key = word_key(data, begin, at)
        exception = find_key(key, slots) & EXCEPTION
        closed = marks == 1 and begin < mark == at - 1 and _closes(data, mark, table)
        if some & (ALONE | CLUSTER):
            count = _split_unspaced(data, begin, at, table, slots, words, count)
        elif (marks == 0 or size == 1 or some == DIGIT | BEFORE_STOP) and not exception:
            _set(words[count], begin, at, key, size, some, every)
            count, first = count + 1, count + 1
        elif closed and not exception and not find_key(word_key(data, begin, mark), slots) & EXCEPTION:
            _set(words[count], begin, mark, word_key(data, begin, mark), size - 1, LETTER, LETTER)
            words[count + 1].start, words[count + 1].end = mark, at
            count, first = count + 2, count + 1
        else:
            count = split_run(data, begin, at, table, slots, words, count)
        for k in range(first, count):
            _describe(data, table, words[k])
    return count, at


def with_memory() -> tuple[np.ndarray, np.ndarray]:
    """The arrays ``words`` and ``runs`` for ``split_again``: room for ``split`` and then for the words of each run that
    is remembered, whose places count from the run's start; uint64: these runs' keys and how many words they have."""
    return np.zeros(CAPACITY + _REMEMBERED * _FEW, WORD), np.zeros(_REMEMBERED, np.uint64)


@njit(cache=True, nogil=True)
def split_again(
    data: np.ndarray, start: int, end: int, table: np.ndarray, slots: np.ndarray, words: Any, runs: np.ndarray
) -> tuple[Any, Any, Any, int]:
    """``(first, count, base, at)``: as ``split`` gives them, the words are ``words[first : first + count]``, whose
    places count from ``base``. A run that came before, as nearly half of those that are no plain word, is not split.
    """
    data, runs, fresh = borrow(data), borrow(runs), words[:CAPACITY]
    if end - start > _SHORT:
        count, at = split(data, start, end, table, slots, fresh)
        return ZERO, count, ZERO, at
    key = word_key(data, start, end) & ~uint64(7) | uint64(4)  # not 0; the number of words has the lowest two bits
    slot = slot_of(key, _REMEMBERED - 1)
    row, known = CAPACITY + _FEW * slot, uint64(runs[slot] - key)
    if known <= uint64(_FEW):
        return row, np.int64(known), start, end
    count, at = split(data, start, end, table, slots, fresh)
    if count <= _FEW:
        runs[slot] = key + uint64(count)
        for k in range(count):
            words[row + k] = words[k]
            words[row + k].start -= start
            words[row + k].end -= start
    return ZERO, count, ZERO, at


@njit(cache=True, nogil=True, forceinline=True)
def plain_run(data: np.ndarray, at: int, end: int, table: np.ndarray, slots: np.ndarray) -> tuple[Any, Any, Any, Any]:
    """``(letters, mark, key, next)``: a run that ``split`` makes a word of ASCII letters of, a mark, or both.

    The word is ``data[at : at + letters]``, with that key, if there are letters; the mark, ASCII and a word too,
    follows if ``mark`` is 1. All between the run and ``next`` is white space. Where there is no such run, ``letters``
    is -1, and the words of ``data[at:next]`` do not depend on what follows.
    """
    if at + 32 > len(data):
        return np.int64(-1), np.int64(0), uint64(0), end
    spaces = _spaces(data, at)
    others = ~between32(data, at, 32, ord("a"), ord("z")) | uint64(1 << 32)
    letters = min(np.int64(trailing_zeros(others)), end - at)
    gap = spaces >> uint64(letters)
    mark = np.int64(at + letters < end and not gap & uint64(1))
    gap >>= uint64(mark)
    stop, key = at + letters + mark, uint64(0)
    plain = (stop == end or gap & uint64(1) > 0) and letters <= 24  # 8 bytes can be loaded: enough follow
    if plain and letters:
        key = short_key(data, at, letters) if letters <= 8 else word_key(data, at, at + letters)
        plain = not (may_be_there(key, slots) and find_key(key, slots) & EXCEPTION)
        plain = plain and not (mark and not _closes(data, at + letters, table))
    if plain and mark:
        whole = short_key(data, at, letters + 1) if letters < 8 else word_key(data, at, stop)
        plain = not (may_be_there(whole, slots) and find_key(whole, slots) & EXCEPTION)
    if plain:
        return letters, mark, key, min(end, stop + np.int64(trailing_zeros(~gap)))
    if spaces:
        return np.int64(-1), mark, key, min(end, at + np.int64(trailing_zeros(spaces)))
    return np.int64(-1), mark, key, _next_space(data, at + 32, end)


@njit(cache=True, nogil=True, forceinline=True)
def _spaces(data, at):
    """Which of the 32 bytes from ``at`` on are white space of ASCII, as bits."""
    return between32(data, at, 0, 9, 13) | between32(data, at, 0, 28, 32)


@njit(cache=True, nogil=True)
def _next_space(data, at, end):
    """The first white space of ASCII from ``at`` on; ``end`` if there is none before it, or near the data's end."""
    while at < end and at + 32 <= len(data):
        spaces = _spaces(data, at)
        if spaces:
            return min(end, at + np.int64(trailing_zeros(spaces)))
        at += 32
    return end


@njit(cache=True, nogil=True)
def _set(word, start, end, key, characters, some, every):
    word.start, word.end, word.key = start, end, key
    word.characters, word.some, word.every = characters, some, every


@njit(cache=True, nogil=True)
def _closes(data, mark, table):
    """Whether the ASCII mark after letters is a word of its own, whatever the letters are (no exception)."""
    if data[mark] == ord("."):
        return ord("a") <= data[mark - 1] <= ord("z")
    return table[data[mark]] & CLOSING > 0


@njit(cache=True, nogil=True)
def _describe(data, table, word):
    start, end = word.start, word.end
    if is_solid(data, start, end):
        bits = kind(data, start, table) & (LETTER | DIGIT | BEFORE_STOP)
        _set(word, start, end, word_key(data, start, end), end - start, bits, bits)
        return
    size, some, every = 0, 0, -1
    at = start
    while at < end:
        this = kind(data, at, table)
        some |= this
        every &= this
        size += 1
        at += width(data[at])
    _set(word, start, end, word_key(data, start, end), size, some, every)


@njit(cache=True, nogil=True)
def _split_unspaced(data, start, end, table, slots, words, count):
    """Words of a run with characters of scripts that write no spaces; what lies between them is split as usual."""
    at = start
    while at < end:
        begin = at
        while at < end and not kind(data, at, table) & (ALONE | CLUSTER):
            at += width(data[at])
        if at > begin:
            count = split_run(data, begin, at, table, slots, words, count)
        if at < end:
            words[count].start = at
            at = unit_end(data, at, end, table)
            words[count].end = at
            count += 1
    return count


@njit(cache=True, nogil=True)
def unit_end(data: np.ndarray, at: int, end: int, table: np.ndarray) -> int:
    """End of the character or syllable, of a script that writes no spaces, that starts at ``at``."""
    before = kind(data, at, table)
    at += width(data[at])
    while at < end:
        this = kind(data, at, table)
        after = at + width(data[at])
        if not continues_syllable(before, this, kind(data, after, table) if after < end else 0):
            break
        before, at = this, after
    return at


@njit(cache=True, nogil=True)
def next_sentence(
    sentences: int, ended: bool | np.bool, characters: int, every: int | np.int64
) -> tuple[int, bool | np.bool]:
    """``(sentences, ended)`` after one more word of ``characters``, which all have the class bits ``every``.

    A sentence ends at a word that is a single terminal mark, and the next begins at the first word after it that is no
    punctuation (spaCy's sentencizer).
    """
    mark = characters == 1 and every & TERMINAL > 0
    if sentences == 0:
        return 1, mark
    if ended and not mark and not every & PUNCTUATION:
        return sentences + 1, False
    return sentences, ended or mark


@lru_cache(maxsize=1024)  # the same few sets for every shard
def word_table(words: tuple[str, ...]) -> np.ndarray:
    """uint64 [256]: a set of words for ``word_slot``. Raises ValueError for more than 64 words."""
    if len(words) > 64:
        raise ValueError(f"{len(words)} words to look for; at most 64 can be given")
    slots = np.zeros(256, np.uint64)
    for word in sorted(set(words)):
        raw = np.frombuffer(word.encode(), np.uint8)
        key = word_key(raw, 0, len(raw))
        slot = int(key) & 255
        while slots[slot]:
            slot = slot + 1 & 255
        slots[slot] = key
    return slots


def word_tables(sets: Sequence[tuple[str, ...]]) -> np.ndarray:
    """uint64 [sets, 256]: ``word_table`` of each set of words."""
    return np.stack([word_table(words) for words in sets])


@njit(cache=True, nogil=True)
def word_slot(key: np.uint64, slots: np.ndarray) -> np.int64 | int:
    """Where the word whose ``word_key`` is ``key`` is in ``slots``, -1 if it is not there."""
    slot = np.int64(key & uint64(255))
    while slots[slot] and slots[slot] != key:
        slot = (slot + 1) & 255
    return slot if slots[slot] else -1
