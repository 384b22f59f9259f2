"""Near duplicates for programs outside: a build's signatures as datasketch's, and which documents are near a text.

Texts are those that the minhash stage sees: of the documents that no earlier stage dropped, with all edits so far.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
from datasketch import MinHash, MinHashLSH

from pipeline import MillError
from pipeline.build.build import Build
from pipeline.stages.dedup import minhash
from pipeline.text.shingles import shingle_hash, shingle_sets, word_counts

#: Of each signature that a text is compared by, every value by itself: a document of Jaccard similarity s shares none,
#: and is missed, with probability (1 - s)**128, which is 1e-6 at s = 0.1.
_BANDS = {"bands": 64, "rows": 2}


class NoMinHash(MillError):
    """The build did not look for near duplicates."""


@dataclass(frozen=True)
class Near:
    """A document near a text. ``jaccard`` is exact, over the sets of their shingles; ``dropped_by`` the rule that
    dropped the document in the minhash stage or later, None if it is in the corpus.
    """

    id: str
    jaccard: float
    dropped_by: str | None


def hash_of(shingle: Sequence[str]) -> int:
    """The ``hashfunc`` of the signatures: 32 bits of a shingle, a tuple of words (``pipeline.text.shingles``)."""
    return shingle_hash(shingle) >> 32


def signatures(build: Build) -> Iterator[tuple[str, MinHash]]:
    """The id and the MinHash signature of every document that the minhash stage of ``build`` compares, one by one.

    They are made of the texts again (a build keeps only the hashes of bands), with its number of permutations, bands
    times rows, and its seed, in datasketch's scheme ``affine32``: what datasketch itself makes of the same shingles, so
    that ``a.jaccard(b)``, ``MinHashLSH`` and ``update`` (of a shingle, a tuple of words in lower case) work. Documents
    without words have none. Raises NoMinHash if the build has no minhash stage.
    """
    yield from _signed(build, _config(build))


def similar(build: Build, text: str, threshold: float | None = None) -> list[Near]:
    """The documents of ``build`` whose Jaccard similarity with ``text`` is at least ``threshold``, the nearest first.

    ``threshold`` lies in (0, 1]; None is the build's own. Candidates, from datasketch's MinHashLSH, are documents that
    share any of 128 values with the signature of ``text``; each is then compared exactly. All documents are signed
    again, which takes a second for some thousands; held are one shard's. Raises NoMinHash if the build has no minhash
    stage, MillError for another threshold, or for a text with fewer words than a shingle has.
    """
    config = _config(build)
    threshold = config.threshold if threshold is None else threshold
    if not 0 < threshold <= 1:
        raise MillError(f"the threshold is {threshold:g}; give a Jaccard similarity above 0 and at most 1")
    texts = pa.array([text])
    if (words := int(word_counts(texts)[0])) < config.ngram:
        raise MillError(
            f"the text has {words} words; documents are compared by runs of {config.ngram} words: give a longer text"
        )
    config = config.model_copy(update=_BANDS)
    index = MinHashLSH(num_perm=config.permutations, params=(config.permutations, 1))
    index.insert("text", _sketches(texts, config)[0])
    wanted, _ = shingle_sets(texts, config.ngram)
    documents: list[Near] = []
    for shard in build.shards():
        view = build.view(shard, "minhash")
        near = np.array([bool(index.query(each)) for each in _sketches(view.texts, config)], bool)
        chosen = np.flatnonzero(near)
        jaccard = _jaccard(view.texts.take(pa.array(chosen)), wanted, config.ngram)
        kept = np.flatnonzero(jaccard >= threshold)
        rows = view.rows[chosen[kept]]
        ids = view.documents["id"].take(pa.array(chosen[kept])).to_pylist()
        documents += map(Near, ids, jaccard[kept].tolist(), _dropped_by(build, shard, rows))
    return sorted(documents, key=lambda entry: (-entry.jaccard, entry.id))


def _config(build: Build) -> minhash.Config:
    config = build.section("minhash")
    if config is None:
        raise NoMinHash(
            f"{build.root}: this build has no `minhash` section, which says how documents are compared; add"
            " `minhash: {}` to its recipe and run `mill build`"
        )
    return config


def _signed(build: Build, config: minhash.Config) -> Iterator[tuple[str, MinHash]]:
    for shard in build.shards():
        view = build.view(shard, "minhash")
        worded = np.flatnonzero(word_counts(view.texts))
        ids = view.documents["id"].take(pa.array(worded)).to_pylist()
        yield from zip(ids, _sketches(view.texts.take(pa.array(worded)), config), strict=True)


def _sketches(texts: pa.StringArray, config: minhash.Config) -> list[MinHash]:
    drawn = np.array(minhash.permutations(config.permutations, config.seed))
    return [
        MinHash(seed=config.seed, hashfunc=hash_of, hashvalues=values, permutations=drawn, scheme="affine32")
        for values in minhash.signatures(texts, config)
    ]


def _jaccard(texts: pa.StringArray, wanted: np.ndarray, ngram: int) -> np.ndarray:
    """float64 [n]: the exact similarity of each text's shingles with the set ``wanted``, which is not empty."""
    sets, bounds = shingle_sets(texts, ngram)
    shared = np.array([np.isin(sets[a:b], wanted, assume_unique=True).sum() for a, b in pairwise(bounds)], np.int64)
    return shared / (np.diff(bounds) + len(wanted) - shared)


def _dropped_by(build: Build, shard: str, rows: np.ndarray) -> list[str | None]:
    """The rule that dropped each of ``rows``, which are alive before the minhash stage."""
    rules: list[str | None] = [None] * len(rows)
    for stage in build.stages if len(rows) else ():
        column = build.ledger(stage, shard)["dropped_by"].take(pa.array(rows)).to_pylist()
        rules = [before or now for before, now in zip(rules, column, strict=True)]
    return rules
