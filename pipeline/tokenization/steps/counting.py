"""The split of the corpus, and the pre-tokens of its training part: counted by shard, added up by partition."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import tokenizers

from pipeline.build.build import Build, Made, Outcome, make
from pipeline.store import files, shards
from pipeline.text.hashing import document_hash
from pipeline.tokenization import pack
from pipeline.tokenization.steps.inputs import (
    corpus_shards,
    for_each_shard,
    limits,
    shard_fingerprint,
    text_bytes,
    train_part,
)
from pipeline.tokenization.training import counts

if TYPE_CHECKING:
    from pipeline.tokenization.config import TokenizerConfig

PARTS = tuple(f"part-{index:02d}.arrow" for index in range(counts.PARTITIONS))


def split(build: Build, _item: str) -> Outcome:
    names = corpus_shards(build)
    inputs = [shard_fingerprint(build, shard) for shard in names]
    made_by = files.fingerprint("split", pack.VERSION, build.recipe.seed, build.recipe.pack.heldout, inputs)

    def thresholds() -> Made:
        hashes, domains = [np.zeros(0, np.uint64)], [pa.array([], pa.string())]
        for shard in names:
            table = shards.read_table(build.path("corpus", shard), ["id", "domain"]).combine_chunks()
            hashes.append(document_hash(table["id"].combine_chunks(), build.recipe.seed))
            domains.append(table["domain"].combine_chunks())
        encoded = pa.concat_arrays(domains).dictionary_encode()
        heldout_below = pack.thresholds(np.concatenate(hashes), encoded, build.recipe.pack.heldout)
        return Outcome(len(encoded)), {"thresholds": heldout_below}

    return make(build.path("tokenizers", "split.json"), made_by, thresholds)


def _key(config: TokenizerConfig) -> str:
    return f"{config.pre_tokenizer}-{files.fingerprint(counts.counting_part(config))[:8]}"


def _keys(build: Build) -> dict[str, TokenizerConfig]:
    return {_key(config): config for config in build.recipe.tokenizers}


def count_items(build: Build) -> list[str]:
    return for_each_shard(build, list(_keys(build)))


def count(build: Build, item: str) -> Outcome:
    key, shard = item.split("/")
    made_by = files.fingerprint(
        "counts",
        counts.VERSION,
        key,
        tokenizers.__version__,
        limits(build),
        build.recipe.seed,
        shard_fingerprint(build, shard),
    )
    path = build.path("work", "tokenizer.counts", key, shard)
    return count_shard(build, shard, path, made_by, lambda texts: counts.count(texts, _keys(build)[key]))


def count_shard(
    build: Build, shard: str, path: str, made_by: str, count_texts: Callable[[pa.StringArray], pa.Table]
) -> Outcome:
    """The table that ``count_texts`` makes of the training texts of a shard, in ``path``."""

    def counted() -> Made:
        table = train_part(build, shard)
        texts = table["text"].combine_chunks()
        return Outcome(len(table), text_bytes(texts)), count_texts(texts)

    return make(path, made_by, counted)


def merge_items(build: Build) -> list[str]:
    return [f"{key}/{part}" for key in _keys(build) for part in PARTS]


def merge(build: Build, item: str) -> Outcome:
    key, part = item.split("/")
    inputs = [build.path("work", "tokenizer.counts", key, shard) for shard in corpus_shards(build)]
    made_by = files.fingerprint("merge", counts.VERSION, part, [shards.read_fingerprint(p) for p in inputs])
    return merge_partition(inputs, part, build.path("work", "tokenizer.merge", key, part), made_by)


def merge_partition(inputs: Sequence[str], part: str, path: str, made_by: str) -> Outcome:
    """The sums over the tables of ``inputs`` of what belongs to the partition ``part``, in ``path``."""

    def sums() -> Made:
        table = counts.merge(counts.partition(shards.read_table(p), PARTS.index(part)) for p in inputs)
        return Outcome(bytes=table.nbytes), table

    return make(path, made_by, sums)


def merged_paths(build: Build, config: TokenizerConfig) -> list[str]:
    folder = build.path("work", "tokenizer.merge", _key(config))
    return [files.join(folder, part) for part in PARTS]
