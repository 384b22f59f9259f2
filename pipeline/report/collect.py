"""What the report needs of one shard, counted and chosen in one pass over its ledgers.

One Arrow file a shard, one row: histogram counts, thresholds in use, candidates for samples. A few hundred kilobytes
whatever the shard's size, so that the page of any corpus is made from these files alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import pyarrow as pa

from pipeline.build.build import Build, Made, Outcome, make
from pipeline.report import histograms, samples
from pipeline.stages import registry
from pipeline.store import files, shards
from pipeline.store.ledger import Rule

VERSION = 1
SCHEMA = pa.schema([("counts", histograms.COUNTS), ("thresholds", histograms.THRESHOLDS), ("samples", samples.SAMPLES)])


def path(build: Build, shard: str) -> str:
    return build.path("work", "report.shards", shard)


def collect(build: Build, shard: str) -> Outcome:
    """Write the report's part of ``shard``."""
    rules = {stage: registry.rules(build, stage) for stage in build.stages}
    static = {stage: [vars(rule) for rule in entries] for stage, entries in rules.items()}
    made_by = files.fingerprint("report.shards", VERSION, build.recipe.seed, static, build.view_fingerprint(shard))
    return make(path(build, shard), made_by, partial(_part, build, shard, rules))


def _part(build: Build, shard: str, rules: Mapping[str, Sequence[Rule]]) -> Made:
    documents = build.documents(shard)
    languages: pa.Array = pa.nulls(len(documents), pa.string())
    row: dict[str, list] = {name: [] for name in SCHEMA.names}
    for stage in build.stages:
        table = build.ledger(stage, shard)
        if "language" in table.column_names:
            languages = table["language"].combine_chunks().cast(pa.string())
        groups = documents["domain"].combine_chunks() if stage == "balance" else languages
        counts, thresholds = histograms.count(stage, table, rules[stage], groups)
        row["counts"] += counts
        row["thresholds"] += thresholds
        row["samples"] += samples.choose(build, shard, stage, table, documents, languages)
    return Outcome(len(documents), documents["text"].nbytes), pa.Table.from_pylist([row], SCHEMA)


def collected(build: Build) -> Iterator[pa.Table]:
    """The files of all shards, in order, one at a time."""
    for shard in build.shards():
        yield shards.read_table(path(build, shard))
