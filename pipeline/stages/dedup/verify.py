"""Verification: candidates become edges only if the exact Jaccard similarity of their shingle sets reaches
the threshold.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa

from pipeline.build import row_numbers
from pipeline.build.build import Build, Made, Outcome, make
from pipeline.stages.dedup import earlier_builds, exchange, lsh
from pipeline.stages.dedup.similarity_join import join_groups
from pipeline.stages.dedup.survivors import facts
from pipeline.store import files, shards
from pipeline.text import folding
from pipeline.text.hashing import document_hash
from pipeline.text.shingles import shingle_sets

VERSION = 1

#: Key of the table metadata of edges: how many documents were not compared with the whole of a group.
CURTAILED = b"corpusmill.curtailed"


@dataclass(frozen=True)
class Candidates:
    """What was written about the candidates of each shard, by memory map. ``row`` arguments are global row numbers."""

    tables: Sequence[pa.Table]

    def write_rows(self, path: Path) -> np.ndarray:
        """int64: the global row numbers of all candidates, ascending, written to ``path`` and mapped."""
        with path.open("wb") as handle:
            for number, table in enumerate(self.tables):
                (row_numbers.array(table, "row") + number * row_numbers.SHARD).tofile(handle)
        return np.memmap(path, np.int64) if path.stat().st_size else np.empty(0, np.int64)

    @cached_property
    def hashes(self) -> list[np.ndarray]:
        """uint64: those of all sets of each shard, one after the other."""
        return [row_numbers.column(table, "shingles").values.to_numpy(zero_copy_only=True) for table in self.tables]

    @cached_property
    def sets(self) -> np.ndarray:
        """int64 a shard: where in memory its ``hashes`` begin, for as long as this object lives."""
        return np.array([values.ctypes.data for values in self.hashes], np.int64)

    def places(self, row: np.ndarray) -> np.ndarray:
        """int64 [n, 3]: the set of each row is ``hashes[shard][start:end]``."""
        places = np.empty((len(row), 3), np.int64)
        places[:, 0] = row // row_numbers.SHARD
        order = np.argsort(row)
        for table, entry, here in self._entries(row[order]):
            offsets = row_numbers.column(table, "shingles").offsets.to_numpy()
            places[order[here], 1:] = np.stack([offsets[entry], offsets[entry + 1]], axis=1)
        return places

    def facts(self, row: np.ndarray) -> pa.Table:
        """The columns of ``keep.facts``, ``source`` and ``name`` (XXH64 of the id) of the rows, which ascend."""
        columns = ["rank", "tie", "id", "name", "source"]
        parts = [table.select(columns).take(pa.array(entry)) for table, entry, _ in self._entries(row)]
        return pa.concat_tables(parts).combine_chunks()

    def _entries(self, row: np.ndarray) -> Iterator[tuple[pa.Table, np.ndarray, slice]]:
        """Of each shard with some of ``row`` (ascending): its table, their entries in it, their place in ``row``."""
        edges = np.searchsorted(row, np.arange(len(self.tables) + 1) * row_numbers.SHARD).tolist()
        for number, (first, last) in enumerate(pairwise(edges)):
            if first < last:
                table, here = self.tables[number], slice(first, last)
                yield (
                    table,
                    np.searchsorted(row_numbers.array(table, "row"), row[here] - number * row_numbers.SHARD),
                    here,
                )


def open_candidates(build: Build) -> Candidates:
    if lsh.groups(build):
        return Candidates([table for path in set_paths(build) for table in shards.read_batches(path)])
    return Candidates([shards.read_table(path) for path in set_paths(build)])


def set_paths(build: Build) -> list[str]:
    paths = earlier_builds.inputs(build, "minhash.shingles")
    return exchange.packed(build, "minhash.sets", len(paths)) or paths


def pack_sets(build: Build, group: str) -> Outcome:
    """The sets of the shards of ``group`` in one file."""
    columns = ["row", "source", "name", "shingles", "rank", "tie", "id"]
    return exchange.pack(build, "minhash.sets", group, earlier_builds.inputs(build, "minhash.shingles"), columns)


def edge_paths(build: Build) -> list[str]:
    return [build.path("work", "minhash.edges", item) for item in lsh.items(build)]


def write_sets(build: Build, shard: str) -> Outcome:
    """Of each candidate in ``shard``: ``row`` (in the shard), ``shingles`` and what the keep policy asks
    about it.
    """
    config = build.section("minhash")
    assert config is not None
    number = earlier_builds.number(build, shard)
    if lsh.groups(build):
        paths = [exchange.findings_path(build, "minhash.candidates.found", number)]
    else:
        paths = [build.path("work", "minhash.candidates", item) for item in lsh.items(build)]
    tables = map(shards.read_table, paths)
    rows = [row_numbers.array(row_numbers.of_shard(table, number), "row") for table in tables]
    wanted = np.unique(np.concatenate([np.empty(0, np.int64), *rows])) - number * row_numbers.SHARD
    made_by = files.fingerprint(
        "minhash.shingles",
        VERSION,
        [config.ngram, config.keep, folding.UNICODE_VERSION],
        row_numbers.digest(pa.table({"row": wanted})),
        build.view_fingerprint(shard, "minhash"),
    )
    path = build.path("work", "minhash.shingles", shard)
    return make(path, made_by, lambda: (Outcome(len(wanted)), describe(build, shard, wanted)))


def describe(build: Build, shard: str, row: np.ndarray) -> pa.Table:
    """What verification and the keep policy need of the documents ``row`` (int64, ascending) of ``shard``."""
    config = build.section("minhash")
    assert config is not None
    view = build.view(shard, before="minhash")
    entry = pa.array(np.searchsorted(view.rows, row))
    hashes, offsets = shingle_sets(view.texts.take(entry), config.ngram)
    columns = {
        "row": pa.array(row),
        "source": view.documents["source"].take(entry),
        "name": document_hash(view.documents["id"].take(entry), seed=0),
        "shingles": pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(hashes)),
        **{name: values.take(entry) for name, values in facts(config.keep, view).items()},
    }
    return pa.table(columns)


def find_edges(build: Build, item: str) -> Outcome:
    """The verified pairs of one band and partition: global row numbers, int64 ``a`` and ``b``."""
    config = build.section("minhash")
    assert config is not None
    source = build.path("work", "minhash.candidates", item)
    made_by = files.fingerprint(
        "minhash.edges",
        VERSION,
        [config.threshold, config.max_comparisons],
        row_numbers.fingerprints([source, *set_paths(build)]),
    )

    def pairs() -> Made:
        table = shards.read_table(source)
        a, b, curtailed = edges(table, open_candidates(build), config.threshold, config.max_comparisons)
        return Outcome(len(table)), pa.table({"a": a, "b": b}, metadata={CURTAILED: str(curtailed)})

    return make(build.path("work", "minhash.edges", item), made_by, pairs)


def edges(
    table: pa.Table, candidates: Candidates, threshold: float, max_comparisons: int
) -> tuple[np.ndarray, np.ndarray, int]:
    """Verified edges among the groups of ``table`` (columns of ``lsh.candidates``).

    Returns int64 rows ``a``, ``b`` and a count. The edges connect two documents exactly if they are
    connected by pairs that share a group and have a similarity of ``threshold`` or more. The count is of
    documents for which this cannot be said, because they met ``max_comparisons`` before the end of their
    group.
    """
    order = np.argsort(row_numbers.array(table, "place"))
    row = row_numbers.array(table, "row")[order]
    group = row_numbers.array(table, "group")[order]
    repeat = row_numbers.array(table, "repeat")[order]
    group_starts = np.flatnonzero(np.diff(group, prepend=-1, append=-1))
    places = candidates.places(row)
    a, b, curtailed = join_groups(candidates.sets, places, group_starts, repeat, threshold, max_comparisons)
    return row[a], row[b], curtailed
