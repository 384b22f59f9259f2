"""Clusters of near-duplicates side by side: the largest, the same ones however the corpus is cut into shards."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.build.build import Build, texts_before
from pipeline.report import samples
from pipeline.text.hashing import document_hash

SIZE = "cluster_size"
SHOWN, MEMBERS = 6, 3
"""Clusters, and documents of each beside the one that is kept."""

CLUSTERS = pa.list_(
    pa.struct(
        [("survivor", pa.string()), ("survivor_hash", pa.uint64()), ("size", pa.int64()), ("id", pa.string()),
         ("domain", pa.string()), ("hash", pa.uint64()), ("similarity", pa.float64()), ("excerpt", pa.string())]
    )
)  # fmt: skip
"""A row a member: a document that was dropped, and the one it was dropped for."""


def choose(build: Build, shard: str, stage: str, table: pa.Table, documents: pa.Table) -> list[dict[str, Any]]:
    """The candidates of one shard, as rows of CLUSTERS; [] for a stage that finds no clusters.

    ``table`` is the ledger of ``stage``. The largest clusters of all shards are among the largest of each.
    """
    if SIZE not in table.column_names:
        return []
    rows = np.flatnonzero(pc.is_valid(table["duplicate_of"]).to_numpy())
    if not len(rows):
        return []
    survivors = table["duplicate_of"].take(rows).combine_chunks().dictionary_encode()
    cluster = survivors.indices.to_numpy()
    survivor_hash = document_hash(survivors.dictionary, build.recipe.seed)[cluster]
    sizes = table[SIZE].take(rows).to_numpy()
    hashes = document_hash(documents["id"].take(rows).combine_chunks(), build.recipe.seed)
    order = np.lexsort((hashes, cluster, survivor_hash, -sizes.astype(np.int64)))
    # of each member its place among those of its cluster, and of each cluster its place among them all
    starts = np.flatnonzero(np.concatenate([[True], np.diff(cluster[order]) != 0]))
    of_cluster = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(order))))
    chosen = order[(of_cluster < SHOWN) & (np.arange(len(order)) - starts[of_cluster] < MEMBERS)]
    members = [
        {
            "survivor": survivors[at].as_py(),
            "survivor_hash": int(survivor_hash[at]),
            "size": int(sizes[at]),
            **{name: documents[name][int(rows[at])].as_py() for name in ("id", "domain")},
            "hash": int(hashes[at]),
            "similarity": table["value"][int(rows[at])].as_py(),
        }
        for at in chosen.tolist()
    ]
    texts = texts_before(build, shard, rows[chosen].tolist(), stage)
    return [{**row, "excerpt": text} for row, text in zip(members, samples.excerpts(texts), strict=True)]


def merge(shards: Iterable[Sequence[dict[str, Any]]]) -> list[list[dict[str, Any]]]:
    """The largest clusters over all shards, each as its members in the order of their hash."""
    clusters: dict[str, list[dict[str, Any]]] = {}
    for rows in shards:
        for row in rows:
            clusters.setdefault(row["survivor"], []).append(row)
        largest = sorted(clusters.values(), key=lambda rows: (-rows[0]["size"], rows[0]["survivor_hash"]))
        clusters = {
            rows[0]["survivor"]: sorted(rows, key=lambda row: row["hash"])[:MEMBERS] for rows in largest[:SHOWN]
        }
    return list(clusters.values())
