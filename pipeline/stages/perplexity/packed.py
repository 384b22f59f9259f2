"""A language model packed into lines of the processor's cache: a look-up fetches one and compares all of it at once.

Made of the tables that KenLM would make (``tables``). A table is a row of lines of 16 uint32. A line holds the lower
halves of its entries' hashes, then their numbers; a hash's upper bits choose the line. An entry whose line is full is
put in the next one, and the last bit of each line that was full says so.

What is looked for and not there is taken for an entry of its line with probability 2**-32 for each, some once in 10**9
such look-ups; KenLM compares 64 bits. No two entries of a model are mistaken for one another: that is checked.

Quantised, an entry holds two codes of 8 bits in place of its probability and backoff, whose values are those of a
codebook for each order: the means of bins that hold equally many (Federico and Bertoldi 2006; KenLM's ``-q 8 -b 8``).
The unigrams stay as they are.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy import uint32

from pipeline.stages.perplexity.tables import UNIGRAM, Tables
from pipeline.text.jit import njit
from pipeline.text.kernels import borrow, high64, load64, text_data

#: Numbers of a line.
LINE = 16
#: Entries of a line that have two numbers beside their hash, one, or codes.
TWO, ONE, CODED = 5, 7, 8
#: Values of a codebook; the first two of one of backoffs are those without a longer n-gram, and 0.
CODES = 256
_NONE, _ZERO, _RESERVED = 0, 1, 2
#: Share of the entries' room that is used. More makes the tables smaller, and the next line is looked at more often.
_FILLED = 0.5

_SIGN, _WAS_FULL = uint32(1 << 31), uint32(1 << 31)
ENDS = uint32(1 << 16)  # of an n-gram in which no longer one ends, where codes are: the sign of its probability


class Packed(NamedTuple):
    """``slots`` of ``tables`` are lines; ``lanes`` int64 are the entries of a line of each table; ``books`` uint32 the
    codebooks of each order, probabilities and backoffs, as float32, None if the tables have no codes."""

    tables: Tables
    lanes: np.ndarray
    books: np.ndarray | None


def pack(model: Tables, quantised: bool = False) -> Packed | None:
    """``model`` in lines; None if two of its entries would be mistaken for one another."""
    order = len(model.starts) - 1
    lanes = np.array([ONE, 0, *[CODED if quantised else TWO] * (order - 2), CODED if quantised else ONE])
    counts = [_count(model, n) for n in range(order + 1)]
    unigrams = int(model.starts[2] - model.starts[1])
    lines = [-(-unigrams // LINE) if n == 1 else int(counts[n] / (lanes[n] * _FILLED)) + 1 for n in range(order + 1)]
    starts = np.concatenate([[0], np.cumsum(lines)]) * LINE
    memory = _at_a_line(int(starts[-1]) + LINE)
    memory[starts[1] : starts[1] + unigrams] = model.memory[model.starts[1] : model.starts[2]]
    widths, slots = np.full(order + 1, LINE), np.array(lines, np.uint64)
    widths[1] = UNIGRAM
    books = np.zeros((order + 1, 2, CODES), np.float32)
    for n in range(order + 1):
        codes = np.zeros((0, 2), np.uint32)
        if quantised and n > 1:
            codes = _encode(_values(model, n, counts[n], n < order), books[n])
        if n != 1 and not _fill(model, n, codes, memory, starts[n], slots[n], lanes[n]):
            return None
    reciprocals = np.zeros(order + 1, np.uint64)
    tables = Tables(text_data(memory), starts[:-1], slots, reciprocals, widths, model.begin, model.end)
    return Packed(tables, lanes, books.view(np.uint32).reshape(-1) if quantised else None)


def _at_a_line(size: int) -> np.ndarray:
    """Zeros that begin with a line of the cache, uint32."""
    room = np.zeros(size + LINE, np.uint32)
    skip = -(room.ctypes.data // 4) % LINE
    return room[skip : skip + size]


def _encode(values: np.ndarray, books: np.ndarray) -> np.ndarray:
    """uint32 [n, 2], the codes of float32 ``values`` [n, 2], probabilities and backoffs, by the codebooks that are made
    of them and put in ``books`` [2, CODES]."""
    probabilities, backoffs = -np.abs(values[:, 0]), values[:, 1]
    books[0], books[1, :_RESERVED] = _bins(probabilities, CODES), (-0.0, 0.0)
    other = backoffs != 0
    books[1, _RESERVED:] = _bins(backoffs[other], CODES - _RESERVED)
    codes = np.empty(values.shape, np.uint32)
    codes[:, 0] = _nearest(probabilities, books[0])
    codes[:, 1] = np.where(np.signbit(backoffs), _NONE, _ZERO)
    codes[other, 1] = _RESERVED + _nearest(backoffs[other], books[1, _RESERVED:])
    return codes


def _bins(values: np.ndarray, bins: int) -> np.ndarray:
    """float32 [bins], ascending: the means of bins that hold equally many of ``values``; an empty one's is that of the
    bin before it."""
    ordered = np.sort(values).astype(np.float64)
    edges = len(ordered) * np.arange(bins + 1) // bins
    sums, sizes = np.diff(np.concatenate([[0], np.cumsum(ordered)])[edges]), np.diff(edges)
    filled = np.maximum.accumulate(np.where(sizes > 0, np.arange(bins), -1))
    means = np.append(sums / np.maximum(sizes, 1), -np.inf)
    return means[filled].astype(np.float32)


def _nearest(values: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """int64 [n]: the place of the centre nearest to each value; of two as near, the upper."""
    above = np.searchsorted(centres, values).clip(1, len(centres) - 1)
    return above - (values - centres[above - 1] < centres[above] - values)


@njit(cache=True, nogil=True, forceinline=True)
def mark_of(key):
    """What an entry is told apart by in its line, not 0."""
    mark = uint32(key)
    return mark if mark else uint32(1)


@njit(cache=True, nogil=True)
def _count(model, n):
    count = 0
    for slot in range(np.int64(model.slots[n]) if n != 1 else 0):
        count += load64(model.memory, model.starts[n] + slot * model.widths[n]) != 0
    return count


@njit(cache=True, nogil=True)
def _values(model, n, count, both):
    """float32 [count, 2]: probability, its sign as it is, and backoff (-0.0 if not ``both``), in the table's order."""
    values, row = np.empty((count, 2), np.uint32), 0
    memory = borrow(model.memory)
    for slot in range(np.int64(model.slots[n])):
        place = model.starts[n] + slot * model.widths[n]
        if load64(memory, place):
            values[row, 0], values[row, 1] = memory[place + 2], memory[place + 3] if both else _SIGN
            row += 1
    return values.view(np.float32)


@njit(cache=True, nogil=True)
def _fill(model, n, codes, memory, start, lines, lanes):
    """Puts the entries of order ``n`` in their lines; whether none is like another."""
    source, memory = borrow(model.memory), borrow(memory)
    first, width, row, end = model.starts[n], model.widths[n], 0, start + np.int64(lines) * LINE
    for slot in range(np.int64(model.slots[n])):
        place = first + slot * width
        key = load64(source, place)
        if key == 0:
            continue
        at, mark, lane = start + np.int64(high64(key, lines)) * LINE, mark_of(key), 0
        while True:
            lane = 0
            while lane < lanes and memory[at + lane] and memory[at + lane] != mark:
                lane += 1
            if lane < lanes:
                break
            memory[at + LINE - 1] |= _WAS_FULL
            at += LINE
            at = start if at == end else at
        if memory[at + lane]:
            return False
        memory[at + lane] = mark
        if len(codes):
            ends = ENDS if source[place + 2] & _SIGN else uint32(0)
            memory[at + CODED + lane] |= codes[row, 0] | codes[row, 1] << uint32(8) | ends
            row += 1
        elif lanes == TWO:
            memory[at + TWO + 2 * lane] = source[place + 2]
            memory[at + TWO + 2 * lane + 1] = source[place + 3]
        else:
            memory[at + ONE + lane] = source[place + 2]
    return True
