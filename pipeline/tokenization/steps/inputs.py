"""What the steps read: the corpus by shard and split, the tokenizers of the recipe and those already trained."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline import MillError
from pipeline.build.build import Build
from pipeline.store import files, ledger, shards
from pipeline.tokenization import pack
from pipeline.tokenization.encoding.encode import Encoder

if TYPE_CHECKING:
    from pipeline.tokenization.config import TokenizerConfig

SPLITS = ("train", "heldout")
_kept = threading.local()


# Tokenizers


def tokenizer_names(build: Build) -> list[str]:
    return [config.name for config in build.recipe.tokenizers]


def tokenizer_config(build: Build, name: str) -> TokenizerConfig:
    return next(config for config in build.recipe.tokenizers if config.name == name)


def manifest_of(build: Build, name: str) -> dict:
    """What is known of the trained tokenizer."""
    return _content(build.path("tokenizers", name, "manifest.json"))


def trained_encoder(build: Build, name: str) -> Encoder:
    """The trained tokenizer; kept by a worker from shard to shard, with what it has encoded so far."""
    sha256 = manifest_of(build, name)["sha256"]
    if getattr(_kept, "sha256", None) != sha256:
        _kept.encoder, _kept.sha256 = Encoder(pack.load(build.path("tokenizers", name, "tokenizer.json"))), sha256
    return _kept.encoder


# The corpus


def corpus_shards(build: Build) -> list[str]:
    return list(_corpus_places(build))


def corpus_place(build: Build, shard: str) -> int:
    """The number of ``shard`` in ``corpus_shards``, from 0."""
    return _corpus_places(build)[shard]


def _corpus_places(build: Build) -> dict[str, int]:
    path = build.path("corpus", "manifest.json")
    with files.finding(path):
        return _places(path, files.stamp(path))


@lru_cache(maxsize=8)  # every item of every step asks for it, and it is as long as the corpus has shards
def _places(manifest: str, _stamp: Any) -> dict[str, int]:
    return {name: place for place, name in enumerate(files.read_json(manifest)["shards"])}


def for_each_shard(build: Build, names: list[str]) -> list[str]:
    """Items: each shard of the corpus for each of ``names``."""
    return [f"{name}/{shard}" for name in names for shard in corpus_shards(build)]


def shard_fingerprint(build: Build, shard: str) -> str:
    path = build.path("corpus", shard)
    made_by = shards.read_fingerprint(path)
    if made_by is None:
        raise MillError(f"{path}: not there, or not made by corpusmill; run the build again")
    return made_by


def limits(build: Build) -> dict[str, int]:
    """Per domain the hash below which a document is held out."""
    return _content(build.path("tokenizers", "split.json"))["thresholds"]


def _content(path: str) -> Any:
    """What ``read_json`` gives; the same again while the file has not changed, as every item asks for it."""
    with files.finding(path):
        return _json(path, files.stamp(path))


@lru_cache(maxsize=16)
def _json(path: str, _stamp: Any) -> Any:
    return files.read_json(path)


def part_of(build: Build, table: pa.Table, split: str) -> pa.Table:
    """The documents of ``table`` (id, domain, ...) that belong to ``split``."""
    ids, domains = table["id"].combine_chunks(), table["domain"].combine_chunks()
    heldout = pack.is_heldout(ids, domains, limits(build), build.recipe.seed)
    return table.filter(pa.array(heldout if split == "heldout" else ~heldout))


def train_part(build: Build, shard: str) -> pa.Table:
    """The documents of a shard to train on: id, text, domain."""
    return part_of(build, shards.read_table(build.path("corpus", shard), ["id", "text", "domain"]), "train")


def heldout_parts(build: Build) -> Iterator[pa.Table]:
    """The held-out documents, shard by shard: id, text, domain, and language where the build has found it."""
    for index, shard in enumerate(corpus_shards(build)):
        table = shards.read_table(build.path("corpus", shard), ["id", "text", "domain"])
        yield part_of(build, table.append_column("language", languages(build, index, len(table))), "heldout")


def languages(build: Build, index: int, rows: int) -> pa.Array | pa.ChunkedArray:
    """The language of each document of a shard of the corpus; null where the build has not looked."""
    if "language" not in build.stages:
        return pa.nulls(rows, pa.string())
    return ledger_column(build, "language", "language", index).cast(pa.string())


def ledger_column(build: Build, stage: str, column: str, index: int) -> pa.ChunkedArray:
    """What a stage measured of the documents of a shard of the corpus: of what is alive of one of the documents."""
    source = build.shards()[index]
    ledgers = [build.ledger(name, source) for name in build.stages]
    alive = ledger.alive(ledgers, len(ledgers[0]))
    return build.ledger(stage, source)[column].filter(pa.array(alive))


def text_bytes(texts: pa.StringArray) -> int:
    return pc.sum(pc.binary_length(texts).cast(pa.int64())).as_py() or 0
