"""Global row numbers, and the partitions that keep the memory of a global question bounded.

A document's global row number is its shard's place in the build times 2**32 plus its row there. It names a document in
tables that go over many shards, and nothing that a user sees depends on it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Literal

import numpy as np
import pyarrow as pa

from pipeline import MillError
from pipeline.build.build import Build
from pipeline.store import files, shards

#: At most about this many documents are looked at together; 16 to 100 bytes each.
PARTITION_ROWS = 1 << 22

#: The global row number of the first document of shard ``n`` is ``n * SHARD``.
SHARD = 1 << 32


def corpus_size(build: Build, measure: Literal["documents", "bytes"]) -> int:
    """How many documents, or bytes of text, the build has ingested."""
    sources = files.read_json(build.path("documents", "manifest.json"))["sources"]
    return sum(source[measure] for source in sources.values())


def partition_names(total: int, at_most: int) -> list[str]:
    """``<number>-of-<count>`` for each part of the 64-bit hashes: a power of two of them, so that of ``total`` each has
    about ``at_most`` or less; none if there is nothing.
    """
    count = 1
    while count * at_most < total:
        count *= 2
    return [f"{number:05d}-of-{count:05d}" for number in range(count)] if total else []


def part_of(hashes: np.ndarray, name: str) -> slice:
    """Where in the ascending uint64 ``hashes`` the partition ``name`` lies."""
    number, count = (int(field) for field in name.split("-of-"))
    edges = [number * (2**64 // count), (number + 1) * (2**64 // count)]
    first = np.searchsorted(hashes, np.uint64(edges[0]))
    last = len(hashes) if edges[1] == 2**64 else np.searchsorted(hashes, np.uint64(edges[1]))
    return slice(int(first), int(last))


def of_shard(table: pa.Table, number: int) -> pa.Table:
    """The entries of ``table``, ascending in its column ``row`` (global), that lie in shard ``number``; no copy."""
    if not len(table):
        return table
    first, last = np.searchsorted(array(table, "row"), [number * SHARD, (number + 1) * SHARD])
    return table.slice(int(first), int(last - first))


def in_shard(tables: Iterable[pa.Table], number: int) -> pa.Table:
    """The entries of ``tables`` that lie in shard ``number``, ascending in ``row``, which is that in the shard.

    So what they say, and its ``digest``, does not depend on the place of the shard.
    """
    parts = [of_shard(table, number) for table in tables]
    if not any(map(len, parts)):
        return parts[0]
    entries = pa.concat_tables(parts).sort_by("row").combine_chunks()
    row = array(entries, "row") - number * SHARD
    return entries.set_column(entries.column_names.index("row"), "row", pa.array(row))


def column(table: pa.Table, name: str) -> pa.Array:
    """A column as one array; not copied where the table is one batch, as all of ours are."""
    chunks = table[name].chunks
    return chunks[0] if len(chunks) == 1 else table[name].combine_chunks()


def array(table: pa.Table, name: str) -> np.ndarray:
    """A numeric column without nulls, as numpy."""
    return column(table, name).to_numpy(zero_copy_only=False)


def fingerprints(paths: Sequence[str]) -> list[str]:
    """What each file was made by. Raises MillError, naming the remedy, if one is not there."""
    values = []
    for path in paths:
        made_by = shards.read_fingerprint(path)
        if made_by is None:
            raise MillError(f"{path}: not there, or not made by corpusmill; run the build again")
        values.append(made_by)
    return values


def digest(table: pa.Table) -> str:
    """Names the content of a small table."""
    known = not len(table) and not table.schema.metadata  # which schemas are compared without
    return _digest_of_none(table.schema) if known else _digest(table)


@lru_cache(maxsize=8)  # of most shards there is nothing to find
def _digest_of_none(schema: pa.Schema) -> str:
    return _digest(schema.empty_table())


def _digest(table: pa.Table) -> str:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table.take(pa.array(np.arange(len(table)))).combine_chunks())
    return hashlib.blake2b(sink.getvalue(), digest_size=16).hexdigest()
