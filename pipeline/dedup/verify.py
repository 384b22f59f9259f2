"""Verification: candidates become edges only if the exact Jaccard similarity of their shingle sets reaches
the threshold.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
import pyarrow as pa
from numba import njit
from numba.typed import List  # type: ignore[attr-defined]

from pipeline.build import Build, Outcome
from pipeline.dedup import folding, lsh, rows
from pipeline.dedup.keep import facts
from pipeline.dedup.shingles import shingle_sets
from pipeline.store import files, shards
from pipeline.text.hashing import document_hash

VERSION = 1

#: Key of the table metadata of edges: how many documents were not compared with the whole of a group.
CURTAILED = b"corpusmill.curtailed"

#: Slack for the rounding of similarities in the triangle inequality.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Candidates:
    """What was written about the candidates of each shard, by memory map. ``row`` arguments are global row numbers."""

    tables: Sequence[pa.Table]

    @cached_property
    def row(self) -> np.ndarray:
        """int64: the global row numbers of all candidates, ascending."""
        return np.concatenate([rows.array(t, "row") + n * rows.SHARD for n, t in enumerate(self.tables)])

    @cached_property
    def sets(self) -> List:
        """The hashes of all sets of each shard, one after the other: a numba list of uint64 arrays."""
        hashes = List()  # type: ignore[operator]
        for table in self.tables:
            values = rows.column(table, "shingles").values.to_numpy(zero_copy_only=True).view()
            values.setflags(write=False)
            hashes.append(values)
        return hashes

    def places(self, row: np.ndarray) -> np.ndarray:
        """int64 [n, 3]: the set of each row is ``sets[shard][start:end]``."""
        places = np.empty((len(row), 3), np.int64)
        places[:, 0] = row // rows.SHARD
        order = np.argsort(row)
        for table, entry, here in self._entries(row[order]):
            offsets = rows.column(table, "shingles").offsets.to_numpy()
            places[order[here], 1:] = np.stack([offsets[entry], offsets[entry + 1]], axis=1)
        return places

    def facts(self, row: np.ndarray) -> pa.Table:
        """The columns of ``keep.facts``, ``source`` and ``name`` (XXH64 of the id) of the rows, which ascend."""
        columns = ["rank", "tie", "id", "name", "source"]
        parts = [table.select(columns).take(pa.array(entry)) for table, entry, _ in self._entries(row)]
        return pa.concat_tables(parts).combine_chunks()

    def _entries(self, row: np.ndarray) -> Iterator[tuple[pa.Table, np.ndarray, slice]]:
        """Of each shard with some of ``row`` (ascending): its table, their entries in it, their place in ``row``."""
        edges = np.searchsorted(row, np.arange(len(self.tables) + 1) * rows.SHARD).tolist()
        for number, (first, last) in enumerate(pairwise(edges)):
            if first < last:
                table, here = self.tables[number], slice(first, last)
                yield table, np.searchsorted(rows.array(table, "row"), row[here] - number * rows.SHARD), here


def open_candidates(build: Build) -> Candidates:
    return Candidates([shards.read_table(path) for path in set_paths(build)])


def set_paths(build: Build) -> list[str]:
    return [build.path("work", "minhash.shingles", shard) for shard in build.shards()]


def edge_paths(build: Build) -> list[str]:
    return [build.path("work", "minhash.edges", item) for item in lsh.items(build)]


def write_sets(build: Build, shard: str) -> Outcome:
    """Of each candidate in ``shard``: ``row`` (in the shard), ``shingles`` and what the keep policy asks
    about it.
    """
    config = build.recipe.minhash
    assert config is not None
    number = build.shards().index(shard)
    tables = (shards.read_table(build.path("work", "minhash.candidates", item)) for item in lsh.items(build))
    found = [rows.array(rows.of_shard(table, number), "row") for table in tables]
    wanted = np.unique(np.concatenate(found)) - number * rows.SHARD
    made_by = files.fingerprint(
        "minhash.shingles",
        VERSION,
        [config.ngram, config.keep, folding.UNICODE_VERSION],
        rows.digest(pa.table({"row": wanted})),
        build.view_fingerprint(shard, "minhash"),
    )
    path = build.path("work", "minhash.shingles", shard)
    if shards.is_current(path, made_by):
        return Outcome(reused=True)
    view = build.view(shard, before="minhash")
    entry = pa.array(np.searchsorted(view.rows, wanted))
    texts = view.texts.take(entry)
    hashes, offsets = shingle_sets(texts, config.ngram)
    columns = {
        "row": pa.array(wanted),
        "source": view.documents["source"].take(entry),
        "name": document_hash(view.documents["id"].take(entry), seed=0),
        "shingles": pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(hashes)),
        **{name: values.take(entry) for name, values in facts(config.keep, view).items()},
    }
    shards.write_table(path, pa.table(columns), made_by)
    return Outcome(documents=len(texts), bytes=texts.nbytes)


def find_edges(build: Build, item: str) -> Outcome:
    """The verified pairs of one band and partition: global row numbers, int64 ``a`` and ``b``."""
    config = build.recipe.minhash
    assert config is not None
    source = build.path("work", "minhash.candidates", item)
    made_by = files.fingerprint(
        "minhash.edges",
        VERSION,
        [config.threshold, config.max_comparisons],
        rows.fingerprints([source, *set_paths(build)]),
    )
    path = build.path("work", "minhash.edges", item)
    if shards.is_current(path, made_by):
        return Outcome(reused=True)
    table, candidates = shards.read_table(source), open_candidates(build)
    a, b, curtailed = edges(table, candidates, config.threshold, config.max_comparisons)
    metadata = {CURTAILED: str(curtailed)}
    shards.write_table(path, pa.table({"a": a, "b": b}).replace_schema_metadata(metadata), made_by)
    return Outcome(documents=len(table))


def edges(
    table: pa.Table, candidates: Candidates, threshold: float, max_comparisons: int
) -> tuple[np.ndarray, np.ndarray, int]:
    """Verified edges among the groups of ``table`` (columns of ``lsh.candidates``).

    Returns int64 rows ``a``, ``b`` and a count. The edges connect two documents exactly if they are
    connected by pairs that share a group and have a similarity of ``threshold`` or more. The count is of
    documents for which this cannot be said, because they met ``max_comparisons`` before the end of their
    group.
    """
    order = np.argsort(rows.array(table, "place"))
    row = rows.array(table, "row")[order]
    group = rows.array(table, "group")[order]
    repeat = rows.array(table, "repeat")[order]
    group_starts = np.flatnonzero(np.diff(group, prepend=-1, append=-1))
    places = candidates.places(row)
    a, b, curtailed = _join_groups(candidates.sets, places, group_starts, repeat, threshold, max_comparisons)
    return row[a], row[b], curtailed


@njit(cache=True, nogil=True)
def similarity(x, y, at_least):
    """The Jaccard similarity of two ascending arrays of distinct values, or -1 as soon as it must be under
    ``at_least``.
    """
    required = 0
    if at_least > 0:
        required = int(np.ceil(at_least / (1 + at_least) * (len(x) + len(y)) - _ROUNDING))
    spare_x, spare_y = len(x) - required, len(y) - required
    i, j, common = 0, 0, 0
    while i < len(x) and j < len(y):
        if i - common > spare_x or j - common > spare_y:
            return -1.0
        left, right = x[i], y[j]
        i += left <= right
        j += right <= left
        common += left == right
    jaccard = common / (len(x) + len(y) - common)
    return jaccard if jaccard >= at_least else -1.0


@njit(cache=True, nogil=True)
def find(parent, x):
    """The root of ``x`` in the forest ``parent`` (int64), halving the path to it."""
    while parent[x] != x:
        parent[x] = parent[parent[x]]
        x = parent[x]
    return x


@njit(cache=True, nogil=True)
def _join_groups(sets, places, group_starts, repeat, threshold, max_comparisons):
    """Edges as positions in ``places`` [n, 3]; group g is ``group_starts[g]:group_starts[g + 1]``.

    Each group is covered by balls: a leader, and members that are similar to it, at a known distance (1 -
    similarity). A ball is connected, so a document that is similar to its leader needs no other member of
    it; and by the triangle inequality, which the Jaccard distance obeys, a document far from the leader
    cannot be similar to a member near it. So a group of near copies costs one comparison a document.
    Comparing all pairs would come to the same components.
    """
    n = len(places)
    a, b = np.empty(n, np.int64), np.empty(n, np.int64)
    parent = np.arange(n)
    leaders, radius = np.empty(n, np.int64), np.zeros(n)  # one entry a ball, anew for each group
    next_member, distance = np.full(n, -1), np.zeros(n)  # a ball's members: a list that starts at its leader
    found, curtailed, first = 0, 0, 0
    for g in range(len(group_starts) - 1):
        balls = 0
        for x in range(group_starts[g], group_starts[g + 1]):
            if repeat[x]:
                a[found], b[found] = first, x
                found += 1
                continue
            first = x
            left, complete, placed = max_comparisons, True, False
            for ball in range(balls):
                leader = leaders[ball]
                if find(parent, leader) == find(parent, x):
                    continue
                if left == 0:
                    complete = False
                    break
                left -= 1
                close = compare(sets, places, x, leader, threshold - radius[ball] - _ROUNDING)
                partner = -1
                if close >= threshold:
                    partner = leader
                    if not placed:
                        placed, distance[x] = True, 1 - close
                        radius[ball] = max(radius[ball], distance[x])
                        next_member[x], next_member[leader] = next_member[leader], x
                elif close >= 0:
                    member = next_member[leader]
                    while member >= 0 and partner < 0:
                        if close + distance[member] >= threshold - _ROUNDING:
                            if left == 0:
                                complete = False
                                break
                            left -= 1
                            if compare(sets, places, x, member, threshold) >= threshold:
                                partner = member
                        member = next_member[member]
                if partner >= 0:
                    a[found], b[found] = partner, x
                    found += 1
                    parent[find(parent, x)] = find(parent, partner)
            if not placed:
                leaders[balls], radius[balls] = x, 0.0
                balls += 1
            curtailed += not complete
    return a[:found].copy(), b[:found].copy(), curtailed


@njit(cache=True, nogil=True)
def compare(sets, places, x, y, at_least):
    """The similarity of two rows of ``places``, or -1 if it is under ``at_least``."""
    set_x = sets[places[x, 0]][places[x, 1] : places[x, 2]]
    set_y = sets[places[y, 0]][places[y, 1] : places[y, 2]]
    return similarity(set_x, set_y, at_least)
