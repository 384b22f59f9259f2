"""Exact deduplication: of documents with the same text, one survives.

Out of core: every shard writes the hashes of its texts in ascending order, every partition of the hash
space reads its slice of each and finds the hashes that occur twice, every shard reads what was found about
its rows. Many shards exchange files with many partitions by way of ``exchange``.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Literal

import numpy as np
import pyarrow as pa
from numpy import uint64
from pydantic import Field

from pipeline.build import row_numbers
from pipeline.build.build import Build, Made, Outcome, Step, View, make
from pipeline.build.reuse import Refill, Reuse, part
from pipeline.build.stage import Stage
from pipeline.stages.dedup import canaries, earlier_builds, exchange
from pipeline.stages.dedup.survivors import Highest, KeepOfCluster, facts, survivors_first
from pipeline.stages.dedup.verdicts import FINDINGS, write_verdicts
from pipeline.store import files, shards
from pipeline.store.recipe_file import Config as StageConfig
from pipeline.text import folding
from pipeline.text.buffers import text_buffers
from pipeline.text.folding import SPACE
from pipeline.text.hashing import hash_spans, xxh64
from pipeline.text.jit import int64, njit
from pipeline.text.kernels import between16, borrow, copy16, lower16, text_data, trailing_zeros
from pipeline.text.utf8 import decode, encode

VERSION = 1


class Config(StageConfig):
    """``normalise``: what two equal texts may differ in. ``whitespace``: runs of it count as one space, at the ends as
    nothing, as ``" ".join(text.split())``; ``whitespace_and_case``: each character counts in lower case, too; ``none``:
    in no byte. ``keep``: which one survives.
    """

    normalise: Annotated[
        Literal["none", "whitespace", "whitespace_and_case"],
        Field(description="what two equal texts may differ in: nothing, runs of whitespace, or those and letter case"),
    ] = "whitespace"
    keep: KeepOfCluster = "longest"


def steps() -> list[Step]:
    return [
        Step("exact.hashes", "Content hashes", Build.shards, _hash_shard),
        Step("exact.exchange", "Content hashes by partition", _groups, _exchange),
        Step("exact.duplicates", "Exact duplicates", _bundles, _find_duplicates),
        Step("exact.found", "Exact duplicates by shard", _groups, _gather),
        Step("exact", "Exact deduplication", Build.shards, _judge_shard),
    ]


def content_hashes(texts: pa.StringArray, config: Config) -> tuple[np.ndarray, np.ndarray]:
    """The 128-bit hash of each text as two uint64 [n]: XXH64 of its normalised UTF-8 under the seeds 0 and
    1.
    """
    data, offsets = text_buffers(texts)
    if config.normalise == "none":
        return tuple(hash_spans(data, offsets[:-1], offsets[1:], np.uint64(seed)) for seed in (0, 1))  # type: ignore[return-value]
    case = config.normalise == "whitespace_and_case"
    return _hash_folded(text_data(data), offsets, case, folding.text_table(case))


@njit(cache=True, nogil=True)
def _hash_folded(data, offsets, case, table):
    data, table = borrow(data), borrow(table)
    first, second = np.empty(len(offsets) - 1, np.uint64), np.empty(len(offsets) - 1, np.uint64)
    longest = 0
    for i in range(len(first)):
        longest = max(longest, offsets[i + 1] - offsets[i])
    folded = np.empty(2 * longest + 4, np.uint8)  # the lower case of some characters of two bytes has three
    for i in range(len(first)):
        size = _fold(data, offsets[i], offsets[i + 1], case, table, folded)
        first[i], second[i] = xxh64(folded, 0, size, uint64(0)), xxh64(folded, 0, size, uint64(1))
    return first, second


@njit(cache=True, nogil=True)
def _fold(data, start, end, case, table, out):
    """Write ``data[start:end]`` through ``table``, which folds ``case`` or not, to ``out``; returns the number of bytes
    written."""
    out = borrow(out)
    size, at, gap = 0, start, False
    while at < end:
        if at + 16 <= end:  # most of a text is visible ASCII and single spaces
            spaces = between16(data, at, 0, 32, 32)
            doubled = spaces & (spaces << uint64(1) | uint64(gap or size == 0))
            others = doubled | ~(spaces | between16(data, at, 0, 33, 126))
            plain = int64(trailing_zeros(others | uint64(1 << 16)))
            if plain:
                out[size] = 32
                size += gap
                if case:
                    lower16(out, size, data, at)
                else:
                    copy16(out, size, data, at, 0)
                gap = spaces >> uint64(plain - 1) & uint64(1) > 0
                size, at = size + plain - gap, at + plain
                if plain == 16:
                    continue
        code, at = decode(data, at)
        entry = table[code]
        if entry == SPACE:
            gap = size > 0
            continue
        if gap:
            out[size] = 32
            size, gap = size + 1, False
        size = encode(np.int64(entry), out, size)
    return size


def _hash_shard(build: Build, shard: str) -> Outcome:
    config: Config = build.section("exact")
    made_by = files.fingerprint(
        "exact.hashes", VERSION, config, folding.UNICODE_VERSION, build.view_fingerprint(shard, "exact")
    )

    def hashes() -> Made:
        view = build.view(shard, before="exact")
        return Outcome(len(view.texts), view.texts.nbytes), hash_view(config, view)

    return make(hashes_path(build, shard), made_by, hashes)


def hash_view(config: Config, view: View) -> pa.Table:
    """The hashes of the documents of ``view`` in ascending order, with row and what decides which one survives."""
    high, low = content_hashes(view.texts, config)
    return sorted_by_hash(pa.table({"high": high, "low": low, "row": view.rows, **facts(config.keep, view)}))


def sorted_by_hash(table: pa.Table) -> pa.Table:
    """Hashes of documents in ascending order."""
    return table.take(pa.array(np.lexsort((row_numbers.array(table, "low"), row_numbers.array(table, "high")))))


def hashes_path(build: Build, shard: str) -> str:
    """Where the hashes of a shard's documents are."""
    return build.path("work", "exact.hashes", shard)


def _groups(build: Build) -> list[str]:
    return exchange.group_names(earlier_builds.count(build))


def _bundles(build: Build) -> list[str]:
    return exchange.bundles(earlier_builds.partitions(build), earlier_builds.count(build))


def _exchange(build: Build, group: str) -> Outcome:
    paths = earlier_builds.inputs(build, "exact.hashes")
    return exchange.scatter(build, "exact.exchange", group, paths, _bundles(build), "high", _part)


def _find_duplicates(build: Build, bundle: str) -> Outcome:
    paths = earlier_builds.inputs(build, "exact.hashes")
    if inputs := len(paths) if exchange.groups(len(paths)) else 0:
        paths = exchange.between(build, "exact.exchange", bundle, inputs)
    made_by = files.fingerprint("exact.duplicates", VERSION, bundle, row_numbers.fingerprints(paths))
    if inputs:
        outputs = exchange.between(build, "exact.duplicates", bundle, inputs)
        inside = exchange.inside(bundle, earlier_builds.partitions(build))
        return make(outputs, made_by, partial(_exchanged_duplicates, paths, inside, inputs))
    return make(build.path("work", "exact.duplicates", bundle), made_by, partial(_duplicates, paths, bundle))


def _duplicates(paths: Sequence[str], partition: str) -> Made:
    table = pa.concat_tables(_part(number, shards.read_table(file), partition) for number, file in enumerate(paths))
    return Outcome(len(table)), _findings(table)


def _exchanged_duplicates(paths: Sequence[str], partitions: Sequence[str], inputs: int) -> Made:
    tables = [shards.read_table(path) for path in paths]
    parts = (pa.concat_tables(exchange.slices(tables, "high", partition)) for partition in partitions)
    findings = pa.concat_tables(map(_findings, parts)).sort_by("row").combine_chunks()
    return Outcome(sum(map(len, tables))), *exchange.by_group(findings, inputs)


def _part(number: int, table: pa.Table, partition: str) -> pa.Table:
    """What the shard ``number`` has of ``partition``, with global row numbers."""
    here = row_numbers.part_of(row_numbers.array(table, "high"), partition)
    table = table.slice(here.start, here.stop - here.start).select(["row", "high", "low", "rank", "tie", "id"])
    return table.set_column(0, "row", pa.array(row_numbers.array(table, "row") + number * row_numbers.SHARD))


def _gather(build: Build, group: str) -> Outcome:
    inputs = earlier_builds.count(build)
    sources = [build.path("work", "exact.duplicates", f"{bundle}.{group}") for bundle in _bundles(build)]
    return exchange.gather(build, "exact.found", group, sources, inputs)


def _findings(table: pa.Table) -> pa.Table:
    """What is known of those documents of ``table`` (the columns of a shard's hashes) that have duplicates."""
    high, low = row_numbers.array(table, "high"), row_numbers.array(table, "low")
    order = np.lexsort((low, high))
    starts_group = np.ones(len(order) + 1, bool)
    starts_group[1:-1] = (np.diff(high[order]) != 0) | (np.diff(low[order]) != 0)
    group = np.cumsum(starts_group[:-1]) - 1
    sizes = np.bincount(group, minlength=1)
    repeated = sizes[group] > 1
    table, group = table.take(pa.array(order[repeated])), group[repeated]
    order = survivors_first(group, table)
    table, group = table.take(pa.array(order)), group[order]
    survivor = np.searchsorted(group, group)
    columns = {
        "row": row_numbers.column(table, "row"),
        "duplicate_of": row_numbers.column(table, "id").take(
            pa.array(survivor, mask=survivor == np.arange(len(group)))
        ),
        "cluster": row_numbers.column(table, "high"),
        "size": pa.array(sizes[group].astype(np.int32)),
        "value": pa.array(sizes[group].astype(np.float64)),
    }
    return pa.table(columns, FINDINGS).sort_by("row")


def _judge_shard(build: Build, shard: str) -> Outcome:
    """A dropped document's ``value`` is the number of copies found, its threshold the one that may stay."""
    findings = earlier_builds.exact_findings(build, earlier_builds.number(build, shard))
    return write_verdicts(build, "exact", shard, findings, "exact_duplicate", threshold=1.0, size="copies")


def _reuse(old: Config, new: Config) -> Reuse | None:
    if old != new or isinstance(new.keep, Highest):  # that signal may be another now
        return None
    return Reuse({"exact.hashes": Refill(hashes_path, _refill)})


def _refill(stored: pa.Table, build: Build, view: View, known: np.ndarray) -> pa.Table:
    stored = stored.filter(pa.array(known[row_numbers.array(stored, "row")]))
    added = hash_view(build.section("exact"), part(view, ~known))
    return sorted_by_hash(pa.concat_tables([stored, added]).combine_chunks())


STAGE = Stage(
    name="exact",
    title="Exact duplicates",
    about="drop documents with the same text as another",
    config=Config,
    steps=steps,
    compares=True,
    reuse=_reuse,
    canaries=canaries.copies(),
)
