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
from numpy import uint32, uint64

from pipeline.stages.perplexity.packed import CODES, ENDS, LINE, TWO, Packed, mark_of
from pipeline.stages.perplexity.tables import LONGEST_ORDER, UNIGRAM, Tables, find, first_slot, longer, murmur
from pipeline.text.buffers import text_buffers
from pipeline.text.jit import int64, njit
from pipeline.text.kernels import between64, borrow, equal8, high64, load32, load64, prefetch, text_data, trailing_zeros
from pipeline.text.runs import WINDOW, edges, without_lowest

#: Words that are looked up together.
_BLOCK = 64
#: Words before them that are kept of the block before.
_BEFORE = LONGEST_ORDER - 1
#: Places for the numbers of the n-grams that end in a word, a power of two.
_ROW, _SHIFT = uint64(8), uint64(3)
#: Marks of the first and the last token of a line, beside its number.
_BEGIN, _END = uint32(1 << 31), uint32(1 << 30)
_ID = uint32((1 << 30) - 1)
_SIGN = uint64(1 << 31)  # alone in a float32 it is -0.0
_NO_NUMBERS = uint64(1 << 63 | 1 << 31)  # of an n-gram that is not there: none ends in it, none begins with it
_NOTHING = np.float32(-0.0)  # what changes no sum
_LAST = LINE - 1
_NO_LANE = uint64(1 << LINE)
_BELOW, _TOPS = uint64(0x2121212121212121), uint64(0x8080808080808080)
_ONE = uint64(1)


def log10(lines: pa.StringArray, model: Tables | Packed, block: int = _BLOCK) -> np.ndarray:
    """float64 ``[lines]``: log10 of the probability of each line, as a sentence of words parted by white space."""
    data, offsets = text_buffers(lines)
    tokens = np.empty((int(offsets[-1] - offsets[0]) + 1) // 2 + 2 * len(lines), np.uint32)
    tables, lanes, books = model if isinstance(model, Packed) else (model, None, None)
    count = _number(text_data(data), offsets, tables, lanes, block, tokens)
    scores = np.empty(len(lines))
    _score(tokens[:count], tables, lanes, books, block, scores)
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


@njit(cache=True, nogil=True, inline="always")
def _borrowed(tables):
    return Tables(
        borrow(tables.memory),
        borrow(tables.starts),
        borrow(tables.slots),
        borrow(tables.reciprocals),
        borrow(tables.widths),
        tables.begin,
        tables.end,
    )


# ``lanes`` and ``books`` are None for tables that are not packed or not quantised: numba compiles a kernel for each of
# the three, without the others' branches.


@njit(cache=True, nogil=True, forceinline=True)
def _aim(tables, lanes, n, key):
    """Where an entry of table ``n`` is looked for first."""
    if lanes is None:
        return tables.starts[n] + first_slot(key, tables.slots[n], tables.reciprocals[n]) * tables.widths[n]
    return tables.starts[n] + np.int64(high64(key, tables.slots[n]) << uint64(4))


@njit(cache=True, nogil=True, forceinline=True)
def _find(tables, lanes, n, place, key):
    """``(where its numbers are, whether it is there)``."""
    memory, start, slots, width = tables.memory, tables.starts[n], tables.slots[n], tables.widths[n]
    if lanes is None:
        at, known = find(memory, start, width, slots, (place - start) // width, key)
        return at + 2, known
    at, lane = _lane(memory, place, key, lanes[n], start, start + np.int64(slots) * LINE)
    return at + lanes[n] + (lane << (lanes[n] == TWO)), lane < LINE


@njit(cache=True, nogil=True, forceinline=True)
def _lane(memory, at, key, lanes, start, end):
    """``(line, lane)`` of an entry; lane LINE if it is not there."""
    mark, every = mark_of(key), uint64((_ONE << uint64(lanes)) - _ONE)
    hits = equal8(memory, at, mark) & every
    while (hits == 0) & (load32(memory, at + _LAST) >> uint32(31) != 0):  # one branch, hardly ever taken
        at += LINE
        at = start if at == end else at
        hits = equal8(memory, at, mark) & every
    return at, np.int64(trailing_zeros(hits | _NO_LANE))


@njit(cache=True, nogil=True, forceinline=True)
def _numbers(memory, books, n, place, known):
    """The numbers of an n-gram that is not of the longest order: probability, and above it backoff."""
    if books is None:
        numbers = load64(memory, place)
        return numbers if known else _NO_NUMBERS
    code = load32(memory, place)
    code = code if known else ENDS
    backoff = load32(books, (2 * n + 1) * CODES + np.int64(code >> uint32(8) & uint32(0xFF)))
    return uint64(_decoded(books, n, code)) | uint64(backoff) << uint64(32)


@njit(cache=True, nogil=True, forceinline=True)
def _probability(memory, books, n, place):
    """The same of an n-gram of the longest order."""
    number = load32(memory, place)
    return number if books is None else _decoded(books, n, number)


@njit(cache=True, nogil=True, forceinline=True)
def _decoded(books, n, code):
    """A code's probability, with the sign that it has in tables without codes."""
    size = load32(books, 2 * n * CODES + np.int64(code & uint32(0xFF))) & uint32(0x7FFFFFFF)
    return uint32(size | (code << uint32(15) & uint32(1 << 31)))


@njit(cache=True, nogil=True)
def _number(data, offsets, tables, lanes, block, tokens):
    """Fills ``tokens`` with the numbers of the words of each line, between those of its begin and its end, with their
    marks; returns how many they are."""
    data, tokens, tables = borrow(data), borrow(tokens), _borrowed(tables)
    room = block + WINDOW
    starts, ends, where = np.empty(room, np.int64), np.empty(room, np.int64), np.empty(room, np.int64)
    keys, places = np.empty(room, np.uint64), np.empty(room, np.int64)
    count, waiting = 0, 0
    for line in range(len(offsets) - 1):
        at, last = offsets[line], offsets[line + 1]
        tokens[count] = uint32(tables.begin) | _BEGIN
        count += 1
        while at < last:
            rest = 0
            if at + WINDOW < len(data):
                firsts, afters, rest = _words(data, at, last)
                while afters:
                    start, end = at + int64(trailing_zeros(firsts)), at + int64(trailing_zeros(afters))
                    firsts, afters = without_lowest(firsts), without_lowest(afters)
                    starts[waiting], ends[waiting], where[waiting] = start, end, count
                    waiting, count = waiting + 1, count + 1
                at += rest
            if rest == 0:  # near the end of the data, or a word that is longer than a window
                while at < last and _blank(data[at]):
                    at += 1
                if at < last:
                    start, at = at, min(_word_end(data, at), last)
                    starts[waiting], ends[waiting], where[waiting] = start, at, count
                    waiting, count = waiting + 1, count + 1
            if waiting >= block:
                _settle(data, tables, lanes, starts, ends, keys, places, where, waiting, tokens)
                waiting = 0
        tokens[count] = uint32(tables.end) | _END
        count += 1
    _settle(data, tables, lanes, starts, ends, keys, places, where, waiting, tokens)
    return count


@njit(cache=True, nogil=True, forceinline=True)
def _words(data, at, last):
    """``(starts, ends, rest)`` of the words of a window, as ``runs.edges`` has them."""
    blanks = between64(data, at, 0, 9, 13) | between64(data, at, 0, 32, 32) | between64(data, at, 0, 0, 0)
    size = min(WINDOW, last - at)
    return edges(~blanks, uint64(0), size, at + size == last)


@njit(cache=True, nogil=True)
def _settle(data, tables, lanes, starts, ends, keys, places, where, waiting, tokens):
    """Puts the numbers of the ``waiting`` words in ``tokens``, each ``where`` it belongs."""
    data, tokens, tables = borrow(data), borrow(tokens), _borrowed(tables)
    for k in range(waiting):
        keys[k] = murmur(data, starts[k], ends[k])
        places[k] = _aim(tables, lanes, 0, keys[k])
        prefetch(tables.memory, places[k])
    for k in range(waiting):
        place, known = _find(tables, lanes, 0, places[k], keys[k])
        number = load32(tables.memory, place)
        tokens[where[k]] = number if known else uint32(0)


@njit(cache=True, nogil=True)
def _score(tokens, tables, lanes, books, block, scores):
    tokens, tables = borrow(tokens), _borrowed(tables)
    memory = tables.memory
    order = len(tables.starts) - 1
    size = block + _BEFORE
    ids, values = np.zeros(size, np.uint32), np.zeros(size << 3, np.uint64)
    lengths, waiting = np.zeros(size, np.int64), np.zeros(size, np.uint64)
    keys, places = np.zeros(size, np.uint64), np.zeros(size, np.int64)
    unigrams, first = tables.starts[1], 0
    scored, total = 0, np.float32(0)
    while first < len(tokens):
        used = _BEFORE + min(block, len(tokens) - first)
        for i in range(_BEFORE, used):
            ids[i] = tokens[first + i - _BEFORE] & _ID
            prefetch(memory, unigrams + np.int64(ids[i]) * UNIGRAM)
        count = uint64(0)
        for j in range(_BEFORE, used):
            i = uint64(j)
            numbers = load64(memory, unigrams + np.int64(ids[i]) * UNIGRAM)
            row = i << _SHIFT
            values[row], lengths[i] = numbers, 0
            for n in range(1, LONGEST_ORDER):
                values[row + uint64(n)] = _NO_NUMBERS
            key = longer(uint64(ids[i]), ids[i - _ONE])
            place = _aim(tables, lanes, 2, key)
            prefetch(memory, place)
            waiting[count], keys[count], places[count] = i, key, place
            begins = tokens[first + j - _BEFORE] >> uint32(31)
            count += uint64(_goes_on(numbers, values[row - _ROW]) & (begins == 0))
        for n in range(2, order):
            passed = count
            count = uint64(0)
            for k in range(passed):
                i, key = waiting[k], keys[k]
                place, known = _find(tables, lanes, n, places[k], key)
                numbers = _numbers(memory, books, n, place, known)
                row = (i << _SHIFT) + uint64(n - 1)
                values[row] = numbers
                lengths[i] += known
                key = longer(key, ids[i - uint64(n)])
                goes_on = _goes_on(numbers, values[row - _ROW])
                ahead = _aim(tables, lanes, n + 1, key)
                waiting[count], keys[count], places[count] = i, key, ahead
                prefetch(memory, ahead if goes_on else place)
                count += uint64(goes_on)
        for k in range(count):
            i = waiting[k]
            place, known = _find(tables, lanes, order, places[k], keys[k])
            values[(i << _SHIFT) + uint64(order - 1)] = _probability(memory, books, order, place)
            lengths[i] += known
        for i in range(_BEFORE, used):
            token, row = tokens[first + i - _BEFORE], uint64(i) << _SHIFT
            longest = lengths[i]
            score = _single(values[row + uint64(longest)] | _SIGN)
            for n in range(LONGEST_ORDER - 1):
                backoff = _single(values[row - _ROW + uint64(n)] >> uint64(32))
                score += backoff if n >= longest else _NOTHING
            total = np.float32(0) if token & _BEGIN else total + score
            if token & _END:
                scores[scored] = total
                scored += 1
        for k in range(_BEFORE):
            i = used - _BEFORE + k
            ids[k] = ids[i]
            for n in range(LONGEST_ORDER):
                values[(k << 3) + n] = values[(i << 3) + n]
        first += block
