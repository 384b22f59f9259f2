"""Locality-sensitive hashing: documents whose signatures agree in all rows of a band are candidates.

Every shard writes its keys in ascending order, band by band; so one item of work, a band and a partition of
the hash space, reads one slice a shard and sorts them in bounded memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import pyarrow as pa
from numba import njit, uint64

from pipeline.build import row_numbers
from pipeline.build.build import Build, Made, Outcome, make
from pipeline.stages.dedup import earlier_builds
from pipeline.store import files, shards
from pipeline.text.hashing import MIX

VERSION = 1


def items(build: Build) -> list[str]:
    """One a band and partition: ``band-03.00000-of-00001``."""
    bands, partitions = range(build.section("minhash").bands), earlier_builds.partitions(build)
    return [f"band-{band:02d}.{partition}" for band in bands for partition in partitions]


def band_keys(signatures: np.ndarray, bands: int) -> np.ndarray:
    """uint64 [n, bands]: a hash of the values of each band of ``signatures``, uint32 [n, bands * rows].

    Two different bands share a key with probability 2**-64.
    """
    return _band_keys(signatures, bands)


@njit(cache=True, nogil=True)
def _band_keys(signatures, bands):
    width = signatures.shape[1] // bands
    keys = np.empty((len(signatures), bands), np.uint64)
    for i in range(len(signatures)):
        for band in range(bands):
            h = uint64(0)
            for k in range(band * width, (band + 1) * width):
                h = uint64((h ^ uint64(signatures[i, k])) * MIX)
                h = uint64(h ^ (h >> uint64(32)))
            keys[i, band] = h
    return keys


def sorted_keys(keys: np.ndarray) -> dict[str, np.ndarray]:
    """For each band the columns ``key_<band>``, ascending, and ``place_<band>`` (int32), whose key each one
    is.
    """
    columns = {}
    for band in range(keys.shape[1]):
        order = np.argsort(keys[:, band], kind="stable")
        columns[f"key_{band:02d}"] = keys[order, band]
        columns[f"place_{band:02d}"] = order.astype(np.int32)
    return columns


def unsorted(table: pa.Table, bands: int) -> pa.Table:
    """A shard's documents with their keys one list (uint64) a document, in the column ``keys``."""
    keys = np.empty((len(table), bands), np.uint64)
    for band in range(bands):
        keys[row_numbers.array(table, f"place_{band:02d}"), band] = row_numbers.array(table, f"key_{band:02d}")
    others = [name for name in table.column_names if not name.startswith(("key_", "place_"))]
    listed = pa.FixedSizeListArray.from_arrays(pa.array(keys.ravel()), bands)
    return table.select(others).append_column("keys", listed)


def resorted(table: pa.Table, bands: int) -> pa.Table:
    """The inverse of ``unsorted``."""
    keys = row_numbers.column(table, "keys").flatten().to_numpy().reshape(-1, bands)
    table = table.drop_columns("keys")
    for name, column in sorted_keys(keys).items():
        table = table.append_column(name, pa.array(column))
    return table


def find_candidates(build: Build, item: str) -> Outcome:
    """The documents that share a key of one band with another: columns of ``candidates``, ascending in
    ``row``.
    """
    paths = earlier_builds.inputs(build, "minhash.signatures")
    copies = earlier_builds.dropped_as_copies(build)
    made_by = files.fingerprint(
        "minhash.candidates",
        VERSION,
        item,
        row_numbers.fingerprints(paths),
        row_numbers.digest(pa.table({"row": copies})),
    )
    return make(build.path("work", "minhash.candidates", item), made_by, partial(_candidates, paths, copies, item))


def _candidates(paths: Sequence[str], copies: np.ndarray, item: str) -> Made:
    band, partition = item.removeprefix("band-").split(".")
    parts = []
    for number, file in enumerate(paths):
        table = shards.read_table(file)
        keys = row_numbers.array(table, f"key_{band}")
        here = row_numbers.part_of(keys, partition)
        place = row_numbers.array(table, f"place_{band}")[here]
        row, bag, tie = (row_numbers.array(table, name)[place] for name in ("row", "bag", "tie"))
        row = row + number * row_numbers.SHARD
        alive = ~np.isin(row, copies)
        parts.append((keys[here][alive], row[alive], bag[alive], tie[alive]))
    keys, row, bag, tie = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    return Outcome(len(keys)), candidates(keys, row, bag, tie, repeats=int(band) == 0)


def candidates(keys: np.ndarray, row: np.ndarray, bag: np.ndarray, tie: np.ndarray, repeats: bool) -> pa.Table:
    """Those of the documents ``row`` (int64 [n]) that share their key (uint64 [n]) with another, ascending
    in ``row``.

    ``group`` (int64) numbers the keys; ``place`` (int64) orders the documents by group and inside it by
    content (``bag``, then ``tie``), so that what is made of them does not depend on the order of the input.
    ``repeat``: the document has the bag of shingles of the one before it. It shares all bands with it, so
    one band is enough to say so; with ``repeats`` false they are left out.
    """
    order = np.argsort(keys, kind="stable")
    group = _numbered(keys[order])
    shared = np.bincount(group, minlength=1)[group] > 1
    order, group = order[shared], group[shared]
    inside = np.lexsort((tie[order], bag[order], group))
    order, group = order[inside], group[inside]
    repeat = np.zeros(len(order), bool)
    repeat[1:] = (group[1:] == group[:-1]) & (bag[order[1:]] == bag[order[:-1]])
    if not repeats:
        order, group, repeat = order[~repeat], group[~repeat], repeat[~repeat]
        shared = np.bincount(group, minlength=1)[group] > 1
        order, group, repeat = order[shared], group[shared], repeat[shared]
    place = np.argsort(row[order], kind="stable")
    columns = {"row": row[order[place]], "place": place, "group": group[place], "repeat": repeat[place]}
    return pa.table(columns)


def _numbered(ascending: np.ndarray) -> np.ndarray:
    """int64 [n]: 0 for the first value of ``ascending``, one more at each change."""
    group = np.zeros(len(ascending), np.int64)
    np.cumsum(ascending[1:] != ascending[:-1], out=group[1:])
    return group
