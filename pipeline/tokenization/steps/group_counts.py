"""The pre-tokens of each group of documents, for a vocabulary that writes all groups alike (``parity``)."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc
import tokenizers

from pipeline import MillError
from pipeline.build.build import Build, Made, Outcome, make
from pipeline.store import files, shards
from pipeline.tokenization.steps.counting import PARTS
from pipeline.tokenization.steps.inputs import (
    corpus_place,
    languages,
    limits,
    part_of,
    shard_fingerprint,
    text_bytes,
    tokenizer_config,
)
from pipeline.tokenization.steps.superword_counts import count_paths, each_part
from pipeline.tokenization.training import counts, parity


def items(in_partitions: bool, build: Build) -> list[str]:
    return each_part(build, [config.name for config in build.recipe.tokenizers if config.parity], in_partitions)


def count(build: Build, item: str) -> Outcome:
    name, shard = item.split("/")
    config = tokenizer_config(build, name)
    assert config.parity is not None  # who has none has no such item
    by, index = config.parity.by, corpus_place(build, shard)
    inputs = [shard_fingerprint(build, shard)]
    if by == "language":
        if "language" not in build.stages:
            raise MillError(
                f"tokenizer {name!r}: `parity` by language needs the `language` stage; add it, or `by: domain`"
            )
        inputs.append(build.view_fingerprint(build.shards()[index]))
    part, seed = counts.counting_part(config), build.recipe.seed
    made_by = files.fingerprint(
        "groups", parity.VERSION, counts.VERSION, by, part, tokenizers.__version__, limits(build), seed, inputs
    )

    def counted() -> Made:
        table = shards.read_table(build.path("corpus", shard), ["id", "text", "domain"])
        table = part_of(build, table.append_column("language", languages(build, index, len(table))), "train")
        groups = pc.fill_null(table[by], "unknown")
        actual = [counts.COUNTS_SCHEMA.empty_table().append_column("group", pa.array([], pa.string()))]
        for group in sorted(set(groups.to_pylist())):
            of_group = counts.count(table.filter(pc.equal(groups, group))["text"].combine_chunks(), config)
            actual.append(_named(of_group, group))
        return Outcome(len(table), text_bytes(table["text"].combine_chunks())), pa.concat_tables(actual)

    return make(build.path("work", "tokenizer.groups", name, shard), made_by, counted)


def merge(build: Build, item: str) -> Outcome:
    name, part = item.split("/")
    inputs = count_paths(build, name, "groups", merged=False)
    made_by = files.fingerprint("groups", "merge", counts.VERSION, part, [shards.read_fingerprint(p) for p in inputs])

    def sums() -> Made:
        read = pa.concat_tables([shards.read_table(path) for path in inputs])
        read = read.filter(pc.equal(read["partition"], PARTS.index(part)))
        actual = [read.slice(0, 0)]
        for group, counted in by_group(read):
            actual.append(_named(counts.merge([counted]), group))
        table = pa.concat_tables(actual)
        return Outcome(bytes=table.nbytes), table

    return make(build.path("work", "tokenizer.groups.merge", name, part), made_by, sums)


def by_group(counted: pa.Table) -> Iterator[tuple[str, pa.Table]]:
    """The counts of each group, in the order of their names."""
    for name in sorted(set(counted["group"].to_pylist())):
        yield name, counted.filter(pc.equal(counted["group"], name)).combine_chunks()


def _named(counted: pa.Table, group: str) -> pa.Table:
    return counted.append_column("group", pa.array([group] * len(counted), pa.string()))
