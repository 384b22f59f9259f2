"""The steps of a build that make tokenizers and tokens: split, count, merge, train, compare, pack, account.

    tokenizers/split.json  tokenizers/<name>/tokenizer.json  tokenizers/report.json
    tokens/<name>/{train,heldout,canaries}/  tokens/account.json  work/tokens.shards/<name>/<shard>.json
    work/tokenizer.counts/<key>/<shard>  work/tokenizer.merge/<key>/part-00.arrow

Tokenizers that cut texts alike share their counts; ``<key>`` names how. Held-out documents are counted nowhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from pipeline.build.build import Build, Outcome, Step
from pipeline.tokenization.steps import (
    accounting,
    comparing,
    counting,
    group_counts,
    packing,
    superword_counts,
    training,
)
from pipeline.tokenization.steps.inputs import tokenizer_names


def steps() -> list[Step]:
    """In order. The name of a step is part of the build's record."""
    words, groups = superword_counts, group_counts
    return [
        Step("tokenizer.split", "Split off held-out documents", lambda _build: ["split"], counting.split),
        Step("tokenizer.counts", "Count pre-tokens", counting.count_items, counting.count),
        Step("tokenizer.merge", "Add up the counts", counting.merge_items, counting.merge),
        *_twice("neighbours", "words side by side", words.items, words.count_neighbours, words.merge_neighbours),
        Step("tokenizer.neighbours.frequent", "Choose words side by side", words.names, words.choose_neighbours),
        *_twice("sequences", "sequences of words", words.items, words.count_sequences, words.merge_sequences),
        *_twice("groups", "pre-tokens by group", groups.items, groups.count, groups.merge),
        Step("tokenizer.train", "Train tokenizers", tokenizer_names, training.train_tokenizer),
        Step("tokenizer.report", "Compare tokenizers", partial(_once, "report"), comparing.compare),
        Step("pack", "Pack tokens", packing.pack_items, packing.pack_tokens),
        Step("pack.manifest", "Write the token manifests", packing.manifest_items, packing.write_manifest),
        Step("tokens.shards", "Count every token", packing.pack_items, accounting.count_tokens),
        Step("tokens.canaries", "Pack token canaries", tokenizer_names, accounting.pack_canaries),
        Step("tokens.account", "Account for every token", partial(_once, "account.json"), accounting.account),
    ]


def _twice(
    name: str,
    title: str,
    items: Callable[[bool, Build], Sequence[str]],
    count: Callable[[Build, str], Outcome],
    merge: Callable[[Build, str], Outcome],
) -> list[Step]:
    """Counting by shard, and adding up by partition."""
    counted = Step(f"tokenizer.{name}", f"Count {title}", partial(items, False), count)
    return [counted, Step(f"tokenizer.{name}.merge", f"Add up {title}", partial(items, True), merge)]


def _once(item: str, build: Build) -> list[str]:
    """``item``, if the build has tokenizers at all."""
    return [item] if tokenizer_names(build) else []
