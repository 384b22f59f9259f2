"""What the report needs of one shard, counted and chosen in one pass over its ledgers.

One Arrow file a shard, one row: histogram counts, thresholds in use and what others would keep, candidates for samples.
A few hundred kilobytes whatever the shard's size, so that the page of any corpus is made from these files alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Policy:
    """The rules of a stage, the settings that move their thresholds, and the ``fingerprint`` of both."""

    rules: Sequence[Rule]
    settings: Sequence[Setting]
    fingerprint: str


_policies: dict[str, Policy] = {}


def policy(build: Build, name: str) -> Policy:
    """The policy of a stage; worked out once a process, as it takes longer than a shard."""
    stage, config = registry.named(build.recipe.registered, name), build.section(name)
    key = files.fingerprint(name, stage.version, stage.plugin and stage.plugin.made_by, config)
    if key not in _policies:
        rules = list(stage.rules(config))
        entries = settings.settings(stage, config)
        made_by = files.fingerprint([vars(rule) for rule in rules], [vars(setting) for setting in entries])
        _policies[key] = Policy(rules, entries, made_by)
    return _policies[key]


def collect(build: Build, shard: str) -> Outcome:
    """Write the report's part of ``shard``."""
    policies = {stage: policy(build, stage) for stage in build.stages}
    static = {stage: entry.fingerprint for stage, entry in policies.items()}
    made_by = files.fingerprint("report.shards", VERSION, build.recipe.seed, static, build.view_fingerprint(shard))
    return make(path(build, shard), made_by, partial(_part, build, shard, policies))


def _part(build: Build, shard: str, policies: Mapping[str, Policy]) -> Made:
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
        rules, movable = policies[stage].rules, policies[stage].settings
        counts, thresholds = histograms.count(stage, table, rules, groups)
        signals |= {
            name: table[name].combine_chunks() for name in table.column_names if name not in ledger.VERDICT_COLUMNS
        }
        if "spans" in table.column_names:
            cuts.append(table["spans"].combine_chunks())
            sizes = lengths - spans.covered(spans.merge(cuts))
        row["counts"] += counts
        row["thresholds"] += thresholds
        reached = np.where(alive, sizes, -1)
        row["curves"] += curves.count(stage, table, rules, movable, signals, reached)
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
