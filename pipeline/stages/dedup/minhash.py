"""Near-duplicate removal by MinHash: signatures, bands, verified candidates, clusters, verdicts.

Broder (1997) for the signature; Leskovec, Rajaraman and Ullman, Mining of Massive Datasets, chapter 3, for
the bands. Unlike most, nothing is dropped on the word of a sketch: every pair that shares a band is
compared by the exact Jaccard similarity of its shingle sets. A pair of similarity s becomes a candidate
with probability 1 - (1 - s**rows)**bands.

The signature of a text is datasketch's (2.0.0, scheme "affine32") over our shingles:

    from datasketch import MinHash
    from pipeline.text.shingles import shingle_hash, shingles

    sketch = MinHash(num_perm=config.permutations, seed=config.seed, hashfunc=lambda s: shingle_hash(s) >> 32)
    sketch.update_batch(shingles(text, config.ngram))
    assert (sketch.hashvalues == signatures(pa.array([text]), config)[0]).all()

A text without words (empty, only emoji, only punctuation) has no shingles: it is similar to nothing and
always kept here.
"""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
import pyarrow as pa
from numpy import uint32, uint64
from pydantic import Field

from pipeline.build import row_numbers
from pipeline.build.build import Build, Made, Outcome, Step, View, make
from pipeline.build.reuse import Refill, Reuse, part
from pipeline.build.stage import Stage
from pipeline.stages.dedup import canaries, clusters, earlier_builds, lsh, verify
from pipeline.stages.dedup.survivors import KeepOfCluster
from pipeline.stages.dedup.verdicts import write_verdicts
from pipeline.store import files
from pipeline.store.recipe_file import Config as StageConfig
from pipeline.text import folding
from pipeline.text.buffers import text_buffers
from pipeline.text.hashing import document_hash
from pipeline.text.jit import njit
from pipeline.text.shingles import hash_shingles, scratch

VERSION = 1

#: Hashes of shingles that are compared at once: a loop over a multiple of them leaves no rest that is done one by one.
_TOGETHER = 32


class Config(StageConfig):
    """The defaults are datatrove's (FineWeb): word 5-grams, 14 bands of 8 rows.

    ``threshold``: the exact Jaccard similarity from which on two documents are duplicates. ``max_cluster_size``: in a
    larger cluster chains are cut, so that a document goes only if it is itself similar to one that stays.
    ``max_comparisons``: with so many unlike documents of one band's group the others are compared at most; how often
    this left one out is reported. ``source_alarm``: a source that loses a larger share of its documents is reported.
    """

    ngram: Annotated[int, Field(ge=1, le=100, description="words in a shingle; 5 as in datatrove (FineWeb)")] = 5
    bands: Annotated[int, Field(ge=1, le=100, description="bands of the signature; 14 as in datatrove")] = 14
    rows: Annotated[
        int,
        Field(
            ge=1,
            le=100,
            description="hashes in a band; 8 as in datatrove; a pair of similarity s is found with 1 - (1 -"
            " s^rows)^bands",
        ),
    ] = 8
    seed: Annotated[int, Field(ge=0, lt=2**32, description="seed of the hash functions; 1 as in datatrove")] = 1
    threshold: Annotated[
        float,
        Field(
            gt=0,
            le=1,
            description="exact Jaccard similarity from which two documents are duplicates; 0.72 = (1/14)^(1/8) as"
            " in datatrove",
        ),
    ] = 0.72
    keep: KeepOfCluster = "longest"
    max_cluster_size: Annotated[
        int,
        Field(
            ge=2,
            description="documents in a cluster above which chains are cut, so that a document is dropped only if"
            " it is similar to one that stays",
        ),
    ] = 1000
    max_comparisons: Annotated[
        int, Field(ge=1, description="unlike documents of a band's group that the others are compared with at most")
    ] = 1000
    source_alarm: Annotated[
        float, Field(gt=0, le=1, description="share of its documents that a source may lose before it is reported")
    ] = 0.5

    @property
    def permutations(self) -> int:
        return self.bands * self.rows


def steps() -> list[Step]:
    return [
        Step("minhash.signatures", "MinHash signatures", Build.shards, _sign_shard),
        Step("minhash.exchange", "Signatures by band", lsh.groups, lsh.exchange_keys),
        Step("minhash.candidates", "Candidates by band", lsh.items, lsh.find_candidates),
        Step("minhash.candidates.found", "Candidates by shard", lsh.groups, lsh.gather_candidates),
        Step("minhash.shingles", "Shingle sets of candidates", Build.shards, verify.write_sets),
        Step("minhash.sets", "Shingle sets in groups", lsh.groups, verify.pack_sets),
        Step("minhash.edges", "Verified near duplicates", lsh.items, verify.find_edges),
        Step("minhash.clusters", "Clusters and survivors", clusters.items, clusters.cluster),
        Step("minhash.found", "Near duplicates by shard", lsh.groups, clusters.gather),
        Step("minhash", "Near-duplicate removal", Build.shards, _judge_shard),
    ]


def signatures(texts: pa.StringArray, config: Config) -> np.ndarray:
    """uint32 [n, permutations]: the MinHash of each text; 2**32 - 1 throughout for a text without words."""
    return _sign(texts, config)[0]


def permutations(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """uint32 ``(a, b)`` of the maps h -> a h + b mod 2**32, a odd: the draws that datasketch makes for
    ``seed``.
    """
    random = np.random.RandomState(seed)
    halves = random.randint(0, 2**31, count, dtype=np.uint32)
    return 2 * halves + np.uint32(1), random.randint(0, 2**32, count, dtype=np.uint32)


def _sign(texts: pa.StringArray, config: Config) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Signatures; uint64 [n] hashes of the bags of shingles (equal bags, equal sets); int64 [n] numbers of
    shingles.
    """
    data, offsets = text_buffers(texts)
    a, b = permutations(config.permutations, config.seed)
    return _signature_kernel(data, offsets, folding.word_table(), config.ngram, a, b)


@njit(cache=True, nogil=True)
def _signature_kernel(data, offsets, table, ngram, a, b):
    texts = len(offsets) - 1
    signatures = np.full((texts, len(a)), uint32(0xFFFFFFFF), np.uint32)
    bags, counts = np.zeros(texts, np.uint64), np.zeros(texts, np.int64)
    hashes = scratch(offsets)
    halves = np.empty(len(hashes) + _TOGETHER, np.uint32)
    for i in range(texts):
        counts[i] = hash_shingles(data, offsets[i], offsets[i + 1], table, ngram, hashes)
        bags[i] = _finalize_all(hashes, counts[i], halves)
        if counts[i]:
            _sign_text(halves, counts[i], a, b, signatures[i])
    return signatures, bags, counts


@njit(cache=True, nogil=True)
def _finalize_all(hashes, count, halves):
    """Fills ``halves`` with what the permutations map, the last again up to a multiple of ``_TOGETHER``; the sum of the
    hashes."""
    bag = uint64(0)
    for j in range(count):
        bag += hashes[j]
        halves[j] = _finalize(uint32(hashes[j] >> uint64(32)))
    for j in range(count, -(-count // _TOGETHER) * _TOGETHER):
        halves[j] = halves[count - 1]
    return bag


@njit(cache=True, nogil=True)
def _sign_text(halves, count, a, b, signature):
    for k in range(len(a)):
        least, factor, addend = uint32(0xFFFFFFFF), a[k], b[k]
        for j in range(-(-count // _TOGETHER) * _TOGETHER):
            # numba widens uint32 arithmetic to uint64: each result is cut back to 32 bits
            least = min(least, uint32(uint32(factor * halves[j]) + addend))
        signature[k] = least


@njit(cache=True, nogil=True)
def _finalize(h):
    """The 32-bit finalizer of MurmurHash3 (Appleby), which datasketch applies to a hash before the
    permutations.
    """
    h = uint32((h ^ (h >> uint32(16))) * uint32(0x85EBCA6B))
    h = uint32((h ^ (h >> uint32(13))) * uint32(0xC2B2AE35))
    return uint32(h ^ (h >> uint32(16)))


def _sign_shard(build: Build, shard: str) -> Outcome:
    """Of each document that has words: row, source, the hash of its id, its bag, and its keys in ascending
    order by band.
    """
    config: Config = build.section("minhash")
    drawn = [config.ngram, config.bands, config.rows, config.seed, folding.UNICODE_VERSION]
    made_by = files.fingerprint("minhash.signatures", VERSION, drawn, build.view_fingerprint(shard, "minhash"))

    def signatures() -> Made:
        view = build.view(shard, before="minhash")
        return Outcome(len(view.texts), view.texts.nbytes), sign_view(config, view)

    return make(signatures_path(build, shard), made_by, signatures)


def signatures_path(build: Build, shard: str) -> str:
    """Where the signatures of a shard's documents are."""
    return build.path("work", "minhash.signatures", shard)


def sign_view(config: Config, view: View) -> pa.Table:
    """Of each document of ``view`` that has words what ``_sign_shard`` writes."""
    signed, bags, counts = _sign(view.texts, config)
    worded = np.flatnonzero(counts)
    columns: dict[str, Any] = {
        "row": view.rows[worded],
        "source": view.documents["source"].take(pa.array(worded)).dictionary_encode(),
        "tie": document_hash(view.documents["id"], seed=0)[worded],
        "bag": bags[worded],
        **lsh.sorted_keys(lsh.band_keys(signed[worded], config.bands)),
    }
    return pa.table(columns)


def _judge_shard(build: Build, shard: str) -> Outcome:
    """A dropped document's ``value`` is its Jaccard similarity with its survivor.

    It is below the threshold where only a chain of similar documents joins the two.
    """
    config: Config = build.section("minhash")
    findings = clusters.findings(build, earlier_builds.number(build, shard))
    return write_verdicts(build, "minhash", shard, findings, "near_duplicate", config.threshold, "cluster_size")


def _reuse(old: Config, new: Config) -> Reuse | None:
    if any(getattr(old, name) != getattr(new, name) for name in ("ngram", "bands", "rows", "seed")):
        return None
    return Reuse({"minhash.signatures": Refill(signatures_path, _refill)})


def _refill(stored: pa.Table, build: Build, view: View, known: np.ndarray) -> pa.Table:
    config: Config = build.section("minhash")
    stored = lsh.unsorted(stored, config.bands)
    stored = stored.filter(pa.array(known[row_numbers.array(stored, "row")]))
    added = lsh.unsorted(sign_view(config, part(view, ~known)), config.bands)
    table = pa.concat_tables([stored, added]).unify_dictionaries().combine_chunks().sort_by("row")
    return lsh.resorted(table, config.bands)


STAGE = Stage(
    name="minhash",
    title="Near-duplicates",
    about="drop near-duplicates, found by MinHash and verified by exact Jaccard similarity",
    config=Config,
    steps=steps,
    compares=True,
    reuse=_reuse,
    canaries=canaries.near_copies(),
)
