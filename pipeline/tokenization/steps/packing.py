"""The corpus as packed tokens of each tokenizer, shard by shard, and the manifest of each split."""

from __future__ import annotations

from pipeline.build.build import Build, Outcome
from pipeline.store import files, packed_tokens, shards
from pipeline.tokenization import pack
from pipeline.tokenization.formats import export
from pipeline.tokenization.steps.inputs import (
    SPLITS,
    corpus_place,
    corpus_shards,
    for_each_shard,
    limits,
    manifest_of,
    part_of,
    shard_fingerprint,
    text_bytes,
    tokenizer_config,
    tokenizer_names,
    trained_encoder,
)


def pack_items(build: Build) -> list[str]:
    return for_each_shard(build, tokenizer_names(build))


def packed_by(build: Build, name: str, shard: str) -> str:
    """The fingerprint of the tokens of a shard of the corpus."""
    made_by = manifest_of(build, name)["sha256"]
    source = shard_fingerprint(build, shard)
    return files.fingerprint(
        "pack", pack.VERSION, packed_tokens.FORMAT, made_by, limits(build), build.recipe.seed, source
    )


def pack_tokens(build: Build, item: str) -> Outcome:
    name, shard = item.split("/")
    index = corpus_place(build, shard)
    made_by = packed_by(build, name, shard)
    tokens_name, documents_name = packed_tokens.shard_names(index)
    folders = [build.path("tokens", name, split) for split in SPLITS]
    if all(
        shards.is_current(files.join(folder, documents_name), made_by)
        and files.current(files.exists(files.join(folder, tokens_name)))
        for folder in folders
    ):
        return Outcome(reused=True)
    encoder = trained_encoder(build, name)
    eos = export.special_ids(tokenizer_config(build, name)).get("eos")
    table = shards.read_table(build.path("corpus", shard), ["id", "text", "domain", "repeats"])
    for split, folder in zip(SPLITS, folders, strict=True):
        pack.pack_shard(folder, index, part_of(build, table, split), encoder, eos, made_by)
    return Outcome(len(table), text_bytes(table["text"].combine_chunks()))


def manifest_items(build: Build) -> list[str]:
    return [f"{name}/{split}" for name in tokenizer_names(build) for split in SPLITS]


def write_manifest(build: Build, item: str) -> Outcome:
    name, split = item.split("/")
    folder = build.path("tokens", name, split)
    trained = manifest_of(build, name)
    indices = list(range(len(corpus_shards(build))))
    path = files.join(folder, "manifest.json")
    before = files.read_json(path)["fingerprint"] if files.exists(path) else None
    manifest = packed_tokens.write_manifest(
        folder, indices, trained["vocab_size"], trained["special_ids"], trained["sha256"]
    )
    wanted = {name for index in indices for name in packed_tokens.shard_names(index)} | {"manifest.json"}
    for stale in set(files.list_files(folder)) - wanted:
        files.remove(files.join(folder, stale))
    return Outcome(manifest["documents"], manifest["bytes"], reused=manifest["fingerprint"] == before)
