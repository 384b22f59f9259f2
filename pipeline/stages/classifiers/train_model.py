"""Training of a linear classifier over averaged embeddings (Joulin et al. 2016, fastText's supervised mode).

fastText's own training cannot be repeated: several threads race, and with one nine tenths of the input matrix stay
uninitialised memory (``DenseMatrix::uniform`` fills a tenth for each thread). So the loop is ours, in one thread and in
a fixed order; the file is fastText's, version 12, and its library reads it.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from pipeline.stages.classifiers.features import Dictionary, Shape, dictionary, most_rows, text_rows
from pipeline.store import files
from pipeline.text.buffers import text_buffers
from pipeline.text.hashing import uniform
from pipeline.text.jit import njit
from pipeline.text.kernels import text_data

#: The labels of the models that builds make.
POSITIVE, NEGATIVE = "positive", "negative"
LABELS = (NEGATIVE, POSITIVE)
_MAGIC, _FORMAT, _SOFTMAX, _SUPERVISED = 793712314, 12, 3, 3


def train(
    texts: pa.StringArray, labels: np.ndarray, names: Sequence[str], path: str, *,
    dimensions: int, epochs: int, learning_rate: float, min_count: int, shape: Shape, seed: int,
) -> None:  # fmt: skip
    """Write the model of ``texts`` (lines of words parted by blanks) and their ``labels``: int [n], below len(names);
    or float [n, len(names)], the probability of each, when what another model says is learned.

    Texts are learned from in their order, ``epochs`` times, at a rate that falls linearly to 0. The same arguments give
    the same bytes.
    """
    data, offsets = text_buffers(texts)
    known = dictionary(data, offsets, min_count)
    rows = len(known.words) + shape.buckets
    inner, outer = _initial(rows, dimensions, seed), np.zeros((len(names), dimensions), np.float32)
    wanted = np.eye(len(names))[labels] if labels.ndim == 1 else labels.astype(np.float64)
    words = known.keys, known.rows, len(known.words)
    _learn(text_data(data), offsets, wanted, *words, shape, inner, outer, epochs, learning_rate)
    with files.replacing(path) as handle:
        for part in _file(known, np.rint(wanted.sum(0)).astype(np.int64), names, shape, epochs, inner, outer):
            handle.write(part)


def _file(
    known: Dictionary, times: np.ndarray, names: Sequence[str], shape: Shape, epochs: int, inner: np.ndarray,
    outer: np.ndarray,
):  # fmt: skip
    """The bytes of a model, part by part."""
    dimensions = inner.shape[1]
    settings = (dimensions, 5, epochs, 1, 5, shape.word_ngrams, _SOFTMAX, _SUPERVISED, shape.buckets)
    yield struct.pack("<14i d", _MAGIC, _FORMAT, *settings, shape.shortest, shape.longest, 100, 1e-4)
    words = len(known.words)
    yield struct.pack("<3i 2q", words + len(names), words, len(names), int(known.counts.sum()), -1)
    for word, count in zip(known.words, known.counts.tolist(), strict=True):
        yield word + b"\0" + struct.pack("<q b", count, 0)
    for name, count in zip(names, times.tolist(), strict=True):
        yield b"__label__" + name.encode() + b"\0" + struct.pack("<q b", count, 1)
    for matrix in (inner, outer):
        yield struct.pack("<? 2q", False, *matrix.shape)
        yield np.ascontiguousarray(matrix, "<f4").tobytes()


@njit(cache=True, nogil=True)
def _initial(rows, dimensions, seed):
    """float32, uniform in ±1/dimensions: by a counter through SplitMix64."""
    vectors = np.empty((rows, dimensions), np.float32)
    number = 0
    for row in range(rows):
        for column in range(dimensions):
            number += 1
            vectors[row, column] = (2 * uniform(seed, number) - 1) / dimensions
    return vectors


@njit(cache=True, nogil=True)
def _learn(data, offsets, wanted, keys, rows, words, shape, inner, outer, epochs, learning_rate):
    longest = 0
    for text in range(len(wanted)):
        longest = max(longest, int(offsets[text + 1] - offsets[text]))
    out = np.empty(most_rows(longest, shape), np.int32)
    hashes, wrapped = np.empty(longest // 2 + 2, np.int32), np.empty(longest + 4, np.uint8)
    classes, dimensions = outer.shape
    hidden, gradient = np.empty(dimensions, np.float32), np.empty(dimensions, np.float32)
    scores = np.empty(classes, np.float64)
    done, total = 0, max(1, epochs * len(wanted))
    for _ in range(epochs):
        for text in range(len(wanted)):
            rate = learning_rate * (1 - done / total)
            done += 1
            count = text_rows(data, offsets[text], offsets[text + 1], keys, rows, words, shape, hashes, wrapped, out)
            if count == 0:
                continue
            hidden[:] = 0
            gradient[:] = 0
            for k in range(count):
                row = out[k]
                for d in range(dimensions):
                    hidden[d] += inner[row, d]
            for d in range(dimensions):
                hidden[d] /= np.float32(count)
            _softmax(outer, hidden, scores)
            for label in range(classes):
                step = np.float32(rate * (wanted[text, label] - scores[label]))
                for d in range(dimensions):
                    gradient[d] += step * outer[label, d]
                    outer[label, d] += step * hidden[d]
            for d in range(dimensions):
                gradient[d] /= np.float32(count)
            for k in range(count):
                row = out[k]
                for d in range(dimensions):
                    inner[row, d] += gradient[d]


@njit(cache=True, nogil=True)
def _softmax(outer, hidden, scores):
    for label in range(len(scores)):
        total = 0.0
        for d in range(len(hidden)):
            total += outer[label, d] * hidden[d]
        scores[label] = total
    highest, total = scores.max(), 0.0
    for label in range(len(scores)):
        scores[label] = math.exp(scores[label] - highest)
        total += scores[label]
    for label in range(len(scores)):
        scores[label] /= total
