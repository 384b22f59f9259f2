"""Clusters: the connected components of verified edges, and which document of each survives.

The union of edges is the one step that sees the whole corpus: 28 bytes a candidate and 16 an edge, on disk
(``components``), and no text. Everything after it goes over some millions of documents at a time.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.build import row_numbers
from pipeline.build.build import Build, Made, Outcome, make
from pipeline.stages.dedup import earlier_builds, exchange, lsh, verify
from pipeline.stages.dedup.components import components
from pipeline.stages.dedup.similarity_join import compare
from pipeline.stages.dedup.survivors import survivors_first
from pipeline.stages.dedup.verdicts import FINDINGS
from pipeline.stages.dedup.verify import Candidates
from pipeline.store import files, shards
from pipeline.text.jit import njit

if TYPE_CHECKING:
    from pipeline.stages.dedup.minhash import Config

VERSION = 1

#: At most about this many documents of clusters are in memory together (a larger cluster still is).
CHUNK = 1 << 21

#: So many of the largest clusters above the cap are named in the report.
NAMED = 100


def items(build: Build) -> list[str]:
    return ["all"] if build.shards() else []


def findings(build: Build, number: int) -> list[str]:
    """The paths of what was found about the shard ``number`` among all, and maybe others; see ``verdicts``."""
    parts = _parts(build)
    return [exchange.findings_path(build, "minhash.found", number)] if parts and lsh.groups(build) else parts


def gather(build: Build, group: str) -> Outcome:
    """Write, for each shard of ``group``, what was found about it, if anything was found at all."""
    if not (parts := _parts(build)):
        return Outcome(reused=True)
    return exchange.gather(build, "minhash.found", group, parts, earlier_builds.count(build))


def _parts(build: Build) -> list[str]:
    report = files.read_json(report_path(build))
    return [_part(build, name) for name in report["parts"]]


def report_path(build: Build) -> str:
    return build.path("work", "minhash.clusters", "report.json")


def cluster(build: Build, _item: str) -> Outcome:
    """Write the findings in parts and, last, ``report.json`` that names them."""
    config = build.section("minhash")
    assert config is not None
    edge_paths = verify.edge_paths(build)
    made_by = files.fingerprint(
        "minhash.clusters",
        VERSION,
        [config.threshold, config.max_cluster_size, config.max_comparisons, config.source_alarm],
        row_numbers.fingerprints([*edge_paths, *verify.set_paths(build)]),
    )

    def has_parts(report: dict[str, Any]) -> bool:
        return all(shards.read_fingerprint(_part(build, name)) == made_by for name in report["parts"])

    return make(report_path(build), made_by, partial(_clusters, build, config, edge_paths, made_by), has_parts)


def _clusters(build: Build, config: Config, edge_paths: Sequence[str], made_by: str) -> Made:
    candidates = verify.open_candidates(build)
    own = earlier_builds.shards_before(build) * row_numbers.SHARD
    tally = Tally(first=own)
    parts = []
    with _aside(build) as folder:
        row = candidates.write_rows(folder / "rows")
        pairs = _pairs(edge_paths, row, tally)
        for members, roots in components(len(row), pairs, folder, CHUNK):
            parts.append(f"part-{len(parts):05d}")
            resolved = resolve(candidates, np.array(row[members]), roots, config, tally)
            shards.write_table(_part(build, parts[-1]), resolved, made_by)
    return Outcome(tally.documents), {"parts": parts, **tally.report(_documents_by_source(build), config)}


@contextlib.contextmanager
def _aside(build: Build) -> Iterator[Path]:
    """A folder for what does not fit in memory; what a killed run left of it goes with the next run."""
    near = files.local(report_path(build)).parent if files.is_local(build.root) else None
    if near is not None:
        near.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".components.", suffix=".partial", dir=near) as folder:
        yield Path(folder)


def _pairs(edge_paths: Sequence[str], row: np.ndarray, tally: Tally) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The edges of each file, by the places of the documents among all candidates, ``row``."""
    for path in edge_paths:
        table = shards.read_table(path)
        tally.curtailed += int((table.schema.metadata or {})[verify.CURTAILED])
        yield np.searchsorted(row, row_numbers.array(table, "a")), np.searchsorted(row, row_numbers.array(table, "b"))


def _part(build: Build, name: str) -> str:
    return build.path("work", "minhash.clusters", name)


@dataclass
class Tally:
    """What goes into the report, summed over parts; ``first`` is the first row of this build, after earlier ones'."""

    first: int = 0
    curtailed: int = 0
    documents: int = 0
    clusters: int = 0
    dropped: int = 0
    chained: int = 0
    largest: int = 0
    capped: list[dict[str, Any]] = field(default_factory=list)
    dropped_by_source: Counter[str] = field(default_factory=Counter)

    def report(self, documents_by_source: Counter[str], config: Config) -> dict[str, Any]:
        sources = {
            source: {"documents": count, "dropped": self.dropped_by_source[source]}
            for source, count in sorted(documents_by_source.items())
        }
        warnings = [
            f"source {source!r} lost {entry['dropped']:,} of {entry['documents']:,} documents as near duplicates, "
            f"more than source_alarm = {config.source_alarm:.0%}: look at its largest clusters before you trust this"
            for source, entry in sources.items()
            if entry["dropped"] > config.source_alarm * entry["documents"]
        ]
        if self.curtailed:
            warnings.append(
                f"{self.curtailed:,} times a document was compared with only {config.max_comparisons:,} of those that "
                "share its band; raise max_comparisons to compare it with all"
            )
        capped = sorted(self.capped, key=lambda entry: (-entry["size"], entry["cluster"]))
        return {
            "clusters": self.clusters,
            "clustered_documents": self.documents,
            "dropped": self.dropped,
            "dropped_by_chain": self.chained,
            "largest_cluster": self.largest,
            "clusters_above_cap": len(capped),
            "largest_above_cap": capped[:NAMED],
            "sources": sources,
            "warnings": warnings,
        }


def _documents_by_source(build: Build) -> Counter[str]:
    counts: Counter[str] = Counter()
    for shard in build.shards():
        source = shards.read_table(build.path("work", "minhash.signatures", shard), ["source"])["source"]
        for entry in pc.value_counts(source).to_pylist():
            counts[entry["values"]] += entry["counts"]
    return counts


def resolve(candidates: Candidates, row: np.ndarray, root: np.ndarray, config: Config, tally: Tally) -> pa.Table:
    """The findings on whole clusters: documents ``row`` (int64 [n], ascending) of the components ``root``
    (int64 [n]).
    """
    documents = candidates.facts(row)
    order = survivors_first(root, documents)
    row, root, documents = row[order], root[order], documents.take(pa.array(order))
    starts = np.flatnonzero(np.diff(root, prepend=-1, append=-1))
    sizes = np.diff(starts)
    survivor, value = _choose(
        candidates.sets,
        candidates.places(row),
        starts,
        config.threshold,
        config.max_cluster_size,
        config.max_comparisons,
    )
    name = np.minimum.reduceat(row_numbers.array(documents, "name"), starts[:-1])  # no policy or order changes it
    kept = survivor == np.arange(len(row))
    ids = row_numbers.column(documents, "id")
    _count(tally, row, documents, name, starts, kept, value, config)
    columns = {
        "row": pa.array(row),
        "duplicate_of": ids.take(pa.array(survivor, mask=kept)),
        "cluster": pa.array(np.repeat(name, sizes)),
        "size": pa.array(np.repeat(sizes, sizes).astype(np.int32)),
        "value": pa.array(value, mask=kept),
    }
    return pa.table(columns, FINDINGS).sort_by("row")


def _count(
    tally: Tally,
    row: np.ndarray,
    documents: pa.Table,
    name: np.ndarray,
    starts: np.ndarray,
    kept: np.ndarray,
    value: np.ndarray,
    config: Config,
) -> None:
    sizes = np.diff(starts)
    tally.documents += len(kept)
    tally.clusters += len(sizes)
    tally.dropped += int((~kept).sum())
    tally.chained += int((~kept & (value < config.threshold)).sum())
    tally.largest = max(tally.largest, int(sizes.max()))
    for i in np.flatnonzero(sizes > config.max_cluster_size):
        members = slice(starts[i], starts[i + 1])
        entry = {
            "cluster": int(name[i]),
            "size": int(sizes[i]),
            "kept": int(kept[members].sum()),
            "survivor": documents["id"][int(starts[i])].as_py(),
        }
        tally.capped.append(entry)
    for entry in pc.value_counts(documents["source"].filter(pa.array(~kept & (row >= tally.first)))).to_pylist():
        tally.dropped_by_source[entry["values"]] += entry["counts"]


@njit(cache=True, nogil=True)
def _choose(sets, places, starts, threshold, max_cluster_size, max_comparisons):
    """For each document, in the order of preference inside its cluster, its survivor and the similarity
    with it.

    Up to ``max_cluster_size`` documents the first of a cluster survives. In a larger one a document goes
    only if it is itself similar to one that stays; it is compared with the first ``max_comparisons`` of
    them.
    """
    n = len(places)
    survivor, value = np.arange(n), np.ones(n)
    stars = np.empty(n, np.int64)
    for c in range(len(starts) - 1):
        first, end = starts[c], starts[c + 1]
        if end - first <= max_cluster_size:
            for x in range(first + 1, end):
                survivor[x], value[x] = first, compare(sets, places, x, first, 0.0)
            continue
        stars[0], kept = first, 1
        for x in range(first + 1, end):
            for star in range(min(kept, max_comparisons)):
                close = compare(sets, places, x, stars[star], threshold)
                if close >= threshold:
                    survivor[x], value[x] = stars[star], close
                    break
            if survivor[x] == x:
                stars[kept] = x
                kept += 1
    return survivor, value
