"""The words that static embeddings and ELMo learn from: those of the documents that models are trained on.

A word is a BERT pre-token, lower-cased where the config says so: letters and digits run together, each punctuation mark
and each Han character by itself. Words seen fewer than ``min_count`` times are unknown.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import MillError
from pipeline.build.build import Build
from pipeline.store import files, shards
from pipeline.text.buffers import text_buffers
from pipeline.tokenization import character_classes, pack
from pipeline.tokenization.encoding import pretokenize

UNKNOWN = -1
_BLOCK = 4 << 20  # bytes of text whose words are held at once


@dataclass(frozen=True)
class WordCounts:
    """The vocabulary: ``words`` by falling count, then by spelling; ``counts`` int64 [n]."""

    words: list[str]
    counts: np.ndarray

    def __len__(self) -> int:
        return len(self.words)


def cut(texts: pa.StringArray, lowercase: bool) -> tuple[pa.StringArray, np.ndarray]:
    """The words of ``texts`` end to end, and int64 [n + 1] bounds: those of text i are ``bounds[i]:bounds[i + 1]``."""
    if lowercase:
        texts = pc.utf8_lower(texts)  # type: ignore[attr-defined]
    data, offsets = text_buffers(texts)
    starts, ends, bounds = pretokenize.cut_all(data, offsets, character_classes.table(), pretokenize.BERT, False)
    lengths = ends - starts
    into = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    at = np.arange(into[-1]) + np.repeat(starts - into[:-1], lengths)
    buffers = [None, pa.py_buffer(into.astype(np.int32)), pa.py_buffer(np.ascontiguousarray(data[at]))]
    return pa.StringArray.from_buffers(len(lengths), buffers[1], buffers[2]), bounds


def texts_of(build: Build, split: str) -> Iterator[tuple[list[str], pa.StringArray]]:
    """Ids and texts of the documents of ``split`` (train or heldout) in blocks of a few MB, in the corpus's order."""
    limits = files.read_json(build.path("tokenizers", "split.json"))["thresholds"]
    for shard in files.read_json(build.path("corpus", "manifest.json"))["shards"]:
        table = shards.read_table(build.path("corpus", shard), ["id", "text", "domain"])
        ids, domains = (table[name].combine_chunks() for name in ("id", "domain"))
        heldout = pack.is_heldout(ids, domains, limits, build.recipe.seed)
        part = table.filter(pa.array(heldout if split == "heldout" else ~heldout))
        if len(part):
            ids, texts = (part[name].combine_chunks() for name in ("id", "text"))
            groups = np.cumsum(pc.binary_length(texts).to_numpy().astype(np.int64)) // _BLOCK
            edges = [0, *(np.flatnonzero(np.diff(groups)) + 1).tolist(), len(texts)]
            for start, stop in itertools.pairwise(edges):
                yield ids.slice(start, stop - start).to_pylist(), texts.slice(start, stop - start)


def count(build: Build, lowercase: bool, min_count: int, most: int) -> WordCounts:
    """The vocabulary of the train split. Raises MillError where no word is seen often enough."""
    total: Counter[str] = Counter()
    for _, texts in texts_of(build, "train"):
        tally = cut(texts, lowercase)[0].value_counts()
        total.update(dict(zip(tally.field("values").to_pylist(), tally.field("counts").to_pylist(), strict=True)))
    kept = sorted((word for word, n in total.items() if n >= min_count), key=lambda word: (-total[word], word))[:most]
    if not kept:
        raise MillError(f"{build.path('corpus')}: no word is seen {min_count} times; lower `min_count`")
    return WordCounts(kept, np.array([total[word] for word in kept], np.int64))


def documents(
    build: Build, split: str, lowercase: bool, words: Sequence[str]
) -> Iterator[tuple[list[str], np.ndarray, np.ndarray]]:
    """Blocks of (ids of the documents, the places of their words in ``words`` int32 or UNKNOWN, int64 bounds)."""
    known = pa.array(words, pa.string())
    for ids, texts in texts_of(build, split):
        tokens, bounds = cut(texts, lowercase)
        places = pc.index_in(tokens, value_set=known).fill_null(UNKNOWN)
        yield ids, places.to_numpy(zero_copy_only=False).astype(np.int32), bounds
