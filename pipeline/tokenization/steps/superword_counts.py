"""What superwords are learned from: which words stand side by side, and the sequences of those that often do."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import tokenizers

from pipeline.build.build import Build, Made, Outcome, make
from pipeline.store import files, shards
from pipeline.tokenization.steps.counting import PARTS, count_shard, merge_partition
from pipeline.tokenization.steps.inputs import corpus_shards, limits, shard_fingerprint, tokenizer_config
from pipeline.tokenization.training import counts, superwords

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipeline.tokenization.config import TokenizerConfig


def names(build: Build) -> list[str]:
    return [config.name for config in build.recipe.tokenizers if config.superwords is not None]


def items(in_partitions: bool, build: Build) -> list[str]:
    return each_part(build, names(build), in_partitions)


def each_part(build: Build, tokenizer_names: list[str], in_partitions: bool) -> list[str]:
    """Items: each partition, or each shard of the corpus, for each tokenizer."""
    parts = PARTS if in_partitions else corpus_shards(build)
    return [f"{name}/{part}" for name in tokenizer_names for part in parts]


def count_paths(build: Build, name: str, kind: str, merged: bool = True) -> list[str]:
    """The counts of a ``kind`` for the tokenizer ``name``: added up by partition, or of each shard."""
    folder = build.path("work", f"tokenizer.{kind}{'.merge' * merged}", name)
    return [files.join(folder, part) for part in (PARTS if merged else corpus_shards(build))]


def count_neighbours(build: Build, item: str) -> Outcome:
    return _count(build, item, "neighbours", superwords.count_neighbours, [])


def choose_neighbours(build: Build, name: str) -> Outcome:
    config, paths = tokenizer_config(build, name), count_paths(build, name, "neighbours")
    asked = [config.vocab_size, config.min_frequency, config.superwords, *map(shards.read_fingerprint, paths)]

    def frequent() -> Made:
        table = superwords.frequent(map(shards.read_table, paths), config)
        return Outcome(bytes=table.nbytes), table

    return make(_frequent_path(build, name), files.fingerprint("frequent", superwords.VERSION, asked), frequent)


def _frequent_path(build: Build, name: str) -> str:
    return build.path("work", "tokenizer.neighbours.frequent", f"{name}.arrow")


def count_sequences(build: Build, item: str) -> Outcome:
    frequent = _frequent_path(build, item.split("/")[0])

    def count(texts: pa.StringArray, config: TokenizerConfig) -> pa.Table:
        return superwords.count_sequences(texts, config, shards.read_table(frequent))

    return _count(build, item, "sequences", count, [shards.read_fingerprint(frequent)])


def _count(
    build: Build, item: str, kind: str, count: Callable[[Any, TokenizerConfig], pa.Table], more: list[Any]
) -> Outcome:
    name, shard = item.split("/")
    config = tokenizer_config(build, name)
    part, seed = counts.counting_part(config), build.recipe.seed
    source = shard_fingerprint(build, shard)
    made_by = files.fingerprint(
        kind, superwords.VERSION, counts.VERSION, part, tokenizers.__version__, limits(build), seed, source, more
    )
    path = build.path("work", f"tokenizer.{kind}", name, shard)
    return count_shard(build, shard, path, made_by, lambda texts: count(texts, config))


def _merge(kind: str, build: Build, item: str) -> Outcome:
    name, part = item.split("/")
    inputs = count_paths(build, name, kind, merged=False)
    made_by = files.fingerprint(kind, "merge", counts.VERSION, part, [shards.read_fingerprint(p) for p in inputs])
    return merge_partition(inputs, part, build.path("work", f"tokenizer.{kind}.merge", name, part), made_by)


merge_neighbours = partial(_merge, "neighbours")
merge_sequences = partial(_merge, "sequences")
