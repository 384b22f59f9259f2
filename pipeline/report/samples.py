"""A few documents that each rule dropped, the same ones however the corpus is cut into shards.

Of each rule the closest calls (nearest to the threshold) and some chosen by the hash of their id; a shard offers its
best of both, and the best of all shards are shown.
"""

from __future__ import annotations

import heapq
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.build import find_documents
from pipeline.build.build import Build, texts_before
from pipeline.store import ledger
from pipeline.store.ledger import relative_margin
from pipeline.text.formats import LENGTH, excerpt
from pipeline.text.hashing import document_hash

CLOSEST, BY_HASH = 2, 2
CLOSE = 0.1
"""A value within this share of its threshold is called a close call."""

SAMPLES = pa.list_(
    pa.struct(
        [(name, pa.string()) for name in ("stage", "rule", "id", "domain", "language", "survivor", "excerpt")]
        + [(name, pa.float64()) for name in ("value", "threshold", "margin")]
        + [("hash", pa.uint64()), ("documents", pa.int64())]
    )
)


@dataclass(frozen=True)
class Samples:
    """What is shown of one rule: rows of SAMPLES, the closest calls and those by hash; ``documents`` it dropped."""

    stage: str
    rule: str
    documents: int
    closest: list[dict]
    by_hash: list[dict]


def choose(
    build: Build, shard: str, stage: str, table: pa.Table, documents: pa.Table, languages: pa.Array
) -> list[dict]:
    """The candidates of one shard and stage, as rows of SAMPLES; ``table`` is the stage's ledger."""
    dropped = table["dropped_by"].combine_chunks()
    verdict = dropped.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    value, threshold = ledger.numbers(table["value"]), ledger.numbers(table["threshold"])
    margins = relative_margin(value, threshold)
    survivor = table["duplicate_of"] if "duplicate_of" in table.column_names else pa.nulls(len(table), pa.string())
    chosen: list[dict] = []
    for index, rule in enumerate(dropped.dictionary.to_pylist()):
        rows = np.flatnonzero(verdict == index)
        if not len(rows):
            continue
        hashes = document_hash(documents["id"].take(rows).combine_chunks(), build.recipe.seed)
        by_hash = np.argsort(hashes, kind="stable")[: CLOSEST + BY_HASH]
        closest = np.lexsort((hashes, margins[rows]))[:CLOSEST]
        for at in np.union1d(by_hash, closest):
            row = int(rows[at])
            chosen.append(
                {
                    **{"stage": stage, "rule": rule, "documents": len(rows), "row": row},
                    **{name: documents[name][row].as_py() for name in ("id", "domain")},
                    "language": languages[row].as_py(),
                    "survivor": survivor[row].as_py(),
                    "value": value[row],
                    "threshold": threshold[row],
                    "margin": margins[row],
                    "hash": int(hashes[at]),
                }
            )
    rows = [entry.pop("row") for entry in chosen]
    for entry, text in zip(chosen, excerpts(texts_before(build, shard, rows, stage)), strict=True):
        entry["excerpt"] = text
    return chosen


def merge(shards: Iterable[Sequence[dict]]) -> list[Samples]:
    """The samples of each rule over all shards, in order of stage and rule name."""
    closest: dict[tuple[str, str], list[dict]] = defaultdict(list)
    by_hash: dict[tuple[str, str], list[dict]] = defaultdict(list)
    documents: dict[tuple[str, str], int] = defaultdict(int)
    for rows in shards:
        totals = {(row["stage"], row["rule"]): row["documents"] for row in rows}
        for key, total in totals.items():
            mine = [row for row in rows if (row["stage"], row["rule"]) == key]
            documents[key] += total
            closest[key] = heapq.nsmallest(CLOSEST, closest[key] + mine, key=_closeness)
            by_hash[key] = heapq.nsmallest(CLOSEST + BY_HASH, by_hash[key] + mine, key=lambda row: row["hash"])
    merged = []
    for key in documents:
        near = [row for row in closest[key] if 0 < row["margin"] < math.inf]
        seen = {row["id"] for row in near}
        others = [row for row in by_hash[key] if row["id"] not in seen]
        merged.append(Samples(*key, documents[key], near, others[:BY_HASH]))
    return merged


def survivors(build: Build, samples: Iterable[Samples]) -> dict[str, str]:
    """Excerpts of the documents that the sampled duplicates lost to, by id."""
    wanted = {row["survivor"]: entry.stage for entry in samples for row in entry.closest + entry.by_hash}
    wanted.pop(None, None)
    return texts_of(build, wanted)


def texts_of(build: Build, wanted: Mapping[str, str]) -> dict[str, str]:
    """Excerpts of documents by id, each as the stage that ``wanted`` names sees it; of those that the build has."""
    places = find_documents.locate(build, wanted)
    return {name: excerpts(texts_before(build, shard, [row], wanted[name]))[0] for name, (shard, row) in places.items()}


def excerpts(texts: pa.StringArray) -> list[str]:
    """The beginning of each text: LENGTH characters as people count them, none cut in two; controls made visible."""
    # A character may be a letter with many marks: read more code points than are shown, but not without end.
    heads = pc.utf8_slice_codeunits(texts, 0, 4 * LENGTH).to_pylist()
    return [excerpt(head) for head in heads]


def _closeness(row: dict) -> tuple[float, int]:
    return row["margin"], row["hash"]
