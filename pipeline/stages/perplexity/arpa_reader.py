"""ARPA files read into the hash tables that sentences are looked up in.

Strict: what lmplz, SRILM and we write. Any other file is left to the kenlm library, which reads it or says what is
wrong with it: one with n-grams whose shorter ones were pruned, without ``<unk>``, with comments, compressed, broken.
"""

from __future__ import annotations

import mmap
import re
from pathlib import Path

import numpy as np
from numpy import uint64

from pipeline.stages.perplexity.tables import (
    LONGEST,
    LONGEST_ORDER,
    MIDDLE,
    MOST,
    MOST_WORDS,
    SPACE,
    UNIGRAM,
    WORD,
    Tables,
    find,
    first_slot,
    layout,
    longer,
    murmur,
    tables,
)
from pipeline.text.jit import njit
from pipeline.text.kernels import borrow, text_data

_HEADER = re.compile(rb"\\data\\\n((?:ngram [1-9]=[0-9]{1,15}\n){2,%d})\n" % LONGEST_ORDER)
_SHORTEST_LINE = 4

_SIGN = np.uint32(1 << 31)
_TENS = 10.0 ** np.arange(23)  # those that a float64 holds exactly
_MOST_DIGITS = 15


def read(path: str) -> Tables | None:
    """The model in the ARPA file ``path``; None for what is left to the kenlm library. Memory is that of the tables."""
    with Path(path).open("rb") as file:
        header = _HEADER.match(file.read(1 << 10))
        if header is None:
            return None
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    pairs = [line.removeprefix(b"ngram ").split(b"=") for line in header[1].splitlines()]
    counts = [int(count) for _, count in pairs]
    if [int(n) for n, _ in pairs] != list(range(1, len(counts) + 1)) or _SHORTEST_LINE * sum(counts) > len(data):
        return None
    if SPACE * max(counts) > MOST or counts[0] >= MOST_WORDS:
        return None
    where = layout(counts, SPACE)
    words = np.zeros(where.size, np.uint32)
    text, at = text_data(np.frombuffer(data, np.uint8)), header.end()
    for n, count in enumerate(counts, 1):
        title = b"\\%d-grams:\n" % n
        if data[at : at + len(title)] != title:
            return None
        at = _read(text, at + len(title), n, len(counts), count, words, where.starts, where.slots, where.reciprocals)
        if at < 0 or data[at : at + 1] != b"\n":
            return None
        at += 1
    if data[at:].rstrip(b"\n") != b"\\end\\" or not words[where.starts[1]]:
        return None
    try:
        return tables(words, where)
    except ValueError:
        return None


@njit(cache=True, nogil=True)
def _number(text, at, end):
    """``(float32, where it ends)`` of a decimal number, correctly rounded; ends at -1 where it is no usual one."""
    negative = at < end and text[at] == 45
    at += negative
    digits, scale, value, point, start = 0, 0, np.int64(0), False, at
    while at < end and (48 <= text[at] <= 57 or (text[at] == 46 and not point)):
        if text[at] == 46:
            point = True
        else:
            value = 10 * value + np.int64(text[at]) - 48
            digits += value > 0
            scale += point
        at += 1
        if digits > _MOST_DIGITS:
            return np.float32(0), -1
    if at == start + point:
        return np.float32(0), -1
    if at < end and text[at] | 32 == 101:
        at += 1
        down = at < end and text[at] == 45
        at += down or (at < end and text[at] == 43)
        exponent, start = 0, at
        while at < end and 48 <= text[at] <= 57 and exponent < 100:
            exponent = 10 * exponent + np.int64(text[at]) - 48
            at += 1
        if at == start:
            return np.float32(0), -1
        scale += exponent if down else -exponent
    if not -len(_TENS) < scale < len(_TENS):
        return np.float32(0), -1
    number = value / _TENS[scale] if scale >= 0 else value * _TENS[-scale]
    return np.float32(-number if negative else number), at


@njit(cache=True, nogil=True)
def _is_unknown(text, start, end):
    if end - start != 5 or text[start] != 60 or text[start + 4] != 62:
        return False
    upper = text[start + 1] == 85 and text[start + 2] == 78 and text[start + 3] == 75
    return upper or (text[start + 1] == 117 and text[start + 2] == 110 and text[start + 3] == 107)


@njit(cache=True, nogil=True)
def _entry(words, start, width, slots, reciprocal, key):
    """``(place, whether it was there)`` of the entry with this key, made if it was not; place -1 in a full table."""
    place, known = find(words, start, width, slots, first_slot(key, slots, reciprocal), key)
    if not known and place >= 0:
        words[place], words[place + 1] = np.uint32(key), np.uint32(key >> uint64(32))
    return place, known


@njit(cache=True, nogil=True)
def _shorter(words, n, key, starts, slots, reciprocals):
    """Where the numbers of an n-gram of order ``n`` are that should be there; -1 if it is not."""
    if n == 1:
        return starts[1] + np.int64(key) * UNIGRAM
    slot = first_slot(key, slots[n], reciprocals[n])
    place, known = find(words, starts[n], MIDDLE, slots[n], slot, key)
    return place + 2 if known else np.int64(-1)


@njit(cache=True, nogil=True)
def _read(text, at, n, order, count, words, starts, slots, reciprocals):
    """Reads ``count`` lines of n-grams into their table and marks their shorter ones; returns where they end, -1 if
    anything is not as it should be."""
    text, words = borrow(text), borrow(words)
    starts, slots, reciprocals = borrow(starts), borrow(slots), borrow(reciprocals)
    end, ids = len(text), np.zeros(n, np.int64)
    for line in range(count):
        probability, at = _number(text, at, end)
        if at < 0 or probability > 0:
            return -1
        for k in range(n):
            if at >= end or not (text[at] == 9 or (text[at] == 32 and k)):
                return -1
            start = at + 1
            at = start
            while at < end and text[at] > 32:
                at += 1
            if at == start:
                return -1
            key = murmur(text, start, at)
            if _is_unknown(text, start, at):
                ids[k] = 0
            elif n == 1:
                place, known = _entry(words, starts[0], WORD, slots[0], reciprocals[0], key)
                if known or place < 0:
                    return -1
                words[place + 2] = ids[k] = line + 1
            else:
                slot = first_slot(key, slots[0], reciprocals[0])
                place, known = find(words, starts[0], WORD, slots[0], slot, key)
                if not known:
                    return -1
                ids[k] = np.int64(words[place + 2])
        backoff = np.float32(0)
        if at < end and text[at] == 9:
            backoff, at = _number(text, at + 1, end)
            if at < 0 or (n == order and backoff != 0):
                return -1
        if at >= end or text[at] != 10:
            return -1
        at += 1
        if n == 1:
            place = starts[1] + ids[0] * UNIGRAM
        else:
            suffix = uint64(ids[n - 1])
            for k in range(n - 2, 0, -1):
                suffix = longer(suffix, ids[k])
            context = uint64(ids[n - 2])
            for k in range(n - 3, -1, -1):
                context = longer(context, ids[k])
            ends = _shorter(words, n - 1, suffix, starts, slots, reciprocals)
            begins = _shorter(words, n - 1, context, starts, slots, reciprocals)
            if ends < 0 or begins < 0:
                return -1
            words[ends] &= np.uint32(~_SIGN)
            if words[begins + 1] == _SIGN:
                words[begins + 1] = 0
            key, width = longer(suffix, ids[0]), LONGEST if n == order else MIDDLE
            place, known = _entry(words, starts[n], width, slots[n], reciprocals[n], key)
            if known or place < 0:
                return -1
            place += 2
        words[place] = np.uint32(np.float32(probability).view(np.uint32) | _SIGN)
        if n < order:
            words[place + 1] = _SIGN if backoff == 0 else np.float32(backoff).view(np.uint32)
    return at
