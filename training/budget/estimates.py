"""Token budgets before a model is trained, or for what another program trained: sizes are counted, tokens estimated.

``of`` takes what a user has at hand: a recipe, the folder of a corpus, the folder of a model.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import AutoConfig, PreTrainedModel
from transformers.models.auto import modeling_auto

from pipeline import MillError
from pipeline.build.build import Build
from pipeline.report import tokens
from pipeline.store import files
from pipeline.store.packed_tokens import PackedTokens
from training import objectives
from training.batches.vocabulary import Vocabulary
from training.budget import budget, source_sizes
from training.budget.budget import Corpus, Run
from training.models import architectures
from training.objectives.base import Task
from training.recipe import model_shapes
from training.recipe.sections import BudgetConfig, BuildRecipe, PretrainConfig, stored

#: What a corpus alone is held against.
DEFAULT = "gpt2"
_OPENING = {
    "t5": modeling_auto.AutoModelForSeq2SeqLM,
    "bart": modeling_auto.AutoModelForSeq2SeqLM,
    "gpt2": modeling_auto.AutoModelForCausalLM,
    "llama": modeling_auto.AutoModelForCausalLM,
    "qwen3": modeling_auto.AutoModelForCausalLM,
}


class NoTokens(MillError):
    """Nothing is known of the corpus."""


def of_folder(folder: str, parameters: int | None, tokens_per_parameter: float | None) -> list[dict[str, Any]]:
    """The budget of the model or the corpus in ``folder``; the target is the build's where the arguments are None.

    Raises NoTokens where the tokens are not known, MillError where it is neither.
    """
    path = Path(folder)
    recipe = path.resolve().parent / "recipe.json"
    if files.exists(str(path / "config.json")):
        return of_model(folder, parameters, tokens_per_parameter)
    if files.exists(str(path / "manifest.json")):
        config = stored(recipe.parent).budget if files.exists(str(recipe)) else BudgetConfig()
        return of_corpus(folder, _target(config, parameters, tokens_per_parameter))
    raise MillError(f"{folder}: neither a corpus (manifest.json) nor a model (config.json)")


def _target(config: BudgetConfig, parameters: int | None, tokens_per_parameter: float | None) -> BudgetConfig:
    wanted = {"parameters": parameters, "tokens_per_parameter": tokens_per_parameter}
    return config.model_copy(update={name: value for name, value in wanted.items() if value is not None})


def of_recipe(
    build: Build[BuildRecipe], parameters: int | None = None, tokens_per_parameter: float | None = None
) -> list[dict[str, Any]]:
    """The budget of each `pretrain` run: of its model where that is trained, else estimated from what there is so far.

    A recipe without runs is answered for its corpus, one that was not curated for its sources. What an estimate takes
    for granted is its ``assumed``. Raises NoFiles where there are no sources either.
    """
    wanted = _target(build.recipe.budget, parameters, tokens_per_parameter)
    build = Build(build.root, build.recipe.model_copy(update={"budget": wanted}))
    if not build.recipe.pretrain:
        return [_of_text(_text(build), wanted)]
    trained = {run["name"]: run for run in budget.of_build(build)["runs"]} if _curated(build) else {}
    return [
        {**trained[config.name], "estimated": False} if config.name in trained else _planned(build, config)
        for config in build.recipe.pretrain
    ]


def of_corpus(folder: str, config: BudgetConfig) -> list[dict[str, Any]]:
    """The budget of GPT-2 trained on the corpus in ``folder`` for ``config.tokens_per_parameter``."""
    curated = int(files.read_json(files.join(folder, "manifest.json"))["bytes"])
    root, text = Path(folder).resolve().parent, _Text(curated, curated, tokens.BYTES_PER_TOKEN)
    if (root / "recipe.json").is_file():
        build = Build(str(root), stored(root))
        text = _Text(_raw_bytes(build) or curated, curated, tokens.tokens(build)["bytes_per_token"])
    return [_of_text(text, config)]


@dataclass(frozen=True)
class _Text:
    """Bytes before and after curation, and how many a token has; ``assumed`` says what was not measured of the two."""

    raw: int
    curated: int
    bytes_per_token: float
    assumed: str | None = None

    @property
    def corpus(self) -> Corpus:
        return Corpus(max(1, round(self.curated / self.bytes_per_token)), self.curated, self.raw, self.curated)


def _curated(build: Build) -> bool:
    return files.exists(build.path("corpus", "manifest.json"))


def _text(build: Build) -> _Text:
    """The curated text of ``build``, or else that of its sources as if curation kept every byte."""
    ratio = tokens.tokens(build)["bytes_per_token"]
    if _curated(build):
        curated = int(files.read_json(build.path("corpus", "manifest.json"))["bytes"])
        return _Text(_raw_bytes(build) or curated, curated, ratio)
    sizes = source_sizes.measure(build.recipe)
    assumption = f"nothing is curated yet: {sizes.sentence}, as if curation kept every byte, at {ratio:g} bytes a token"
    return _Text(max(1, sizes.bytes), max(1, sizes.bytes), ratio, assumption)


def _of_text(text: _Text, config: BudgetConfig) -> dict[str, Any]:
    """The budget of GPT-2 with its own 50,257 entries and 1,024 positions, whatever tokenizers the build has."""
    sizes = count(model_shapes.shape_of(DEFAULT), Vocabulary(50_257), 1024)  # as published
    run = Run(*sizes, 1024, max(1, round(sizes[0] * config.tokens_per_parameter)))
    return {**budget.entry(DEFAULT, None, text.corpus, run, config), "estimated": True, "assumed": text.assumed}


def of_model(folder: str, parameters: int | None, tokens_per_parameter: float | None) -> list[dict[str, Any]]:
    """The budget of a pretrained model of a build. Raises NoTokens for any other: its tokens are not known."""
    path = Path(folder).resolve()
    recipe = path.parent.parent / "recipe.json"
    if not (path / "summary.json").is_file() or not files.exists(str(recipe)):
        sizes = parameters_of(folder)
        raise NoTokens(
            f"{folder}: a model of {sizes.total:,} parameters ({sizes.non_embedding:,} without embeddings), but not of"
            f" a build, so its tokens are not known; ask for a corpus: mill budget CORPUS --parameters {sizes.total}"
        )
    summary = files.read_json(str(path / "summary.json"))
    if summary["kind"] != "pretrain":
        raise NoTokens(f"{folder}: fine-tuned, not pretrained; ask for its base, {summary.get('base')!r}")
    loaded = stored(recipe.parent)
    wanted = _target(loaded.budget, parameters, tokens_per_parameter)
    build = Build(str(path.parent.parent), loaded.model_copy(update={"budget": wanted}))
    entry = budget.of_summary(build, summary)
    if entry is None:
        raise NoTokens(f"{build.root}: no funnel.json; run `mill curate` on its recipe")
    return [{**entry, "estimated": False}]


def parameters_of(folder: str) -> architectures.Parameters:
    """N by the three conventions of the transformers model in ``folder``, from its config alone."""
    files.check(files.join(folder, "config.json"))
    config = AutoConfig.from_pretrained(files.local(folder), trust_remote_code=False)
    kind = _OPENING.get(config.model_type, modeling_auto.AutoModelForMaskedLM)
    with torch.device("meta"):
        return architectures.count(kind.from_config(config))


class Sizes(NamedTuple):
    """N by the three conventions of ``training.models.architectures``, and the layers and width of a model."""

    total: int
    non_embedding: int
    matrices_and_head: int
    layers: int
    width: int


def count(shape: model_shapes.Shape, vocabulary: Vocabulary, length: int) -> Sizes:
    """The sizes of a model of ``shape``, without making its weights.

    As it is published: with an embedding for each entry of ``vocabulary``, and none for padding.
    """
    kind = _OPENING.get(shape["type"], modeling_auto.AutoModelForMaskedLM)
    with torch.device("meta"):
        config = architectures.configuration(shape, vocabulary, length, vocab_size=vocabulary.size)
        model: PreTrainedModel = kind.from_config(config)
    sizes = architectures.count(model)
    return Sizes(sizes.total, sizes.non_embedding, sizes.matrices_and_head, *architectures.dimensions(model.config))


def _planned(build: Build[BuildRecipe], config: PretrainConfig) -> dict[str, Any]:
    text = _text(build)
    corpus, vocabulary = text.corpus, vocabulary_of(build, config.tokenizer)
    folder = build.path("tokens", config.tokenizer, "train")
    if text.assumed is None and files.exists(files.join(folder, "manifest.json")):
        packed = PackedTokens(folder)
        corpus = Corpus(len(packed), int(packed.manifest["bytes"]), text.raw, text.curated)
        vocabulary = Vocabulary.of(packed)
    added = objectives.of(config).added_tokens(Task(config, vocabulary, 0))
    entries = vocabulary.size + len(added)
    sizes = count(config.shape, replace(vocabulary, size=entries), config.sequence_length)
    tokens = _tokens(config, corpus.unique_tokens)
    run = Run(*sizes, config.sequence_length, tokens, objective=config.objective, vocab_size=entries)
    entry = budget.entry(config.name, config.tokenizer, corpus, run, build.recipe.budget)
    return {**entry, "estimated": True, "assumed": text.assumed}


def _tokens(config: PretrainConfig, unique: int) -> int:
    if config.steps is not None:
        first = [
            (phase.steps, (phase.batch_size or config.batch_size) * (phase.sequence_length or config.sequence_length))
            for phase in config.first
        ]
        left = config.steps - sum(steps for steps, _ in first)
        return sum(steps * tokens for steps, tokens in [*first, (left, config.batch_size * config.sequence_length)])
    return config.tokens if config.tokens is not None else math.ceil((config.epochs or 1) * unique)


def vocabulary_of(build: Build[BuildRecipe], tokenizer: str) -> Vocabulary:
    """Of the size that the recipe asks for."""
    size = next(entry.vocab_size for entry in build.recipe.tokenizers if entry.name == tokenizer)
    return Vocabulary(size, bos=0, eos=1, pad=2, mask=3)


def _raw_bytes(build: Build) -> int | None:
    account = build.path("funnel.json")
    return int(files.read_json(account)["stages"][0]["bytes"]) if files.exists(account) else None
