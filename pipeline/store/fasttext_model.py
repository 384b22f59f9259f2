"""fastText classifiers read from their files (.bin, .ftz): what their prediction needs, as arrays.

The layout is that of fastText 0.9 (facebookresearch/fastText: args.cc, dictionary.cc, densematrix.cc, quantmatrix.cc,
productquantizer.cc). The file is memory-mapped, and a full matrix is used in its place there, so that all threads and
processes of a machine share one copy.
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from pipeline import MillError
from pipeline.store import model_files

_MAGIC, _VERSIONS = 793712314, (11, 12)
_SUPERVISED = 3
_LABEL = b"__label__"
_CENTROIDS = 256  # of each part of a product quantiser

#: Losses by their number in the file: a tree of yes and no, each label by itself, or a softmax.
TREE, NEGATIVE_SAMPLING, SOFTMAX, ONE_VS_ALL = 1, 2, 3, 4


@dataclass(frozen=True)
class Matrix:
    """``full`` float32 ``[rows, dimension]``; or, where it has no rows, quantised by product: ``codes`` uint8
    ``[rows, parts]`` name their ``centroids`` float32 ``[parts, 256, size of a part]`` (the last part may have fewer
    numbers), to be multiplied by ``norms`` float32 ``[rows]``, which are 1 where the file has none.
    """

    full: np.ndarray
    codes: np.ndarray
    centroids: np.ndarray
    norms: np.ndarray

    def __len__(self) -> int:
        return max(len(self.full), len(self.codes))

    def dense(self, dimension: int) -> np.ndarray:
        """float32 ``[rows, dimension]``."""
        if len(self.full):
            return np.array(self.full)
        parts = self.centroids[np.arange(self.codes.shape[1]), self.codes]
        return parts.reshape(len(self.codes), -1)[:, :dimension] * self.norms[:, None]


@dataclass(frozen=True, eq=False)  # one is the same as itself alone, so that tables can be kept of it
class Model:
    """``vectors`` has a row for each word of the vocabulary (``words`` uint8, ``word_offsets`` int64), then one for
    each bucket of n-grams. ``kept`` int32 ``[buckets]`` gives the place of a bucket's row after those of the words, -1
    where it was pruned; it is empty where none was. ``smallest`` and ``largest`` are the letters of an n-gram,
    ``word_ngrams`` its words. ``output`` is float32 ``[labels, dimension]``, ``counts`` int64 how often each label was
    seen.
    """

    labels: list[str]
    counts: np.ndarray
    words: np.ndarray
    word_offsets: np.ndarray
    smallest: int
    largest: int
    word_ngrams: int
    buckets: int
    loss: int
    dimension: int
    kept: np.ndarray
    vectors: Matrix
    output: np.ndarray


def load(path: str) -> Model:
    """The classifier in ``path``, read once a process. Raises MillError if the file is none."""
    return _load(path, model_files.digest(path))


def labels(path: str) -> list[str]:
    """What the model in ``path`` can say of a text, without ``__label__``: languages, or classes."""
    return load(path).labels


@lru_cache(maxsize=4)
def _load(path: str, _digest: str) -> Model:
    try:
        with Path(path).open("rb") as file:
            return _Reader(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)).model()
    except ValueError as error:  # UnicodeDecodeError among them
        raise MillError(f"{path}: not a fastText model ({error}); give the path of one, .bin or .ftz") from error


class _Reader:
    """Reads a file from its start; no size that it states is believed beyond the file's end."""

    def __init__(self, data: mmap.mmap) -> None:
        self.data, self.at = data, 0

    def model(self) -> Model:
        magic, version = self.numbers(np.int32, 2)
        if magic != _MAGIC or version not in _VERSIONS:
            raise ValueError("it does not begin as one")
        dimension, _, _, _, _, word_ngrams, loss, kind, buckets, smallest, largest, _ = self.numbers(np.int32, 12)
        self.array(np.float64, 1)
        if kind != _SUPERVISED:
            raise ValueError("it has vectors of words and no labels: it was not trained by `supervised`")
        if loss not in (TREE, NEGATIVE_SAMPLING, SOFTMAX, ONE_VS_ALL) or dimension < 1 or buckets < 0:
            raise ValueError("its settings are none that fastText writes")
        if version == _VERSIONS[0]:
            largest = 0  # classifiers of that version have no n-grams of letters
        words, names, counts, pruned = self.vocabulary()
        kept = self.kept(pruned, buckets)
        quantised = self.flag()
        vectors = self.quantised() if quantised else self.full()
        used = buckets if pruned < 0 else int(kept.max(initial=-1)) + 1
        if len(vectors) < len(words) + used:
            raise ValueError(f"it has {len(vectors)} vectors for {len(words)} words and {used} buckets of n-grams")
        output = (self.quantised() if self.flag() and quantised else self.full()).dense(dimension)
        if output.shape != (len(names), dimension):
            raise ValueError(f"it has {len(names)} labels of {dimension} numbers, but {output.shape} in its output")
        return Model(
            labels=[name.removeprefix(_LABEL).decode() for name in names],
            counts=np.array(counts, np.int64),
            words=np.frombuffer(b"".join(words), np.uint8),
            word_offsets=np.cumsum([0, *map(len, words)], dtype=np.int64),
            smallest=smallest,
            largest=largest,
            word_ngrams=word_ngrams,
            buckets=buckets,
            loss=loss,
            dimension=dimension,
            kept=kept,
            vectors=vectors,
            output=output,
        )

    def vocabulary(self) -> tuple[list[bytes], list[bytes], list[int], int]:
        """Words, labels, how often each label was seen, and how many buckets pruning left (-1: there was none)."""
        size, word_count, label_count = self.numbers(np.int32, 3)
        _, pruned = self.numbers(np.int64, 2)
        if size != word_count + label_count or label_count < 1 or min(word_count, pruned + 1) < 0:
            raise ValueError("its vocabulary does not hold together")
        words, names, counts = [], [], []
        for _ in range(size):
            end = self.data.find(b"\0", self.at)
            entry, self.at = self.data[self.at : end], end + 1
            (count,), (label,) = self.numbers(np.int64, 1), self.numbers(np.int8, 1)
            (names if label else words).append(entry)
            counts += [count] * label
        if len(words) != word_count or end < 0:
            raise ValueError("its vocabulary does not hold together")
        return words, names, counts, pruned

    def kept(self, pruned: int, buckets: int) -> np.ndarray:
        if pruned < 0:
            return np.zeros(0, np.int32)
        pairs = self.array(np.int32, 2 * pruned).reshape(pruned, 2)
        if pruned and (pairs.min() < 0 or pairs[:, 0].max() >= buckets):
            raise ValueError("its pruned n-grams do not hold together")
        kept = np.full(buckets, -1, np.int32)
        kept[pairs[:, 0]] = pairs[:, 1]
        return kept

    def full(self) -> Matrix:
        rows, columns = self.numbers(np.int64, 2)
        values = self.array(np.float32, rows * columns).reshape(rows, columns)
        return Matrix(values, np.zeros((0, 0), np.uint8), np.zeros((0, 0, 0), np.float32), np.zeros(0, np.float32))

    def quantised(self) -> Matrix:
        scaled = self.flag()
        rows, _ = self.numbers(np.int64, 2)
        (size,) = self.numbers(np.int32, 1)
        codes = self.array(np.uint8, size)
        centroids = self.quantiser()
        norms = np.ones(rows, np.float32)
        if scaled:
            places = self.array(np.uint8, rows)
            norms = self.quantiser()[0, places, 0]
        codes = np.array(codes).reshape(rows, len(centroids))
        return Matrix(np.zeros((0, 0), np.float32), codes, centroids, norms)

    def quantiser(self) -> np.ndarray:
        """Centroids float32 ``[parts, 256, size of a part]``; where the last part is smaller, it ends in zeros."""
        dimension, parts, part, last = self.numbers(np.int32, 4)
        if min(parts, part, last) < 1 or last > part or (parts - 1) * part + last != dimension:
            raise ValueError("its quantiser does not hold together")
        values = self.array(np.float32, dimension * _CENTROIDS)
        centroids = np.zeros((parts, _CENTROIDS, part), np.float32)
        whole = (parts - 1) * _CENTROIDS * part
        centroids[:-1] = values[:whole].reshape(parts - 1, _CENTROIDS, part)
        centroids[-1, :, :last] = values[whole:].reshape(_CENTROIDS, last)
        return centroids

    def flag(self) -> bool:
        return bool(self.array(np.uint8, 1)[0])

    def numbers(self, kind: type, count: int) -> list[int]:
        return self.array(kind, count).tolist()

    def array(self, kind: type, count: int) -> np.ndarray:
        size = count * np.dtype(kind).itemsize
        if count < 0 or size > len(self.data) - self.at:
            raise ValueError("it ends before all that it announces")
        values = np.frombuffer(self.data, kind, count, self.at)
        self.at += size
        return values
