"""The account of tokens: every one counted against its document, the canaries packed, and all of it added up."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pyarrow as pa

from pipeline.build.build import Build, Made, Outcome, make
from pipeline.store import files, packed_tokens, shards
from pipeline.tokenization import pack, token_account, token_canaries
from pipeline.tokenization.encoding.encode import Encoder
from pipeline.tokenization.formats import export
from pipeline.tokenization.steps.inputs import (
    SPLITS,
    corpus_place,
    corpus_shards,
    ledger_column,
    manifest_of,
    part_of,
    text_bytes,
    tokenizer_config,
    tokenizer_names,
    trained_encoder,
)
from pipeline.tokenization.steps.packing import packed_by

if TYPE_CHECKING:
    from pipeline.tokenization.config import TokenizerConfig

_kept = threading.local()


def _account_path(build: Build, name: str, shard: str) -> str:
    return build.path("work", "tokens.shards", name, f"{shard.removesuffix('.arrow')}.json")


def count_tokens(build: Build, item: str) -> Outcome:
    name, shard = item.split("/")
    index = corpus_place(build, shard)
    made_by = files.fingerprint("tokens", token_account.VERSION, packed_by(build, name, shard))

    def counts() -> Made:
        encoder = trained_encoder(build, name)
        about = _facts(encoder, tokenizer_config(build, name))
        table = shards.read_table(build.path("corpus", shard), ["id", "text", "domain", "repeats"])
        _repeats_are_balanced(build, index, table)
        actual = {}
        for split in SPLITS:
            folder, part = build.path("tokens", name, split), part_of(build, table, split)
            actual[split] = token_account.of_shard(folder, index, part, about, encoder.tokenizer)
        return Outcome(len(table), text_bytes(table["text"].combine_chunks())), actual

    return make(_account_path(build, name, shard), made_by, counts)


def _facts(encoder: Encoder, config: TokenizerConfig) -> token_account.Facts:
    """Of the tokenizer of ``encoder``; kept as it is."""
    if getattr(_kept, "facts_of", None) != (encoder.tokenizer, config):
        _kept.facts = token_account.facts(encoder.tokenizer, export.special_ids(config).get("eos"), config)
        _kept.facts_of = encoder.tokenizer, config
    return _kept.facts


def _repeats_are_balanced(build: Build, index: int, corpus: pa.Table) -> None:
    """Each document of a shard of the corpus is repeated as often as balancing said."""
    if "balance" not in build.stages:
        return
    wanted = ledger_column(build, "balance", "repeats", index).to_pylist()
    actual = corpus["repeats"].to_pylist()
    if actual != wanted:
        at = next((i for i, (a, b) in enumerate(zip(actual, wanted, strict=False)) if a != b), 0)
        raise token_account.TokensLost(
            f"{build.path('corpus', corpus_shards(build)[index])}: document {corpus['id'][at].as_py()!r} is read"
            f" {actual[at]} times and balancing says {wanted[at]}; delete the build's corpus folder and run it again"
        )


def pack_canaries(build: Build, name: str) -> Outcome:
    folder, trained = build.path("tokens", name, token_canaries.FOLDER), manifest_of(build, name)
    digest = trained["sha256"]
    if files.current(token_canaries.are_current(folder, digest)):
        return Outcome(reused=True)
    manifest = token_canaries.write(folder, trained_encoder(build, name), trained["special_ids"], digest)
    tokenizer = pack.load(build.path("tokenizers", name, "tokenizer.json"))
    token_canaries.check(packed_tokens.PackedTokens(folder), tokenizer)
    return Outcome(manifest["documents"], manifest["bytes"])


def account(build: Build, item: str) -> Outcome:
    corpus = files.read_json(build.path("corpus", "manifest.json"))
    actual = {}
    for name in tokenizer_names(build):
        parts = [files.read_json(_account_path(build, name, shard)) for shard in corpus_shards(build)]
        counts = {split: [part[split] for part in parts] for split in SPLITS}
        manifests = {split: files.read_json(build.path("tokens", name, split, "manifest.json")) for split in SPLITS}
        canaries = files.read_json(build.path("tokens", name, token_canaries.FOLDER, "manifest.json"))
        actual[name] = {**token_account.close(counts, manifests, corpus), "canaries": canaries["documents"]}
    path = build.path("tokens", item)
    reused = files.exists(path) and files.read_json(path) == actual
    if not reused:
        files.write_json(path, actual)
    return Outcome(corpus["documents"], corpus["bytes"], reused=reused)
