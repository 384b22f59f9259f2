"""What the report needs of one shard, counted and chosen in one pass over its ledgers.

One Arrow file a shard, one row: histogram counts, thresholds in use and what others would keep, candidates for samples.
A few hundred kilobytes whatever the shard's size, so that the page of any corpus is made from these files alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.build.build import Build, Made, Outcome, make
from pipeline.report import clusters, curves, histograms, samples, settings
from pipeline.report.settings import Setting
from pipeline.stages import registry
from pipeline.store import files, ledger, shards
from pipeline.store.ledger import Rule
from pipeline.text import spans

VERSION = 3
SCHEMA = pa.schema(
    [
        ("counts", histograms.COUNTS),
        ("thresholds", histograms.THRESHOLDS),
        ("curves", curves.CURVES),
        ("samples", samples.SAMPLES),
        ("clusters", clusters.CLUSTERS),
    ]
)


def path(build: Build, shard: str) -> str:
    return build.path("work", "report.shards", shard)


def collect(build: Build, shard: str) -> Outcome:
    """Write the report's part of ``shard``."""
    rules = {stage: registry.rules(build, stage) for stage in build.stages}
    static = {stage: [vars(rule) for rule in entries] for stage, entries in rules.items()}
    movable = {stage: settings_of(build, stage) for stage in build.stages}
    named = {stage: [vars(setting) for setting in entries] for stage, entries in movable.items()}
    view = build.view_fingerprint(shard)
    made_by = files.fingerprint("report.shards", VERSION, build.recipe.seed, static, named, view)
    return make(path(build, shard), made_by, partial(_part, build, shard, rules, movable))


def settings_of(build: Build, stage: str) -> list[Setting]:
    """The settings of the recipe that move a threshold of ``stage``."""
    return settings.settings(registry.named(build.recipe.registered, stage), build.section(stage))


def _part(
    build: Build, shard: str, rules: Mapping[str, Sequence[Rule]], movable: Mapping[str, Sequence[Setting]]
) -> Made:
    documents = build.documents(shard)
    languages: pa.Array = pa.nulls(len(documents), pa.string())
    row: dict[str, list] = {name: [] for name in SCHEMA.names}
    signals: dict[str, pa.Array] = {}
    sizes = lengths = pc.binary_length(documents["text"]).to_numpy().astype(np.int64)
    cuts: list[pa.ListArray] = []
    alive = np.ones(len(documents), bool)
    for stage in build.stages:
        table = build.ledger(stage, shard)
        if "language" in table.column_names:
            languages = table["language"].combine_chunks().cast(pa.string())
        groups = documents["domain"].combine_chunks() if stage == "balance" else languages
        counts, thresholds = histograms.count(stage, table, rules[stage], groups)
        signals |= {
            name: table[name].combine_chunks() for name in table.column_names if name not in ledger.VERDICT_COLUMNS
        }
        if "spans" in table.column_names:
            cuts.append(table["spans"].combine_chunks())
            sizes = lengths - spans.covered(spans.merge(cuts))
        row["counts"] += counts
        row["thresholds"] += thresholds
        reached = np.where(alive, sizes, -1)
        row["curves"] += curves.count(stage, table, rules[stage], movable[stage], signals, reached)
        row["samples"] += samples.choose(build, shard, stage, table, documents, languages)
        row["clusters"] += clusters.choose(build, shard, stage, table, documents)
        alive &= table["dropped_by"].is_null().to_numpy()
    return Outcome(len(documents), documents["text"].nbytes), pa.Table.from_pylist([row], SCHEMA)


def collected(build: Build) -> Iterator[pa.Table]:
    """The files of all shards, in order, one at a time."""
    for shard in build.shards():
        yield shards.read_table(path(build, shard))


def is_collected(build: Build) -> bool:
    """Whether every shard has its part."""
    return files.exists(build.path("documents", "manifest.json")) and all(
        files.exists(path(build, shard)) for shard in build.shards()
    )
