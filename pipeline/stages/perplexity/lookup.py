"""Probabilities of sentences by a model in hash tables, by a kernel that holds no lock of the interpreter.

A word's probability is that of the longest n-gram that it ends and the model has, times the backoffs of the longer
contexts that the model has (Katz 1987; Heafield 2011, "KenLM"). An n-gram can be there only if the model has the
one without its first word and the one without its last. So a block of words is looked up order by order: all words
of the block that can have a longer n-gram are hashed, and their slots fetched from memory, before any is looked at.
Sums are in single precision, in KenLM's order, and so its scores to the bit.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy import uint64

from pipeline.stages.perplexity.tables import (
    LONGEST,
    LONGEST_ORDER,
    MIDDLE,
    UNIGRAM,
    WORD,
    Tables,
    find,
    first_slot,
    longer,
    murmur,
)
from pipeline.text.buffers import text_buffers
from pipeline.text.jit import njit
from pipeline.text.kernels import borrow, load32, load64, prefetch, text_data, trailing_zeros

#: Words that are looked up together.
_BLOCK = 64
#: Words before them that are kept of the block before.
_BEFORE = LONGEST_ORDER - 1
_WORD, _BEGIN, _END = range(3)
_SIGN = uint64(1 << 31)  # alone in a float32 it is -0.0
_NO_NUMBERS = uint64(1 << 63)  # of an n-gram that is not there: no context of any
_NOTHING = np.float32(-0.0)  # what changes no sum
_LINE = 15  # a slot is often looked for over two lines of the cache
_BELOW, _TOPS = uint64(0x2121212121212121), uint64(0x8080808080808080)


def log10(lines: pa.StringArray, tables: Tables, block: int = _BLOCK) -> np.ndarray:
    """float64 ``[lines]``: log10 of the probability of each line, as a sentence of words parted by white space."""
    data, offsets = text_buffers(lines)
    scores = np.empty(len(lines))
    _score(text_data(data), offsets, tables, block, scores)
    return scores


@njit(cache=True, nogil=True, forceinline=True)
def _blank(byte):
    return byte <= 32 and (byte == 32 or 9 <= byte <= 13 or byte == 0)


@njit(cache=True, nogil=True, forceinline=True)
def _goes_on(numbers, context):
    """Whether a longer n-gram can be there: one ends in this one, whose numbers these are, and one begins with what is
    the context of that."""
    return (numbers & _SIGN == 0) & (context >> uint64(32) != _SIGN)


@njit(cache=True, nogil=True, forceinline=True)
def _single(bits):
    return np.uint32(bits).view(np.float32)


@njit(cache=True, nogil=True, forceinline=True)
def _word_end(data, at):
    """Where the word ends that begins at ``at``: at white space, or at the end of the data."""
    while at + 8 <= len(data):
        letters = load64(data, at)
        # The lowest of the marked bytes is below 33; those above it may be wrong.
        low = uint64((letters - _BELOW) & ~letters & _TOPS)
        if not low:
            at += 8
            continue
        at += np.int64(trailing_zeros(low)) >> 3
        if _blank(data[at]):
            return at
        at += 1
    while at < len(data) and not _blank(data[at]):
        at += 1
    return at


@njit(cache=True, nogil=True)
def _score(data, offsets, tables, block, scores):
    data, memory = borrow(data), borrow(tables.memory)
    starts, slots, reciprocals = borrow(tables.starts), borrow(tables.slots), borrow(tables.reciprocals)
    order = len(starts) - 1
    size = block + _BEFORE
    kinds, ids, keys = np.zeros(size, np.uint8), np.zeros(size, np.uint32), np.zeros(size, np.uint64)
    lengths, values = np.zeros(size, np.uint32), np.zeros(size * LONGEST_ORDER, np.uint64)
    slots_of, waiting = np.zeros(size, np.uint32), np.zeros(size, np.uint32)
    line, at, inside = 0, np.int64(0), False
    scored, total = 0, np.float32(0)
    while scored < len(scores):
        used = _BEFORE
        while used < size and line < len(scores):
            if not inside:
                at, inside = offsets[line], True
                kinds[used], ids[used] = _BEGIN, tables.begin
                used += 1
                continue
            last = offsets[line + 1]
            while at < last and _blank(data[at]):
                at += 1
            if at == last:
                kinds[used], ids[used] = _END, tables.end
                line, inside = line + 1, False
                used += 1
                continue
            start = at
            at = min(_word_end(data, at), last)
            key = murmur(data, start, at)
            slot = first_slot(key, slots[0], reciprocals[0])
            prefetch(memory, starts[0] + slot * WORD)
            kinds[used], keys[used], slots_of[used] = _WORD, key, slot
            used += 1
        for i in range(_BEFORE, used):
            if kinds[i] == _WORD:
                place, known = find(memory, starts[0], WORD, slots[0], np.int64(slots_of[i]), keys[i])
                ids[i] = load32(memory, place + 2) if known else 0
            prefetch(memory, starts[1] + np.int64(ids[i]) * UNIGRAM)
        count, width = 0, MIDDLE if order > 2 else LONGEST
        for i in range(_BEFORE, used):
            numbers = load64(memory, starts[1] + np.int64(ids[i]) * UNIGRAM)
            values[i * LONGEST_ORDER], lengths[i] = numbers, 1
            for n in range(1, LONGEST_ORDER):
                values[i * LONGEST_ORDER + n] = _NO_NUMBERS
            key = longer(uint64(ids[i]), ids[i - 1])
            slot = first_slot(key, slots[2], reciprocals[2])
            prefetch(memory, starts[2] + slot * width)
            prefetch(memory, starts[2] + slot * width + _LINE)
            waiting[count], keys[count], slots_of[count] = i - _BEFORE, key, slot
            count += _goes_on(numbers, values[(i - 1) * LONGEST_ORDER]) & (kinds[i] != _BEGIN)
        for n in range(2, order):
            passed, width = count, MIDDLE if n + 1 < order else LONGEST
            count = 0
            for k in range(passed):
                i, key = np.int64(waiting[k]) + _BEFORE, keys[k]
                place, known = find(memory, starts[n], MIDDLE, slots[n], np.int64(slots_of[k]), key)
                numbers = load64(memory, place + 2)
                numbers = numbers if known else _NO_NUMBERS
                row = i * LONGEST_ORDER + n - 1
                values[row] = numbers
                lengths[i] += known
                key = longer(key, ids[i - n])
                slot = first_slot(key, slots[n + 1], reciprocals[n + 1])
                waiting[count], keys[count], slots_of[count] = i - _BEFORE, key, slot
                goes_on = _goes_on(numbers, values[row - LONGEST_ORDER])
                place = starts[n + 1] + slot * width if goes_on else place
                prefetch(memory, place)
                prefetch(memory, place + _LINE)
                count += goes_on
        for k in range(count):
            i = np.int64(waiting[k]) + _BEFORE
            place, known = find(memory, starts[order], LONGEST, slots[order], np.int64(slots_of[k]), keys[k])
            values[i * LONGEST_ORDER + order - 1] = load32(memory, place + 2)
            lengths[i] += known
        for i in range(_BEFORE, used):
            if kinds[i] == _BEGIN:
                total = np.float32(0)
                continue
            longest = np.int64(lengths[i]) - 1
            score = _single(values[i * LONGEST_ORDER + longest] | _SIGN)
            for n in range(LONGEST_ORDER - 1):
                backoff = _single(values[(i - 1) * LONGEST_ORDER + n] >> uint64(32))
                score += backoff if n >= longest else _NOTHING
            total += score
            if kinds[i] == _END:
                scores[scored] = total
                scored += 1
        for k in range(_BEFORE):
            i = used - _BEFORE + k
            ids[k] = ids[i]
            for n in range(LONGEST_ORDER):
                values[k * LONGEST_ORDER + n] = values[i * LONGEST_ORDER + n]
