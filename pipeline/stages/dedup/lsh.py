"""Locality-sensitive hashing: documents whose signatures agree in all rows of a band are candidates.

Every shard writes its keys in ascending order, band by band; so one item of work, a band and a partition of
the hash space, reads one slice a shard and sorts them in bounded memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import pyarrow as pa
from numpy import uint64

from pipeline.build import row_numbers
from pipeline.build.build import Build, Made, Outcome, make
from pipeline.stages.dedup import earlier_builds, exchange
from pipeline.store import files, shards
from pipeline.text.hashing import MIX
from pipeline.text.jit import njit

VERSION = 1


def items(build: Build) -> list[str]:
    """One a band and partition (or bundle of partitions): ``band-03.00000-of-00001``."""
    bands = build.section("minhash").bands
    bundles = exchange.bundles(earlier_builds.partitions(build), earlier_builds.count(build), bands)
    return [f"band-{band:02d}.{bundle}" for band in range(bands) for bundle in bundles]


def groups(build: Build) -> list[str]:
    """The groups in which shards are taken where there are many; see ``exchange``."""
    return exchange.group_names(earlier_builds.count(build))


def exchange_keys(build: Build, group: str) -> Outcome:
    """Write what the shards of ``group`` have of each item of ``find_candidates``."""
    paths = earlier_builds.inputs(build, "minhash.signatures")
    copies = earlier_builds.dropped_as_copies(build)
    part = partial(_part, copies)
    digest = row_numbers.digest(pa.table({"row": copies}))
    return exchange.scatter(build, "minhash.exchange", group, paths, items(build), "key", part, digest)


def gather_candidates(build: Build, group: str) -> Outcome:
    """Write, for each shard of ``group``, the rows of its candidates, once for each item that has them."""
    sources = [build.path("work", "minhash.wanted", f"{item}.{group}") for item in items(build)]
    return exchange.gather(build, "minhash.candidates.found", group, sources, earlier_builds.count(build))


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
    if exchange.groups(inputs := len(paths)):
        paths = exchange.between(build, "minhash.exchange", item, inputs)
        made_by = files.fingerprint("minhash.candidates", VERSION, item, row_numbers.fingerprints(paths))
        outputs = [build.path("work", "minhash.candidates", item)]
        outputs += exchange.between(build, "minhash.wanted", item, inputs)
        inside = exchange.inside(item.partition(".")[2], earlier_builds.partitions(build))
        return make(outputs, made_by, partial(_exchanged_candidates, paths, item, inside, inputs))
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
    parts = (_part(copies, number, shards.read_table(file), item) for number, file in enumerate(paths))
    table = pa.concat_tables(parts)
    return Outcome(len(table)), _of_keys(table, item)


def _exchanged_candidates(paths: Sequence[str], item: str, partitions: Sequence[str], inputs: int) -> Made:
    keys = [shards.read_table(path) for path in paths]
    tables, places, numbered = [], 0, 0
    for partition in partitions:
        table = _of_keys(pa.concat_tables(exchange.slices(keys, "key", partition)), item)
        place, group = row_numbers.array(table, "place"), row_numbers.array(table, "group")
        table = table.set_column(1, "place", pa.array(place + places))
        tables.append(table.set_column(2, "group", pa.array(group + numbered)))
        places, numbered = places + len(table), numbered + int(group.max(initial=-1)) + 1
    table = pa.concat_tables(tables).sort_by("row").combine_chunks()
    return Outcome(sum(map(len, keys))), table, *exchange.by_group(table.select(["row"]), inputs)


def _part(copies: np.ndarray, number: int, table: pa.Table, item: str) -> pa.Table:
    """What the shard ``number`` has of ``item``, without ``copies``: ``key``, global ``row``, ``bag`` and ``tie``."""
    band, partition = item.removeprefix("band-").split(".")
    keys = row_numbers.array(table, f"key_{band}")
    here = row_numbers.part_of(keys, partition)
    place = row_numbers.array(table, f"place_{band}")[here]
    row, bag, tie = (row_numbers.array(table, name)[place] for name in ("row", "bag", "tie"))
    row = row + number * row_numbers.SHARD
    part = pa.table({"key": keys[here], "row": row, "bag": bag, "tie": tie})
    return part.filter(pa.array(~np.isin(row, copies))) if len(copies) else part


def _of_keys(table: pa.Table, item: str) -> pa.Table:
    columns = (row_numbers.array(table, name) for name in ("key", "row", "bag", "tie"))
    return candidates(*columns, repeats=item.startswith("band-00."))


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
