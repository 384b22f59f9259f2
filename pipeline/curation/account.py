"""The account of a build: where every document and every byte went, checked against what is on disk.

For each stage: documents and bytes in = out + dropped by each rule + (bytes only) cut by the stage's edits. The first
stage takes in what ingest wrote, the last gives out what the corpus holds; a difference anywhere fails the build.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import MillError
from pipeline.build.build import Build, Made, Outcome, Step, make
from pipeline.curation import canaries, losses
from pipeline.curation.write_corpus import shard_name
from pipeline.store import files, shards
from pipeline.text import spans

VERSION = 2
KEPT, CUT = losses.KEPT, losses.CUT
"""Pseudo-rules beside the names of real ones: what left a stage alive, and the bytes its edits took from that."""


class DocumentsLost(MillError):
    """The account does not balance."""


def steps() -> list[Step]:
    return [
        Step("funnel.shards", "Count every document", Build.shards, _count_shard),
        Step("funnel", "Account for every document", lambda _build: ["funnel.json"], _close_account),
    ]


def _count_shard(build: Build, shard: str) -> Outcome:
    corpus = build.path("corpus", shard_name(build, shard))
    made_by = files.fingerprint("funnel", VERSION, build.view_fingerprint(shard), shards.read_fingerprint(corpus))
    return make(build.path("work", "funnel.shards", shard), made_by, partial(_rows, build, shard, corpus))


def _rows(build: Build, shard: str, corpus: str) -> Made:
    documents = build.documents(shard)
    rows = list(flows(build, shard, documents))
    curated = shards.read_table(corpus)
    rows += _grouped("corpus", KEPT, curated, pc.binary_length(curated["text"]).to_numpy(), np.ones(len(curated), bool))
    return Outcome(len(documents)), pa.Table.from_pylist([row._asdict() for row in rows], SCHEMA)


class Row(NamedTuple):
    """Documents and bytes of one shard that one rule took. Every document is counted twice: under its source and
    domain, and, where its language is known, under that (with neither source nor domain)."""

    stage: str
    rule: str
    source: str | None
    domain: str | None
    language: str | None
    documents: int
    bytes: int


KEYS = ("stage", "rule", "source", "domain", "language")
SCHEMA = pa.schema([*((name, pa.string()) for name in KEYS), ("documents", pa.int64()), ("bytes", pa.int64())])


def flows(build: Build, shard: str, documents: pa.Table) -> Iterator[Row]:
    """What each rule and stage took and let through of one shard, ingest first."""
    documents = documents.select(["text", "source", "domain"]).append_column("language", _languages(build, shard))
    lengths = pc.binary_length(documents["text"]).to_numpy().astype(np.int64)
    alive = np.ones(len(documents), bool)
    cuts: list[pa.ListArray] = []
    cut_before = np.zeros(len(documents), np.int64)
    yield from _grouped("ingest", KEPT, documents, lengths, alive)
    for stage in build.stages:
        table = build.ledger(stage, shard)
        dropped = table["dropped_by"].combine_chunks()
        names = dropped.dictionary.to_pylist()
        rule = dropped.indices.fill_null(-1).to_numpy()
        for index, name in enumerate(names):
            yield from _grouped(stage, name, documents, lengths, rule == index)
        if lost := int(((rule >= 0) & ~alive).sum()):
            raise DocumentsLost(f"{shard}: {stage} dropped {lost} documents that an earlier stage had dropped")
        alive &= rule < 0
        if "spans" in table.column_names:
            cuts.append(table["spans"].combine_chunks())
            cut_by_now = spans.covered(spans.merge(cuts))
            removed, cut_before = cut_by_now - cut_before, cut_by_now
            yield from _grouped(stage, CUT, documents, removed, alive & (removed > 0))
            lengths = lengths - removed
        yield from _grouped(stage, KEPT, documents, lengths, alive)


def _languages(build: Build, shard: str) -> pa.ChunkedArray | pa.Array:
    """Of each document of the shard the language that a stage found for it; null where none looked at it."""
    if "language" in build.stages:
        table = build.ledger("language", shard)
        if "language" in table.column_names:
            return table["language"].cast(pa.string())
    return pa.nulls(len(build.documents(shard)), pa.string())


def _grouped(stage: str, rule: str, documents: pa.Table, lengths: np.ndarray, chosen: np.ndarray) -> Iterator[Row]:
    known = documents.append_column("bytes", pa.array(lengths.astype(np.int64))).filter(pa.array(chosen))
    for names in (["source", "domain"], ["language"]):
        if not set(names) <= set(known.column_names):  # the corpus holds no languages
            continue
        counts = known.group_by(names).aggregate([("bytes", "sum"), ("bytes", "count")])
        for row in counts.sort_by([(name, "ascending") for name in names]).to_pylist():
            group = {"source": None, "domain": None, "language": None} | {name: row[name] for name in names}
            if any(value is not None for value in group.values()):
                yield Row(stage, rule, **group, documents=row["bytes_count"], bytes=row["bytes_sum"])


def _close_account(build: Build, item: str) -> Outcome:
    paths = [build.path("work", "funnel.shards", shard) for shard in build.shards()]
    table = pa.concat_tables([shards.read_table(path) for path in paths])
    total = table.group_by(KEYS).aggregate([("documents", "sum"), ("bytes", "sum")]).to_pylist()
    manifest = files.read_json(build.path("documents", "manifest.json"))
    funnel = summarise(total, build.stages)
    for part in ("quarantined", "passed_over", "flagged", "unread", "forgotten", "normalised"):
        funnel[part] = {name: entry[part] for name, entry in manifest["sources"].items()}
    if (caught := canaries.recall(build)) is not None:
        funnel["canaries"] = caught
    funnel["warnings"] = losses.warnings(build, total, manifest["sources"])
    check(funnel, manifest, files.read_json(build.path("corpus", "manifest.json")))
    files.write_json(build.path(item), funnel)
    return Outcome(funnel["stages"][0]["documents"], funnel["stages"][0]["bytes"])


def summarise(rows: list[dict], stages: tuple[str, ...]) -> dict:
    """The funnel as JSON: a list of stages, each with documents and bytes out, drops per rule, and both by domain; and
    the languages of what was kept."""

    def empty() -> dict[str, int]:
        return {"documents": 0, "bytes": 0}

    def add(into: dict[str, int], row: dict) -> None:
        into["documents"] += row["documents_sum"]
        into["bytes"] += row["bytes_sum"]

    entries = []
    for stage in ("ingest", *stages, "corpus"):
        kept, cut = empty(), empty()
        dropped: dict[str, dict[str, int]] = defaultdict(empty)
        domains: dict[str, dict[str, int]] = defaultdict(empty)
        sources: dict[str, dict[str, int]] = defaultdict(empty)
        for row in rows:
            if row["stage"] != stage or row["language"] is not None:
                continue
            if row["rule"] == KEPT:
                add(kept, row)
                add(domains[row["domain"]], row)
                add(sources[row["source"]], row)
            else:
                add(cut if row["rule"] == CUT else dropped[row["rule"]], row)
        entries.append(
            {
                "stage": stage,
                **kept,
                "cut": cut,
                "dropped": {name: entry for name, entry in sorted(dropped.items()) if entry["documents"]},
                "domains": dict(sorted(domains.items())),
                "sources": dict(sorted(sources.items())),
            }
        )
    return {"stages": entries, "languages": _kept_languages(rows, stages[-1] if stages else "ingest")}


def _kept_languages(rows: list[dict], last: str) -> dict[str, dict[str, int]]:
    """Documents and bytes of each language that were left after the stage ``last``; {} if no stage named any."""
    return {
        row["language"]: {"documents": row["documents_sum"], "bytes": row["bytes_sum"]}
        for row in sorted(rows, key=lambda row: row["language"] or "")
        if row["language"] is not None and row["stage"] == last and row["rule"] == KEPT
    }


def check(funnel: dict, ingested: dict, corpus: dict) -> None:
    """Raise DocumentsLost, naming stage and amount, unless documents and bytes add up from ingest to corpus."""
    first, last = funnel["stages"][0], funnel["stages"][-1]
    sources = ingested["sources"].values()
    for unit in ("documents", "bytes"):
        _equal("ingest", unit, sum(entry[unit] for entry in sources), first[unit])
        for before, stage in zip(funnel["stages"], funnel["stages"][1:], strict=False):
            losses = sum(entry[unit] for entry in stage["dropped"].values())
            losses += stage["cut"]["bytes"] if unit == "bytes" else 0
            _equal(stage["stage"], unit, before[unit], stage[unit] + losses)
        _equal("corpus manifest", unit, last[unit], corpus[unit])


def _equal(stage: str, unit: str, expected: int, total: int) -> None:
    if expected != total:
        raise DocumentsLost(
            f"{stage}: {expected:,} {unit} went in and {total:,} are accounted for. Delete the build's `ledgers` and"
            " `corpus` folders and run it again; if that does not help, please report it with the recipe."
        )
