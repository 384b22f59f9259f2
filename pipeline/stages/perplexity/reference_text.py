"""Models trained in the build, on a reference part of the corpus that does not depend on shards, workers or order.

Two models a language, each on the half of the reference that the other does not see, so that every document can be
scored by one that has not seen it. The half hangs on the text: exact copies share it, and are trained on once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import ByteSize, Field

from pipeline.build.build import Build, Made, Outcome, Step, View, make
from pipeline.stages.perplexity import train_model
from pipeline.store import files, model_files, recipe_file, shards
from pipeline.text.excerpts import excerpts
from pipeline.text.hashing import document_hash, unit_interval
from pipeline.text.sentence_folding import sentences

if TYPE_CHECKING:
    from pipeline.stages.perplexity.stage import Config

VERSION = 2
#: What a recipe says in the place of a model's path.
TRAINED = "build"
HALVES = (0, 1)
#: No document gives more than this share of the reference: a longer one gives an excerpt.
_LARGEST_SHARE = 0.01
#: The documents with the lowest hashes are the reference; it is filled by bins of hashes.
_BINS = 1 << 20
_SALT = 0x70657270  # balancing keeps documents with low hashes, too: it should not meet the same ones


class Reference(recipe_file.Config):
    """What models are trained on: of the documents that reach this stage, in ``domains`` (null: all), a ``share``
    chosen by the hash of their ids, and of each language about ``max_bytes`` at most."""

    share: Annotated[
        float, Field(gt=0, le=1, description="share of the documents to train on, chosen by the hash of their ids")
    ] = 1.0
    max_bytes: Annotated[
        ByteSize, Field(ge=1 << 16, le=1 << 30, description="bytes of text to train on, of each language")
    ] = ByteSize(32 << 20)
    domains: Annotated[
        Annotated[list[str], Field(min_length=1)] | None, Field(description="domains to train on; default: all of them")
    ] = None


def steps() -> list[Step]:
    return [
        Step("perplexity.sizes", "Reference sizes", _shards, _measure_sizes),
        Step("perplexity.model", "Language models", _items, _train),
    ]


def model_paths(build: Build, language: str) -> tuple[str, str] | None:
    """The models to score documents of half 0 and of half 1 with; None if a half has no sentence to train on."""
    if not all(files.read_json(_note_path(build, f"{language}.{half}"))["sha256"] for half in HALVES):
        return None
    first, second = (str(files.local(_model_path(build, f"{language}.{half}"))) for half in HALVES)
    return second, first


def halves(texts: pa.StringArray, seed: int) -> np.ndarray:
    """int64 [n], 0 or 1: the half that each text belongs to."""
    return (document_hash(texts, seed) & np.uint64(1)).astype(np.int64)


def _config(build: Build) -> Config:
    config = build.section("perplexity")
    assert config is not None
    return config


def _languages(build: Build) -> list[str]:
    return sorted(language for language, model in _config(build).models.items() if model == TRAINED)


def _shards(build: Build) -> Sequence[str]:
    return build.shards() if _languages(build) else []


def _items(build: Build) -> Sequence[str]:
    return [f"{language}.{half}" for language in _languages(build) for half in HALVES]


def _measure_sizes(build: Build, shard: str) -> Outcome:
    """How many bytes each bin of hashes can give to the reference of each language."""
    config = _config(build)
    made_by = files.fingerprint(
        "perplexity.sizes", VERSION, config.reference, build.recipe.seed, build.view_fingerprint(shard, "perplexity")
    )
    return make(build.path("work", "perplexity.sizes", shard), made_by, partial(_sizes, build, shard))


def _sizes(build: Build, shard: str) -> Made:
    view = build.view(shard, before="perplexity")
    frame = pa.table(
        {
            "language": view.signals["language"].cast(pa.string()),
            "bin": _bins(build, view),
            "bytes": pc.min_element_wise(pc.binary_length(view.texts), _largest(_config(build))).cast(pa.int64()),
        }
    )
    frame = frame.filter(pc.less(frame["bin"], _BINS))
    table = frame.group_by(["language", "bin"]).aggregate([("bytes", "sum")])
    table = table.sort_by([("language", "ascending"), ("bin", "ascending")])
    return Outcome(len(view.texts), view.texts.nbytes), table


def _bins(build: Build, view: View) -> np.ndarray:
    """int32: the bin of each document, _BINS for those that are never reference."""
    reference = _config(build).reference
    position = unit_interval(document_hash(view.documents["id"], build.recipe.seed ^ _SALT))
    able = position < reference.share
    if reference.domains is not None:
        able &= pc.is_in(view.documents["domain"], pa.array(reference.domains)).to_numpy(zero_copy_only=False)
    return np.where(able, position * _BINS, _BINS).astype(np.int32)


def _largest(config: Config) -> int:
    return int(config.reference.max_bytes * _LARGEST_SHARE)


def _train(build: Build, item: str) -> Outcome:
    """The model of one half, and beside it a note of what made it; the model's own bytes name the text alone."""
    config = _config(build)
    language, half = item.rsplit(".", 1)
    sizes = [build.path("work", "perplexity.sizes", shard) for shard in build.shards()]
    made_by = files.fingerprint(
        "perplexity.model",
        VERSION,
        item,
        [config.order, config.prune[: config.order], train_model.choose(config.estimator)],
        [shards.read_fingerprint(path) for path in sizes],
    )
    path = _model_path(build, item)

    def model() -> Made:
        texts = _gather(build, language, int(half), _end(sizes, language, config.reference.max_bytes))
        lines = sentences(texts).lines
        if len(lines):
            train_model.train(lines, path, config.order, config.prune[: config.order], config.estimator)
        facts = {"documents": len(texts), "bytes": texts.nbytes, "sentences": len(lines)}
        digest = model_files.digest(path) if len(lines) else None
        return Outcome(len(texts), texts.nbytes), {**facts, "sha256": digest}

    def has_model(note: dict[str, Any]) -> bool:
        return note["sha256"] is None or (files.exists(path) and model_files.digest(path) == note["sha256"])

    return make(_note_path(build, item), made_by, model, has_model)


def _end(sizes: Iterable[str], language: str, max_bytes: int) -> int:
    """The first bin that is left out, so that all before it hold at most ``max_bytes``."""
    total = np.zeros(_BINS, np.int64)
    for path in sizes:
        table = shards.read_table(path)
        mine = table.filter(pc.equal(table["language"], language))
        total[mine["bin"].to_numpy()] += mine["bytes_sum"].to_numpy()
    return int(np.searchsorted(np.cumsum(total), max_bytes, side="right"))


def _gather(build: Build, language: str, half: int, end: int) -> pa.StringArray:
    """The texts of ``half`` in the bins before ``end``, each once, in the order of their hashes; of the long ones
    excerpts."""
    seed = build.recipe.seed
    gathered, hashes = [pa.array([], pa.string())], [np.zeros(0, np.uint64)]
    for shard in build.shards():
        view = build.view(shard, before="perplexity")
        chosen = pc.equal(view.signals["language"].cast(pa.string()), language)
        texts = view.texts.filter(pc.and_(chosen, pa.array(_bins(build, view) < end)))
        mine = halves(texts, seed) == half
        gathered.append(excerpts(texts.filter(pa.array(mine)), _largest(_config(build))))
        hashes.append(document_hash(texts, seed)[mine])
    _, first = np.unique(np.concatenate(hashes), return_index=True)
    return pa.concat_arrays(gathered).take(pa.array(first))


def _model_path(build: Build, item: str) -> str:
    return build.path("models", "perplexity", f"{item}.arpa")


def _note_path(build: Build, item: str) -> str:
    return build.path("models", "perplexity", f"{item}.json")
