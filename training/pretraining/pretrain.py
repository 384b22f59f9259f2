"""Pretraining: packed tokens in, a model that opens with ``AutoModel.from_pretrained`` out.

work/pretrain/<name>/   checkpoints and metrics.jsonl while it runs
models/<name>/          config.json, model.safetensors, tokenizer files, metrics.jsonl, summary.json, README.md
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline import MillError
from pipeline.build.build import Build
from pipeline.store import files
from pipeline.store.packed_tokens import PackedTokens
from training import objectives
from training.batches import random_streams
from training.batches.vocabulary import Vocabulary
from training.batches.windows import Windows, pieces
from training.budget import budget
from training.loop import checkpoint, hardware, loop, processes
from training.models import architectures, publish
from training.objectives.base import Objective, Task
from training.pretraining import conservation, initial_embeddings, lineage, model_card, phases, start, unigram_loss
from training.pretraining.evaluation import evaluate, evaluate_domains, held_out
from training.recipe import pretrain_base
from training.recipe.pretraining import PretrainConfig
from training.recipe.sections import BuildRecipe

VERSION = 1
_LOOKED_AT = 64  # windows, to see how long the pieces of documents in them are


class MissingInput(MillError):
    """What a run starts from has not been made yet; the message says by which command it is."""


class WrongBase(MillError):
    """A run cannot start from its base; the message says why, and what to do."""


class UnknownRun(MillError):
    """The recipe has no run of this name; the message says which it has."""


def pretrain(build: Build[BuildRecipe], name: str, progress: loop.Progress | None = None) -> dict[str, Any]:
    """Pretrain the run ``name`` of the recipe and return its summary; at once if its model is there and current.

    A run that was killed goes on from its last checkpoint; one whose weights are current but not what they are
    published with is published again, not trained. Raises UnknownRun for a name that the recipe has not, loop.Diverged
    when the loss is not finite, order.TooFewTokens when the corpus does not fill one sequence, MissingInput when the
    teacher or the tokenizer is not there.
    """
    config = find(build.recipe.pretrain, name)
    objective = objectives.of(config)
    train, heldout = (PackedTokens(build.path("tokens", config.tokenizer, split)) for split in ("train", "heldout"))
    seed = build.recipe.seed if config.seed is None else config.seed
    teacher = teacher_of(build, config)
    tokenizer = build.path("tokenizers", config.tokenizer)
    added = objective.added_tokens(Task(config, Vocabulary.of(train), seed, teacher))
    tokenizer_is_there(config, tokenizer, added)
    base_fits(config, tokenizer, added)
    taught_by = teacher and weights_hash(teacher)
    started_from = config.base and weights_hash(str(files.local(config.base)))
    made_of = [VERSION, objective.made_by, seed, train.fingerprint, taught_by]
    if config.base is not None:  # earlier runs keep their fingerprints
        made_of += [started_from, files.file_digest(files.join(config.base, "config.json"))]
    trained_by = files.fingerprint(*made_of, config.of_result(), heldout.fingerprint)
    made_by = publish.fingerprint(trained_by, tokenizer)
    result = build.path("models", name)
    current = current_summary(result, made_by)
    if current is not None:
        return current

    task = objective.informed(Task(config, Vocabulary.of(train), seed, teacher), train, tokenizer)
    read = phases.Phases(objective, task, train)
    order, steps = read.order, read.steps()
    module = start.module(objective, task)
    model = objective.checkpoint(module)
    own, order_seed = config.base is not None, random_streams.seed("order", seed)
    conservation.check(objective, task, train, order, module, tokenizer, order_seed, trained=own)
    if config.recompute:
        architectures.recompute(module)
    if config.initial_embeddings == "cooccurrence":
        initial_embeddings.set_in(model, train, task.seed)
    plan = _plan(build, config, steps, seed, files.fingerprint(*made_of, config.of_weights()), heldout)
    state = loop.train(module, _work(objective, task, module, read, train, heldout), plan, progress)
    several = processes.current()
    if several.count > 1:  # the module is wrapped, or holds a share of the weights
        module, model = _last_checkpoint(objective, task, plan)
    companions = objective.companions(module)
    publish.trim(model, task.vocabulary.size + len(added), companions)
    summary = {
        "name": name,
        "kind": "pretrain",
        "fingerprint": made_by,
        "trained_by": trained_by,
        **{field: getattr(config, field) for field in ("objective", "tokenizer", "sequence_length", "batch_size")},
        "config": config.model_dump(mode="json", exclude_defaults=True),
        "seed": seed,
        **({"base": config.base} if started_from else {}),
        "made_from": origin(build, train, heldout) | ({"base": started_from} if started_from else {}),
        **shape_of(model),
        "steps": steps,
        "vocab_size": task.vocabulary.size,
        "unique_tokens": len(train),
        "unique_bytes": int(train.manifest["bytes"]),
        "trained_tokens": state.tokens,
        "epochs": read.epochs(steps),
        **frequencies(objective, task, train, heldout),
        **result_of(state, hardware.device()),
        "processes": several.count,
    }
    summary["warnings"] = [note for note in [summary["unigram_loss"] and unigram_loss.warning(summary)] if note]
    if several.first:
        with files.opened(files.join(plan.folder, "metrics.jsonl")) as log:
            summary["spikes"] = lineage.Lineage(objective, task, train, tokenizer).spikes(map(bytes.decode, log))
        card = model_card.card(summary, budget.of_summary(build, summary))
        publish.publish(result, model, tokenizer, plan.folder, summary, card, companions, added)
    several.wait()
    return summary


def _work(
    objective: Objective,
    task: Task,
    module: torch.nn.Module,
    read: phases.Phases,
    train: PackedTokens,
    heldout: PackedTokens,
) -> loop.Work:
    """What each step reads, how it is judged, and what is measured on ``heldout``."""
    return loop.Work(
        batch=read.batch,
        loss=objective.loss,
        weights=objective.weights(task),
        evaluate=partial(evaluate, objective, task, *held_out(objective, task, heldout)),
        documents=lambda step: document_ids(train, read.windows(step)),
        flops_per_token=objective.flops(
            module, replace(task, pieces=pieces(read.order.read(np.arange(_LOOKED_AT)).segments))
        ),
        domains=partial(evaluate_domains, objective, task, heldout),
        part=read.part,
    )


def _plan(
    build: Build[BuildRecipe], config: PretrainConfig, steps: int, seed: int, made_of: str, heldout: PackedTokens
) -> loop.Plan:
    """How the run is carried out; ``made_of`` names what its weights come from."""
    return loop.Plan(
        folder=build.path("work", "pretrain", config.name),
        fingerprint=made_of,
        steps=steps,
        seed=seed,
        micro_batch=config.micro_batch or config.batch_size,
        optimiser=config.optimiser,
        precision=config.precision,
        compile=config.compile,
        log_every=config.log_every,
        eval_every=config.eval_every,
        checkpoint_every=config.checkpoint_every,
        keep_last=config.keep_last,
        evaluated=files.fingerprint(heldout.fingerprint, config.eval_tokens),
    )


def _last_checkpoint(objective: Objective, task: Task, plan: loop.Plan) -> tuple[torch.nn.Module, Any]:
    """The whole module as it was trained, and its model."""
    module = start.module(objective, task)
    checkpoint.restore_model(checkpoint.usable(plan.folder, plan.made_by, plan.steps)[-1], module)
    return module, objective.checkpoint(module)


def shape_of(model: Any) -> dict[str, Any]:
    """What every summary says of its model."""
    layers, width = architectures.dimensions(model.config)
    return {
        "architecture": type(model).__name__,
        "model_type": model.config.model_type,
        "parameters": architectures.count(model).asdict(),
        "layers": layers,
        "width": width,
    }


def teacher_of(build: Build[BuildRecipe], config: PretrainConfig) -> str | None:
    """The folder of the model that a distilled one learns from; raises MissingInput if it is not there."""
    if config.distillation is None:
        return None
    named = config.distillation.teacher
    mine = named in {run.name for run in build.recipe.pretrain}
    folder = files.local(build.path("models", named) if mine else named)
    if not (folder / "config.json").exists():
        remedy = "pretrain it first" if mine else "give a run of this recipe, or a folder with config.json"
        raise MissingInput(f"pretrain {config.name!r}: teacher {named!r} is not there ({folder}); {remedy}")
    return str(folder)


def tokenizer_is_there(config: PretrainConfig, tokenizer: str, added: Sequence[str]) -> None:
    """Raise MissingInput, before hours of training, where there is no tokenizer to publish, with ``added`` tokens."""
    path = files.join(tokenizer, "tokenizer.json")
    if not files.exists(path):
        more = f" with {len(added)} more tokens, such as {added[-1]}" if added else ""
        raise MissingInput(
            f"pretrain {config.name!r}: {path} is not there; the model is published with it{more}; train the tokenizer"
            f" {config.tokenizer!r} first, or copy the folder of the one that the tokens were packed with to that place"
        )


def base_fits(config: PretrainConfig, tokenizer: str, added: Sequence[str]) -> None:
    """Raise WrongBase, before any work, where the run cannot start from its base."""
    if problem := pretrain_base.problem(config, tokenizer, added):
        raise WrongBase(f"pretrain {config.name!r}: base {problem}")


def weights_hash(folder: str) -> str:
    """SHA-256 of the weights of the model in ``folder``."""
    digest = hashlib.sha256()
    files.check_folder(folder)
    for path in sorted(Path(folder).glob("*.safetensors")):
        with path.open("rb") as handle:
            digest.update(hashlib.file_digest(handle, "sha256").digest())
    return digest.hexdigest()


def frequencies(objective: Objective, task: Task, train: PackedTokens, heldout: PackedTokens) -> dict[str, Any]:
    """``unigram_loss``, to hold the ``unigram_part`` of the loss against: that of token frequencies alone, in nats.

    None where the objective predicts something else than the tokens of the text, one by one.
    """
    measure, part = objective.per_byte or ("", None)
    if measure not in ("bits_per_byte", "masked_bits_per_byte"):
        return {"unigram_loss": None, "unigram_part": None}
    _, rows = objective.order(task, heldout, random_streams.seed("held out"), False).head(task.config.eval_tokens)
    left_out = [] if part == "causal" else task.vocabulary.special
    return {"unigram_loss": unigram_loss.loss(train, heldout, rows, left_out), "unigram_part": part}


def origin(build: Build[BuildRecipe], train: PackedTokens, heldout: PackedTokens) -> dict[str, Any]:
    """What a model was made from, by fingerprint; the corpus is None where its manifest is not there."""
    manifest = build.path("corpus", "manifest.json")
    return {
        **made_from(build),
        "corpus": files.read_json(manifest)["fingerprint"] if files.exists(manifest) else None,
        "tokenizer": train.manifest["tokenizer"],
        "tokens": train.fingerprint,
        "heldout": heldout.fingerprint,
    }


def made_from(build: Build[BuildRecipe]) -> dict[str, Any]:
    """The recipe that a model was made by, and the languages that it keeps; none where it does not look."""
    return {
        "recipe": build.recipe.name,
        "recipe_fingerprint": files.fingerprint(build.recipe),
        "languages": sorted(build.recipe.language.keep) if build.recipe.language else [],
    }


def document_ids(packed: PackedTokens, windows: Windows) -> list[str]:
    """Ids of the documents in ``windows``, in order of their rows."""
    rows = np.unique(windows.documents)
    return packed.documents["id"].take(rows[rows >= 0]).to_pylist()


def find(configs: list[Any], name: str) -> Any:
    """The config called ``name``; raises UnknownRun naming those that there are."""
    known = {config.name: config for config in configs}
    if name not in known:
        raise UnknownRun(f"the recipe has no run {name!r}; it has {', '.join(known) or 'none'}")
    return known[name]


def current_summary(result: str, made_by: str) -> dict[str, Any] | None:
    """The summary in ``result`` if exactly ``made_by`` made it and the files that it names are there."""
    path = files.join(result, "summary.json")
    summary = files.read_json(path) if files.exists(path) else {}
    if summary.get("fingerprint") != made_by or not files.are_there(result, summary.get("files", {})):
        return None
    return summary


def result_of(state: loop.State, device: torch.device) -> dict[str, Any]:
    """What every summary says about how a run went."""
    return {
        "evaluation": state.evaluation,
        "best_step": state.best_step,
        "best_loss": state.best_loss,
        "seconds": state.seconds,
        "tokens_per_second": state.tokens / state.seconds if state.seconds else None,
        "device": hardware.device_name(device),
    }
