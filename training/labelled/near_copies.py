"""Test rows that are near copies of training rows: found by our MinHash, verified by exact Jaccard similarity.

The shingles and the threshold are those of deduplication. Signatures of 32 bands of 4 rows find a pair of similarity
0.72 with 1 - (1 - 0.72^4)^32 = 99.996 %, where the 14 bands of 8 rows that a large corpus can pay for find 64 %.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from pipeline.stages.dedup import lsh, minhash
from pipeline.stages.dedup.similarity_join import similarity
from pipeline.text.jit import njit
from pipeline.text.shingles import shingle_sets

CONFIG = minhash.Config(bands=32, rows=4)
_BATCH = 8192  # training rows that are compared at once


class Copy(NamedTuple):
    """The row ``test`` is a near copy of the row ``train``; ``similarity`` is Jaccard's, of word 5-grams."""

    test: int
    train: int
    similarity: float


def find(train: Sequence[str], test: Sequence[str]) -> list[Copy]:
    """Of each text of ``test`` that has a near copy in ``train`` the first such copy, in the order of ``test``.

    Equal texts are copies whether they hold words or not.
    """
    first: dict[str, int] = {}
    for row, text in enumerate(train):
        first.setdefault(text, row)
    known = {row: Copy(row, first[text], 1.0) for row, text in enumerate(test) if text in first}
    places: dict[str, list[int]] = {}
    for row, text in enumerate(test):
        if row not in known:
            places.setdefault(text, []).append(row)
    sources, texts = list(first), list(places)
    for at, copied, close in _similar(sources, texts):
        known |= {row: Copy(row, first[sources[copied]], close) for row in places[texts[at]]}
    return [known[row] for row in sorted(known)]


def _similar(train: list[str], test: list[str]) -> list[tuple[int, int, float]]:
    """For each of ``test`` that is similar to one of ``train``: its place, that of the first such, their similarity."""
    if not test:
        return []
    keys, worded = _keys(test)
    bands = [(order := np.argsort(keys[:, band], kind="stable"), keys[order, band]) for band in range(CONFIG.bands)]
    sets, offsets = shingle_sets(pa.array(test, pa.string()), CONFIG.ngram)
    left = worded  # bool [n]: texts with words that no copy was found of
    copies = []
    for start in range(0, len(train), _BATCH):
        batch = train[start : start + _BATCH]
        other_keys, other_worded = _keys(batch)
        a, b = np.divmod(_pairs(bands, other_keys), len(batch))
        wanted = left[a] & other_worded[b]
        a, b = a[wanted], b[wanted]
        others, other_offsets = shingle_sets(pa.array(batch, pa.string()), CONFIG.ngram)
        close = _similarities(sets, offsets, others, other_offsets, a, b, CONFIG.threshold)
        hits = np.flatnonzero(close >= CONFIG.threshold)
        _, firsts = np.unique(a[hits], return_index=True)  # pairs ascend by test text, then by training text
        for hit in hits[firsts].tolist():
            copies.append((int(a[hit]), start + int(b[hit]), float(close[hit])))
            left[a[hit]] = False
    return sorted(copies)


def _keys(texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """uint64 [n, bands] band keys of ``texts``; bool [n]: which hold words."""
    signed = minhash.signatures(pa.array(texts, pa.string()), CONFIG)
    return lsh.band_keys(signed, CONFIG.bands), signed[:, 0] != np.uint32(0xFFFFFFFF)


def _pairs(bands: list[tuple[np.ndarray, np.ndarray]], keys: np.ndarray) -> np.ndarray:
    """Pairs that share a key, as int64 ``test * len(keys) + train``, ascending, each once."""
    pairs = [np.empty(0, np.int64)]
    for band, (order, ascending) in enumerate(bands):
        low = np.searchsorted(ascending, keys[:, band], "left")
        shared = np.searchsorted(ascending, keys[:, band], "right") - low
        other = np.repeat(np.arange(len(keys)), shared)
        inside = np.arange(len(other)) - np.repeat(np.cumsum(shared) - shared, shared)
        pairs.append(order[np.repeat(low, shared) + inside] * len(keys) + other)
    return np.unique(np.concatenate(pairs))


@njit(cache=True, nogil=True)
def _similarities(sets, offsets, others, other_offsets, a, b, at_least):
    similarities = np.empty(len(a))
    for pair in range(len(a)):
        i, j = a[pair], b[pair]
        similarities[pair] = similarity(
            sets[offsets[i] : offsets[i + 1]], others[other_offsets[j] : other_offsets[j + 1]], at_least
        )
    return similarities
