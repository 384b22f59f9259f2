"""What a fastText classifier says of texts, by kernels over Arrow buffers that hold no lock of the interpreter.

Joulin et al. 2016, "Bag of tricks for efficient text classification", as fastText 0.9 computes it (dictionary.cc,
model.cc, loss.cc): the mean of the vectors of a text's words, of the n-grams of their letters and of the n-grams of
words, then a softmax, a sigmoid for each label, or a tree of them. Labels and scores are fastText's; scores differ in
the last digits of float32, because the vectors of a word are added up before those of the text.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy import uint64

from pipeline.store.fasttext_model import TREE, Matrix, Model
from pipeline.text.buffers import text_buffers
from pipeline.text.fasttext_labels import SIGMOID_LIMIT, SIGMOID_STEPS, rate, walk
from pipeline.text.hashing import FASTTEXT_OFFSET, GOLDEN, fasttext_hash, fasttext_step, span_hash, tail64
from pipeline.text.jit import int64, njit
from pipeline.text.kernels import (
    ZERO,
    add16,
    between16,
    between64,
    borrow,
    high64,
    load64,
    load_float,
    ones,
    prefetch,
    text_data,
    trailing_zeros,
)
from pipeline.text.runs import WINDOW, edges, without_lowest
from pipeline.text.utf8 import continues

#: Words whose vectors are kept for the time of a call: most words of a text were in one before. A power of two.
_REMEMBERED = 1 << 15
#: Numbers of a quantised matrix that are worked out before: adding up codes takes some ten times as long.
_SMALL = 1 << 24
_TRIES = 4  # places at which a word is looked for
_TOGETHER = 128  # words, or n-grams of letters, that are fetched from memory before any is looked at
_LINE = 64  # bytes of a line of the processor's cache
_SHORT = 7  # bytes of a word that its key holds

_LABEL = np.frombuffer(b"__label__", np.uint8)
_END = np.frombuffer(b"</s>", np.uint8)
_PAIRING = np.uint64(116049371)


class _Tables(NamedTuple):
    """A model as the kernel takes it."""

    words: np.ndarray
    word_offsets: np.ndarray
    slots: np.ndarray
    kept: np.ndarray
    full: np.ndarray
    codes: np.ndarray
    centroids: np.ndarray
    norms: np.ndarray
    output: np.ndarray
    children: np.ndarray
    sigmoid: np.ndarray
    dimension: int
    reciprocal: np.uint64  # of the number of buckets, as ``_bucket`` takes it


def predict(model: Model, texts: pa.StringArray, k: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """``(labels int32 [n, k], scores float32 [n, k])``: the ``k`` likeliest labels of each text, best first.

    A text is read as one line: its line ends, and each ``</s>``, are blanks. Labels are places in ``model.labels``; -1
    with score 0 where there are fewer. A score can be a trace above 1, as fastText's are.
    """
    k = min(k, len(model.labels))
    data, offsets = text_buffers(texts)
    labels, scores = np.full((len(texts), k), -1, np.int32), np.zeros((len(texts), k), np.float32)
    settings = (model.smallest, model.largest, model.word_ngrams, model.buckets, model.loss)
    _predict(text_data(data), offsets, _tables(model), settings, labels, scores)
    return labels, scores


@lru_cache(maxsize=4)
def _tables(model: Model) -> _Tables:
    vectors = _in_order(model)
    full = vectors.full.reshape(-1).view(np.uint8)
    if len(vectors.codes) * model.dimension <= _SMALL:
        full = _aligned(vectors.dense(model.dimension).reshape(-1).view(np.uint8))
    x = (np.arange(SIGMOID_STEPS + 1, dtype=np.float32) * 2 * SIGMOID_LIMIT) / SIGMOID_STEPS - SIGMOID_LIMIT
    return _Tables(
        words=text_data(model.words),
        word_offsets=model.word_offsets,
        slots=_slots(text_data(model.words), model.word_offsets),
        kept=_kept(model.kept),
        full=text_data(full),
        codes=text_data(vectors.codes),
        centroids=vectors.centroids,
        norms=vectors.norms,
        # By column, a label's sum goes on in fastText's order and many labels are summed at once.
        output=np.ascontiguousarray(model.output if model.loss == TREE else model.output.T),
        children=_tree(model.counts) if model.loss == TREE else np.zeros((0, 2), np.int32),
        sigmoid=(1 / (1 + np.exp(-x))).astype(np.float32),
        dimension=model.dimension,
        reciprocal=np.uint64((2**64 - 1) // max(model.buckets, 1) + 1 & 2**64 - 1),
    )


def _aligned(data: np.ndarray) -> np.ndarray:
    """A copy of bytes that begins with a line of the cache, so that few rows lie in two."""
    room = np.empty(len(data) + _LINE, np.uint8)
    start = -room.ctypes.data % _LINE
    room[start : start + len(data)] = data
    return room[start : start + len(data)]


def _in_order(model: Model) -> Matrix:
    """The model's vectors, those of the buckets that pruning left in the order of the buckets."""
    if not len(model.kept):
        return model.vectors
    words = np.arange(len(model.word_offsets) - 1)
    rows = np.concatenate([words, len(words) + model.kept[model.kept >= 0]])
    vectors = model.vectors
    full, codes, norms = (part[rows] if len(part) else part for part in (vectors.full, vectors.codes, vectors.norms))
    return Matrix(full, codes, vectors.centroids, norms)


def _kept(kept: np.ndarray) -> np.ndarray:
    """uint64 ``[buckets / 64, 2]``: which of 64 buckets pruning left, as bits, and how many before them; no rows if
    there was none."""
    bits = np.packbits(np.append(kept >= 0, np.zeros(-len(kept) % 64, np.bool_)), bitorder="little").view(np.uint64)
    counts = np.bitwise_count(bits).astype(np.uint64)
    return np.stack([bits, np.cumsum(counts, dtype=np.uint64) - counts], axis=1)


def _tree(counts: np.ndarray) -> np.ndarray:
    """int32 ``[2 labels - 1, 2]``: the children of each node of fastText's Huffman tree; the labels are its leaves.

    ``counts`` go down from label to label. A node's second child is what its sigmoid says yes to.
    """
    leaves = len(counts)
    children = np.full((2 * leaves - 1, 2), -1, np.int32)
    weights = np.full(2 * leaves - 1, 10**15, np.int64)
    weights[:leaves] = counts
    leaf, node = leaves - 1, leaves
    for parent in range(leaves, 2 * leaves - 1):
        for side in range(2):
            if leaf >= 0 and weights[leaf] < weights[node]:
                children[parent, side], leaf = leaf, leaf - 1
            else:
                children[parent, side], node = node, node + 1
        weights[parent] = weights[children[parent]].sum()
    return children


@njit(cache=True, nogil=True)
def _slots(words, word_offsets):
    """uint64, a power of two of slots: the words by their hash, which is the upper half of an entry; the lower is the
    word's place + 1, 0 where there is none."""
    size = 2
    while size < 2 * len(word_offsets):
        size *= 2
    slots = np.zeros(size, np.uint64)
    for word in range(len(word_offsets) - 1):
        h = fasttext_hash(words, word_offsets[word], word_offsets[word + 1])
        at = np.int64(h) & (size - 1)
        while slots[at]:
            at = (at + 1) & (size - 1)
        slots[at] = uint64(h) << uint64(32) | uint64(word + 1)
    return slots


@njit(cache=True, nogil=True, forceinline=True)
def _same(data, start, end, others, first, last):
    size, k = end - start, 0
    if size != last - first:
        return False
    while k + 8 <= size:
        if load64(data, start + k) != load64(others, first + k):
            return False
        k += 8
    return k == size or tail64(data, start + k, size - k) == tail64(others, first + k, size - k)


@njit(cache=True, nogil=True)
def _find(data, start, end, h, words, word_offsets, slots):
    """The place of a word in the vocabulary; -1 for another."""
    at = np.int64(h) & (len(slots) - 1)
    while slots[at]:
        if slots[at] >> uint64(32) == uint64(h):
            word = np.int64(slots[at] & uint64(0xFFFFFFFF)) - 1
            if _same(data, start, end, words, word_offsets[word], word_offsets[word + 1]):
                return word
        at = (at + 1) & (len(slots) - 1)
    return -1


@njit(cache=True, nogil=True, forceinline=True)
def _key(data, start, end):
    """What a word is remembered by, not 0: its bytes where these are few, else 63 bits of a hash of them."""
    if end - start > _SHORT:
        return span_hash(data, start, end - start) | uint64(1 << 63)
    return tail64(data, start, end - start) | uint64(end - start) << uint64(56)


@njit(cache=True, nogil=True, forceinline=True)
def _add(row, tables, into, at):
    """Adds a row of the vectors to the numbers of ``into`` from ``at`` on."""
    full, codes, centroids = tables.full, tables.codes, tables.centroids
    dimension, d = tables.dimension, 0
    if len(full):
        while d + 16 <= dimension:
            add16(into, at + d, full, 4 * (row * dimension + d))
            d += 16
        while d < dimension:
            into[at + d] += load_float(full, 4 * (row * dimension + d))
            d += 1
        return
    norm, size = tables.norms[row], centroids.shape[2]
    for part in range(codes.shape[1]):
        code = codes[row, part]
        for k in range(min(size, dimension - d)):
            into[at + d + k] += norm * centroids[part, code, k]
        d += size


@njit(cache=True, nogil=True, forceinline=True)
def _bucket(h, buckets, reciprocal):
    """``h % buckets`` for 32 bits, without a division (Lemire, Kaser and Kurz 2019)."""
    return np.int64(high64(uint64(reciprocal * uint64(h)), buckets))


@njit(cache=True, nogil=True, forceinline=True)
def _is_kept(bucket, kept):
    """1 if the bucket has a vector, 0 if it was pruned."""
    return np.int64(kept[bucket >> 6, 0] >> uint64(bucket & 63) & uint64(1)) if len(kept) else 1


@njit(cache=True, nogil=True, forceinline=True)
def _row(bucket, tables):
    """The row of a bucket that has one."""
    kept, first = tables.kept, len(tables.word_offsets) - 1
    if not len(kept):
        return first + bucket
    before = kept[bucket >> 6, 0] & ((uint64(1) << uint64(bucket & 63)) - uint64(1))
    return first + np.int64(kept[bucket >> 6, 1]) + np.int64(ones(before))


@njit(cache=True, nogil=True)
def _add_buckets(buckets, count, tables, into, at):
    """Adds the vectors of those of the ``count`` buckets that have one; how many they were."""
    left = 0
    for k in range(count):
        bucket = buckets[k]
        row = _row(bucket, tables)
        if len(tables.full):
            prefetch(tables.full, 4 * row * tables.dimension)
        buckets[left] = row
        left += _is_kept(bucket, tables.kept)
    for k in range(left):
        _add(buckets[k], tables, into, at)
    return left


@njit(cache=True, nogil=True)
def _add_word(data, start, end, letters, grams, tables, settings, into, to):
    """Adds the vectors of a word and of the n-grams of its letters; how many these were, and the word's hash."""
    smallest, largest, _, buckets, _ = settings
    data, letters, grams, into = borrow(data), borrow(letters), borrow(grams), borrow(into)
    tables = _borrowed(tables)
    h = fasttext_hash(data, start, end)
    word = _find(data, start, end, h, tables.words, tables.word_offsets, tables.slots)
    count = 0
    if word >= 0:
        _add(word, tables, into, to)
        count += 1
    if largest < 1 or buckets < 1:
        return count, h
    length = end - start + 2
    letters[0], letters[length - 1], letters[length] = 60, 62, 0  # < and >
    for k in range(start, end):  # an assignment of slices would take seconds to compile
        letters[k - start + 1] = data[k]
    modulus, waiting = uint64(buckets), 0
    for first in range(length):
        if continues(letters[first]):
            continue
        gram, n = FASTTEXT_OFFSET, 0
        for at in range(first, length):
            gram = fasttext_step(gram, letters[at])
            ends = not continues(letters[at + 1])
            n += ends
            if ends and n >= smallest and not (n == 1 and (first == 0 or at + 1 == length)):
                bucket = _bucket(gram, modulus, tables.reciprocal)
                if len(tables.kept):
                    prefetch(tables.kept, 2 * (bucket >> 6))
                grams[waiting] = bucket
                waiting += 1
                if waiting == len(grams):
                    count += _add_buckets(grams, waiting, tables, into, to)
                    waiting = 0
            if n == largest and ends:
                break
    return count + _add_buckets(grams, waiting, tables, into, to), h


@njit(cache=True, nogil=True, forceinline=True)
def _blank(byte):
    return byte == 32 or 9 <= byte <= 13 or byte == 0


@njit(cache=True, nogil=True, forceinline=True)
def _starts_with(data, at, end, prefix):
    return at + len(prefix) <= end and _same(data, at, at + len(prefix), prefix, 0, len(prefix))


@njit(cache=True, nogil=True, inline="always")
def _borrowed(tables):
    return _Tables(
        borrow(tables.words),
        borrow(tables.word_offsets),
        borrow(tables.slots),
        borrow(tables.kept),
        borrow(tables.full),
        borrow(tables.codes),
        borrow(tables.centroids),
        borrow(tables.norms),
        borrow(tables.output),
        borrow(tables.children),
        borrow(tables.sigmoid),
        tables.dimension,
        tables.reciprocal,
    )


@njit(cache=True, nogil=True)
def _word_end(data, at, last):
    """Where the word ends that begins at ``at``: at a blank, at ``</s>`` or at ``last``."""
    while at < last:
        if at + 16 <= len(data):
            marks = between16(data, at, 0, 0, 32) | between16(data, at, 0, 60, 60)
            at += np.int64(trailing_zeros(marks | uint64(1 << 16)))
            if marks == 0:
                continue
            if at >= last:
                break
        if _blank(data[at]) or (data[at] == 60 and _starts_with(data, at, last, _END)):
            return at
        at += 1
    return last


@njit(cache=True, nogil=True)
def _next_words(data, at, last, starts, ends):
    """``(count, at)``: fills ``starts`` and ``ends`` with the next words that are no labels, _TOGETHER or a few more,
    the last of them before ``at``."""
    data, many = borrow(data), 0
    while many < _TOGETHER and at < last:
        rest = 0
        if at + WINDOW < len(data):
            blanks = between64(data, at, 0, 9, 13) | between64(data, at, 0, 32, 32) | between64(data, at, 0, 0, 0)
            size = min(WINDOW, last - at, int64(trailing_zeros(between64(data, at, 0, 60, 60))))
            firsts, afters, rest = edges(~blanks, uint64(0), size, at + size == last)
            while afters:
                start, end = at + int64(trailing_zeros(firsts)), at + int64(trailing_zeros(afters))
                firsts, afters = without_lowest(firsts), without_lowest(afters)
                starts[many], ends[many] = start, end
                many += not (data[start] == 95 and _starts_with(data, start, end, _LABEL))
            at += rest
        if rest == 0:  # what begins with or holds a <, is longer than a window, or near the end of the data
            if _blank(data[at]):
                at += 1
            elif data[at] == 60 and _starts_with(data, at, last, _END):
                at += len(_END)
            else:
                start, at = at, _word_end(data, at, last)
                starts[many], ends[many] = start, at
                many += not (data[start] == 95 and _starts_with(data, start, at, _LABEL))
    return many, at


@njit(cache=True, nogil=True)
def _predict(data, offsets, tables, settings, labels, scores):
    word_ngrams, buckets, loss = settings[2], settings[3], settings[4]
    data, tables = borrow(data), _borrowed(tables)
    dimension = tables.dimension
    longest = ZERO
    for text in range(len(offsets) - 1):
        longest = max(longest, offsets[text + 1] - offsets[text])
    letters, grams = np.empty(longest + 3, np.uint8), np.empty(_TOGETHER, np.int64)
    hashes = np.empty(longest // 2 + 2 if word_ngrams > 1 else 0, np.uint32)
    keys, counts = np.zeros(_REMEMBERED, np.uint64), np.empty(_REMEMBERED, np.int32)
    sums, word_hashes = np.empty(_REMEMBERED * dimension + _LINE // 4, np.float32), np.empty(_REMEMBERED, np.uint32)
    base = np.int64(-(sums.ctypes.data // 4) & (_LINE // 4 - 1))
    room = _TOGETHER + WINDOW
    next_starts, next_ends = np.empty(room, np.int64), np.empty(room, np.int64)
    next_keys, next_places = np.empty(room, np.uint64), np.empty(room, np.int64)
    hidden = np.empty(dimension, np.float32)
    values = np.empty(tables.output.shape[1], np.float32)
    nodes, node_scores = np.empty(len(tables.children) + 1, np.int32), np.empty(len(tables.children) + 1, np.float32)
    end_hash = fasttext_hash(_END, 0, len(_END))
    end_word = _find(_END, 0, len(_END), end_hash, tables.words, tables.word_offsets, tables.slots)
    for text in range(len(offsets) - 1):
        for d in range(dimension):
            hidden[d] = 0
        inputs, words = ZERO, ZERO
        at, last = offsets[text], offsets[text + 1]
        while at < last:
            many, at = _next_words(data, at, last, next_starts, next_ends)
            for k in range(many):
                key = _key(data, next_starts[k], next_ends[k])
                place = np.int64(uint64(key * GOLDEN) >> uint64(40)) & (_REMEMBERED - 1)
                prefetch(keys, place)
                prefetch(sums, base + place * dimension)
                next_keys[k], next_places[k] = key, place
            for k in range(many):
                start, end, key, first = next_starts[k], next_ends[k], next_keys[k], next_places[k]
                place = first
                for n in range(_TRIES):
                    place = (first + n) & (_REMEMBERED - 1)
                    if keys[place] == key or keys[place] == 0:
                        break
                if keys[place] != key:
                    if keys[place]:
                        place = first  # the word there makes room
                    row = base + place * dimension
                    for d in range(dimension):
                        sums[row + d] = 0
                    count, h = _add_word(data, start, end, letters, grams, tables, settings, sums, row)
                    keys[place], counts[place], word_hashes[place] = key, count, h
                _add_floats(hidden, sums, base + place * dimension)
                inputs += counts[place]
                if word_ngrams > 1:
                    hashes[words] = word_hashes[place]
                words += 1
        if end_word >= 0:
            _add(end_word, tables, hidden, 0)
            inputs += 1
        if word_ngrams > 1 and buckets > 0:
            hashes[words] = end_hash
            for first in range(words + 1):
                h = uint64(np.int64(np.int32(hashes[first])))
                for other in range(first + 1, min(words + 1, first + word_ngrams)):
                    h = uint64(h * _PAIRING + uint64(np.int64(np.int32(hashes[other]))))
                    bucket = np.int64(h % uint64(buckets))
                    if _is_kept(bucket, tables.kept):
                        _add(_row(bucket, tables), tables, hidden, 0)
                        inputs += 1
        if inputs == 0:
            continue
        for d in range(dimension):
            hidden[d] *= np.float32(1 / inputs)
        if loss == TREE:
            walk(hidden, tables.output, tables.children, nodes, node_scores, labels[text], scores[text])
        else:
            rate(hidden, tables.output, loss, tables.sigmoid, values, labels[text], scores[text])


@njit(cache=True, nogil=True, forceinline=True)
def _add_floats(into, numbers, at):
    d = 0
    while d + 16 <= len(into):
        add16(into, d, numbers, 4 * (at + d))
        d += 16
    while d < len(into):
        into[d] += numbers[at + d]
        d += 1
