"""Runs of words that evaluation items are recognised by, and where a text holds them.

Words are those of ``dedup.shingles``: lower case, without punctuation, each character of a script without spaces by
itself; but an apostrophe or a hyphen between two letters joins them, a hyphen also at the end of a line. So ``don't``,
``don’t`` and ``dont`` are one word, and so are ``information`` and ``infor-`` with ``mation`` on the next line. An item
of at least n words has all its n-grams; a shorter one of at least k words has one gram, itself.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy import uint32, uint64

from pipeline.text import folding, scripts, shingles
from pipeline.text.buffers import text_buffers
from pipeline.text.folding import ALONE
from pipeline.text.hashing import FNV_OFFSET, GOLDEN, fnv_step, mix
from pipeline.text.jit import njit
from pipeline.text.kernels import borrow
from pipeline.text.utf8 import decode

#: Bits of the filter for each gram, at least: about one place in 16 that holds none has to be looked up.
_FILTER_BITS = 16

#: Quotation marks that stand for an apostrophe, and what is not seen between two letters.
_APOSTROPHES = "'`´ʹʻʼʽ‘’‛′＇\u200b\u200c\u200d\u2060\ufeff"
#: Hyphens, the soft one and the not sign that stands for it after a faulty conversion included.
_HYPHENS = "-‐‑\u00ad¬"
_JOINT = re.compile(rf"[{_APOSTROPHES}]|[{_HYPHENS}](?:[ \t]*\r?\n[ \t]*)?")
#: Flags of an entry of ``word_table``: a letter, something that joins two letters, and the same at a line's end, too.
_LETTER, _JOINS, _JOINS_LINES = np.uint32(1 << 30), np.uint32(1 << 29), np.uint32(1 << 28)
#: The character of an entry; 0 for all that is no part of a word.
_CHARACTER = np.uint32((1 << 21) - 1)


def words(text: str) -> list[str]:
    """The words of ``text``: the definition, in plain Python for anyone to check the kernels against."""

    def joined(gap: re.Match[str]) -> str:
        between = gap.start() > 0 and gap.end() < len(text)
        return "" if between and _is_letter(text[gap.start() - 1]) and _is_letter(text[gap.end()]) else " "

    return list(shingles.words(_JOINT.sub(joined, text)))


def _is_letter(character: str) -> bool:
    spaced = character not in _APOSTROPHES and not scripts.is_unspaced(character)
    return spaced and unicodedata.category(character)[0] in "LM"


@cache
def word_table() -> np.ndarray:
    """uint32 [0x110000]: as ``folding.word_table``, with the flags above."""
    table = folding.word_table().copy()
    for code in np.flatnonzero(table).tolist():
        if _is_letter(chr(code)):
            table[code] |= _LETTER
    for character in _APOSTROPHES:
        table[ord(character)] = _JOINS
    for character in _HYPHENS:
        table[ord(character)] = _JOINS | _JOINS_LINES
    return table


class Grams(NamedTuple):
    """Distinct grams, in ascending order of ``key``.

    ``key`` uint64: hash of the words; ``anchor`` uint64: hash of its last k words; ``item``, ``start``, ``end`` int64:
    the item that has it first and its bytes there; ``width`` int64: its words.
    """

    key: np.ndarray
    anchor: np.ndarray
    item: np.ndarray
    start: np.ndarray
    end: np.ndarray
    width: np.ndarray


def item_grams(texts: pa.StringArray, ngram: int, least: int) -> tuple[Grams, np.ndarray, np.ndarray, np.ndarray]:
    """``(grams, words, offsets, members)`` of the items ``texts``; ``least`` is k, at most ``ngram``.

    ``words`` int64 [n] counts each item's words. Item ``i`` has the distinct grams
    ``members[offsets[i]:offsets[i + 1]]`` (ascending; none if it has fewer than k words).
    """
    data, offsets = text_buffers(texts)
    words, *columns = _item_grams(data, offsets, word_table(), ngram, least)
    every = Grams(*columns)
    _, first, inverse = np.unique(every.key, return_index=True, return_inverse=True)
    pairs = np.unique(every.item * max(len(first), 1) + inverse)
    member_of, members = np.divmod(pairs, max(len(first), 1))
    item_offsets = np.searchsorted(member_of, np.arange(len(texts) + 1))
    return Grams(*(column[first] for column in every)), words, item_offsets, members


def find(
    texts: pa.StringArray, grams: Grams, items: pa.StringArray, ngram: int, least: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """``(text, gram, start, end)`` int64: every place where one of ``grams`` stands in ``texts``, in order of its end.

    ``start`` and ``end`` are bytes in the text. A place is found by hash and then compared word by word.
    """
    data, offsets = text_buffers(texts)
    item_data, item_offsets = text_buffers(items)
    widths = np.unique(grams.width)
    slots = _slots(grams.key)
    bits = _filter(grams.anchor)
    return _find(data, offsets, word_table(), *grams, item_data, item_offsets, widths, slots, bits, ngram, least)


@njit(cache=True, nogil=True)
def _next_word(data, at, end, table):
    """``(hash, start, end)`` of the first word in ``data[at:end]``; start is -1 if there is none."""
    h, start, last = FNV_OFFSET, -1, uint32(0)
    while at < end:
        code, after = decode(data, at)
        entry = table[code]
        if entry & _CHARACTER == 0 or entry & ALONE:
            if start >= 0:
                if entry & _JOINS and last & _LETTER:
                    letter = _next_letter(data, after, end, entry & _JOINS_LINES, table)
                    if letter >= 0:
                        at = letter
                        continue
                break
            if entry & ALONE:
                return mix(fnv_step(h, entry & _CHARACTER)), at, after
        else:
            if start < 0:
                start = at
            h = fnv_step(h, entry & _CHARACTER)
            last = entry
        at = after
    return mix(h), start, at


@njit(cache=True, nogil=True)
def _next_letter(data, at, end, over_lines, table):
    """Where the letter stands that ``data[at:end]`` begins with, perhaps after one line end; -1 without one."""
    if over_lines:
        blank = _after_blanks(data, at, end)
        line = blank + (blank < end and data[blank] == 13)
        if line < end and data[line] == 10:
            at = _after_blanks(data, line + 1, end)
    if at < end and table[decode(data, at)[0]] & _LETTER:
        return at
    return -1


@njit(cache=True, nogil=True)
def _after_blanks(data, at, end):
    while at < end and (data[at] == 32 or data[at] == 9):
        at += 1
    return at


@njit(cache=True, nogil=True)
def _key(ring, last, width):
    """Hash of the ``width`` words up to number ``last``; ``ring`` holds the hash of word i at i modulo its length."""
    total = uint64(0)
    for word in range(last - width + 1, last + 1):
        total = uint64((total + ring[word % len(ring)]) * GOLDEN)
    return mix(total)


@njit(cache=True, nogil=True)
def _item_grams(data, offsets, table, ngram, least):
    items = len(offsets) - 1
    words = np.zeros(items, np.int64)
    total = 0
    for item in range(items):
        at = offsets[item]
        while True:
            _, start, at = _next_word(data, at, offsets[item + 1], table)
            if start < 0:
                break
            words[item] += 1
        if words[item] >= least:
            total += words[item] - min(words[item], ngram) + 1
    keys, anchors = np.empty(total, np.uint64), np.empty(total, np.uint64)
    owner, starts, ends = np.empty(total, np.int64), np.empty(total, np.int64), np.empty(total, np.int64)
    widths = np.empty(total, np.int64)
    ring, ring_starts, count = np.empty(ngram, np.uint64), np.empty(ngram, np.int64), 0
    for item in range(items):
        if words[item] < least:
            continue
        at, width = offsets[item], min(words[item], ngram)
        for word in range(words[item]):
            h, start, at = _next_word(data, at, offsets[item + 1], table)
            ring[word % ngram], ring_starts[word % ngram] = h, start - offsets[item]
            if word + 1 >= width:
                keys[count], anchors[count] = _key(ring, word, width), _key(ring, word, least)
                owner[count], widths[count] = item, width
                starts[count], ends[count] = ring_starts[(word - width + 1) % ngram], at - offsets[item]
                count += 1
    return words, keys, anchors, owner, starts, ends, widths


@njit(cache=True, nogil=True)
def _slots(keys):
    """Open addressing: each key's place plus one, at its own slot or the next free one."""
    size = 16
    while size < 2 * len(keys):
        size *= 2
    slots = np.zeros(size, np.int64)
    for place in range(len(keys)):
        slot = np.int64(keys[place] & uint64(size - 1))
        while slots[slot]:
            slot = (slot + 1) & (size - 1)
        slots[slot] = place + 1
    return slots


@njit(cache=True, nogil=True)
def _filter(anchors):
    size = 1
    while size * 64 < _FILTER_BITS * len(anchors):
        size *= 2
    bits = np.zeros(size, np.uint64)
    for anchor in anchors:
        bits[np.int64((anchor >> uint64(6)) & uint64(size - 1))] |= uint64(1) << (anchor & uint64(63))
    return bits


@njit(cache=True, nogil=True)
def _find(
    data,
    offsets,
    table,
    keys,
    _anchors,
    owner,
    gram_starts,
    gram_ends,
    gram_widths,
    item_data,
    item_offsets,
    widths,
    slots,
    bits,
    ngram,
    least,
):
    data, table, item_data = borrow(data), borrow(table), borrow(item_data)
    matches = np.empty((4, 1024), np.int64)
    count, filter_mask, slot_mask = 0, uint64(len(bits) - 1), len(slots) - 1
    # a ring as long as a power of two: the words' numbers are masked, not divided
    size = 1
    while size < ngram:
        size *= 2
    ring, ring_starts = np.empty(size, np.uint64), np.empty(size, np.int64)
    highest = uint64(1)
    for _ in range(least):
        highest = uint64(highest * GOLDEN)
    for text in range(len(offsets) - 1):
        at, end, word, total = offsets[text], offsets[text + 1], 0, uint64(0)
        while True:
            h, start, at = _next_word(data, at, end, table)
            if start < 0:
                break
            if word >= least:
                total = uint64(total - uint64(ring[(word - least) & (size - 1)] * highest))
            total = uint64((total + h) * GOLDEN)
            ring[word & (size - 1)], ring_starts[word & (size - 1)] = h, start
            word += 1
            if word < least:
                continue
            anchor = mix(total)
            if not (bits[np.int64((anchor >> uint64(6)) & filter_mask)] >> (anchor & uint64(63))) & uint64(1):
                continue
            for width in widths:
                if width > word:
                    break
                key = _key(ring, word - 1, width)
                slot = np.int64(key & uint64(slot_mask))
                while slots[slot] and keys[slots[slot] - 1] != key:
                    slot = (slot + 1) & slot_mask
                gram = slots[slot] - 1
                if gram < 0 or gram_widths[gram] != width:
                    continue
                first, base = ring_starts[(word - width) & (size - 1)], item_offsets[owner[gram]]
                if not _same(data, first, at, item_data, base + gram_starts[gram], base + gram_ends[gram], table):
                    continue
                if count == matches.shape[1]:
                    more = np.empty((4, 2 * count), np.int64)
                    more[:, :count] = matches
                    matches = more
                matches[0, count], matches[1, count] = text, gram
                matches[2, count], matches[3, count] = first - offsets[text], at - offsets[text]
                count += 1
    return matches[0, :count], matches[1, :count], matches[2, :count], matches[3, :count]


@njit(cache=True, nogil=True)
def _same(data, at, end, other, other_at, other_end, table):
    """Whether ``data[at:end]`` and ``other[other_at:other_end]`` hold the same words."""
    while True:
        _, start, at = _next_word(data, at, end, table)
        _, other_start, other_at = _next_word(other, other_at, other_end, table)
        if start < 0 or other_start < 0:
            return start < 0 and other_start < 0
        while True:
            character, start = _next_character(data, start, at, table)
            other_character, other_start = _next_character(other, other_start, other_at, table)
            if character != other_character:
                return False
            if character == 0:
                break


@njit(cache=True, nogil=True)
def _next_character(data, at, end, table):
    """``(character, after)``: the first of a word in ``data[at:end]``, and the place after it; 0 if there is none."""
    while at < end:
        code, at = decode(data, at)
        if table[code] & _CHARACTER:
            return table[code] & _CHARACTER, at
    return uint32(0), at
