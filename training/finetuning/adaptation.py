"""Domain adaptation: a base reads text of the domain in an extended vocabulary, and is fine-tuned with and without.

    work/finetune/<name>/adapted/extended/  the base with new tokens (extension.json names them)
    work/finetune/<name>/adapted/model/     the same after masked language modelling on the domain's text
    work/finetune/<name>/runs/              the two fine-tunings; the better one on the development rows is published

Gururangan et al. 2020, "Don't Stop Pretraining: Adapt Language Models to Domains and Tasks"; new tokens start as the
mean of their pieces (training/models/new_tokens.py). Documents that are development or test rows are not read.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForMaskedLM, AutoTokenizer, PreTrainedModel

from pipeline import MillError
from pipeline.store import files, packed_tokens, shards
from pipeline.store.packed_tokens import PackedTokens
from pipeline.text.hashing import document_hash
from pipeline.tokenization import pack
from pipeline.tokenization.encoding.encode import Encoder
from training import objectives
from training.batches import random_streams
from training.batches.vocabulary import Vocabulary
from training.finetuning import bases, several
from training.finetuning.job import Job, corpus_fingerprint
from training.labelled import rows as labelled
from training.loop import loop
from training.models import attention, extend_tokenizer, publish
from training.objectives.base import Objective, Task
from training.pretraining import conservation, phases, pretrain
from training.recipe import objectives as recipe_objectives
from training.recipe.finetuning import AdaptConfig
from training.recipe.pretraining import PretrainConfig

#: Raised when the same base and documents would give another model.
VERSION = 1
_HELD_OUT = 0.05
_ROLES = ("bos", "eos", "cls", "sep", "pad", "mask", "unk")


def run(job: Job, made_by: str, one: several.One, progress: loop.Progress | None = None) -> dict[str, Any]:
    """Carry out ``job`` by ``one`` from its base and from the adapted one; publish the better; return its summary."""
    adapted, facts = adapt(job, progress)
    plain = replace(job, config=job.config.model_copy(update={"adapt": None, "understand": []}), features=None)
    starts = {"base": plain, "adapted": started(plain, adapted)}
    jobs = {}
    for name, part in starts.items():
        work = files.join(job.work, "runs", name)
        jobs[name] = replace(part, work=work, result=files.join(work, "model"))
    summaries = {name: one(part) for name, part in jobs.items()}
    better = min(summaries, key=lambda name: summaries[name]["best_loss"])
    summary = {
        **summaries[better],
        "fingerprint": made_by,
        "trained_by": job.trained_by,
        "config": job.config.model_dump(mode="json", exclude_defaults=True),
        "adaptation": {
            **facts,
            "published": better,
            "rows": [_row(name, summaries[name], job, jobs[name]) for name in summaries],
        },
    }
    several.keep(job, jobs[better], summary)
    return summary


def started(job: Job, folder: str) -> Job:
    """``job`` with the model in ``folder`` as its base."""
    weights = pretrain.weights_hash(folder)
    return replace(job, base=folder, started_from=weights, made_from={**job.made_from, "adapted": weights})


def published(job: Job, summary: Mapping[str, Any]) -> Job:
    """``job`` with the base that its published model started from, as its ``summary`` says."""
    adapted = summary.get("adaptation", {}).get("published") == "adapted"
    return started(job, _folder(job, "model")) if adapted else job


def adapt(job: Job, progress: loop.Progress | None = None) -> tuple[str, dict[str, Any]]:
    """The folder of the adapted base of ``job``, made where it is not current, and what came of it."""
    config = job.config.adapt
    assert config is not None
    made_of = VERSION, job.seed, job.started_from, corpus_fingerprint(job), job.rows.fingerprint
    made_by = files.fingerprint(*made_of, config, job.config.sequence_length, job.config.dropout)
    folder = _folder(job, "model")
    current = pretrain.current_summary(folder, made_by)
    if current is not None:
        return folder, current["facts"]
    kind = AutoConfig.from_pretrained(files.local(job.base), trust_remote_code=False).model_type
    if kind not in recipe_objectives.OBJECTIVES["mlm"]:
        raise MillError(
            f"finetune {job.config.name!r}: `adapt` pretrains by masked language modelling, of"
            f" {', '.join(recipe_objectives.OBJECTIVES['mlm'])} models, and {job.base} is {kind}; leave it out"
        )
    table, left_out = documents(job, config)
    tokenizer = bases.tokenizer_folder(job.base, job.work)
    extended = files.local(_folder(job, "extended"))
    texts = table["text"].cast(pa.large_string()).combine_chunks()
    extend_tokenizer.extend_by(texts, tokenizer, extended, config.tokens, _with_head(job))
    new = files.read_json(str(extended / "extension.json"))
    packed = {split: _packed(job, table, split, str(extended), made_by) for split in ("train", "heldout")}
    model, facts = _trained(job, config, packed, str(extended), made_by, progress)
    facts = {
        "documents": len(table),
        "left_out": left_out,
        "bytes": int(pc.sum(pc.binary_length(texts)).as_py()),
        "new_tokens": len(new),
        "words": [entry["token"] for entry in new[:8]],
        **facts,
    }
    summary = {"kind": "adapted", "fingerprint": made_by, "trained_by": made_by, "facts": facts}
    opening = f"The base of {job.config.name}, pretrained further on text of the domain.\n"
    publish.publish(folder, model, str(extended), _folder(job, "train"), summary, opening)
    return folder, facts


def documents(job: Job, config: AdaptConfig) -> tuple[pa.Table, int]:
    """The documents to read (id, text, domain, repeats), and how many were left out as development or test rows.

    Those are known by id or by text. Of the others the ``config.documents`` whose ids have the least hashes are taken.
    Raises MillError where fewer than 20 are left.
    """
    unseen = [job.rows.dev, job.rows.test]
    ids = pa.array([id for table in unseen for id in table["id"].to_pylist()], pa.string())
    read = [part for table in unseen for part in labelled.texts(table) if part]
    texts = pa.array([text for part in read for text in part], pa.large_string())
    sample, left_out = [], 0
    folder = str(job.corpus)
    for name in files.read_json(files.join(folder, "manifest.json"))["shards"]:
        table = shards.read_table(files.join(folder, name), ["id", "text", "domain"])
        if config.domain is not None:
            table = table.filter(pc.equal(table["domain"], config.domain))
        known = pc.or_(pc.is_in(table["id"], ids), pc.is_in(table["text"].cast(pa.large_string()), texts))
        left_out += pc.sum(known).as_py() or 0
        sample = [_least(pa.concat_tables([*sample, table.filter(pc.invert(known))]), config.documents)]
    whole = sample[0] if sample else None
    if whole is None or len(whole) < 20:
        of = f" of domain {config.domain!r}" if config.domain is not None else ""
        raise MillError(
            f"{folder}: it has fewer than 20 documents{of} beside the development and test rows; give a corpus with"
            " more text of the domain"
        )
    return whole.append_column("repeats", pa.array(np.ones(len(whole), np.int32))), left_out


def _least(table: pa.Table, most: int) -> pa.Table:
    """The ``most`` documents of ``table`` whose ids have the least hashes, in that order."""
    hashes = document_hash(table["id"].cast(pa.string()).combine_chunks(), 0)
    return table.take(np.argsort(hashes, kind="stable")[:most])


def _folder(job: Job, part: str) -> str:
    return files.join(job.work, "adapted", part)


def _with_head(job: Job) -> Path:
    """A folder with the base as a masked language model, which it may not be: a head that it lacks is drawn."""
    into = files.local(_folder(job, "masked"))
    seed = random_streams.seed("adapt", job.seed)
    model = bases.load(AutoModelForMaskedLM, job.base, {}, job.config.dropout, seed)
    with files.replacing_folder(str(into)) as aside:
        model.save_pretrained(aside)
        for path in Path(bases.tokenizer_folder(job.base, job.work)).glob("*token*.json"):
            shutil.copy(path, aside)
    return into


def _packed(job: Job, table: pa.Table, split: str, tokenizer: str, made_by: str) -> PackedTokens:
    """The tokens of a part of ``table``, whose order is by hash."""
    held_out = max(1, round(_HELD_OUT * len(table)))
    part = table[:held_out] if split == "heldout" else table[held_out:]
    folder = _folder(job, f"tokens-{split}")
    path = files.join(tokenizer, "tokenizer.json")
    encoder = Encoder(pack.load(path))
    roles = _special(tokenizer)
    pack.pack_shard(folder, 0, part.combine_chunks(), encoder, roles.get("eos"), made_by)
    packed_tokens.write_manifest(folder, [0], encoder.vocab_size, roles, files.file_digest(path))
    return PackedTokens(folder)


def _special(tokenizer: str) -> dict[str, int]:
    """The ids of the special tokens of the tokenizer in a folder, by role; eos only where it closes no sentence."""
    reader: Any = AutoTokenizer.from_pretrained(tokenizer, trust_remote_code=False)
    ids = {role: getattr(reader, f"{role}_token_id", None) for role in _ROLES}
    if ids["sep"] is not None:
        ids["eos"] = None  # an encoder's documents are closed by the separator
    return {role: at for role, at in ids.items() if at is not None}


def _trained(
    job: Job, config: AdaptConfig, packed: Mapping[str, PackedTokens], extended: str, made_by: str,
    progress: loop.Progress | None,
) -> tuple[PreTrainedModel, dict[str, Any]]:  # fmt: skip
    """The model in ``extended`` after masked language modelling, and what held-out text cost before and after."""
    seed = random_streams.seed("adapt", job.seed)
    model = bases.load(AutoModelForMaskedLM, extended, {}, job.config.dropout, seed)
    model.set_attn_implementation(attention.NAME)
    settings = PretrainConfig(
        name=job.config.name,
        objective="mlm",
        tokenizer="extended",
        model=f"{model.config.model_type}-demo",  # says of what kind it is; no weights are drawn
        sequence_length=job.config.sequence_length,
        packing="best_fit",
        epochs=config.epochs,
        batch_size=config.batch_size,
        optimiser=config.optimiser,
        precision=job.config.precision,
    )
    objective = objectives.of(settings)
    task = Task(settings, Vocabulary.of(packed["train"]), job.seed)
    read = phases.Phases(objective, task, packed["train"])
    order_seed = random_streams.seed("order", task.seed)
    conservation.check(objective, task, packed["train"], read.order, model, extended, order_seed, trained=True)
    held_out = pretrain.held_out(objective, task, packed["heldout"])
    work = loop.Work(
        batch=read.batch,
        loss=objective.loss,
        weights=objective.weights(task),
        evaluate=lambda measure: pretrain.evaluate(objective, task, *held_out, measure),
        documents=lambda step: pretrain.document_ids(packed["train"], read.windows(step)),
        flops_per_token=objective.flops(model, task),
    )
    plan = loop.Plan(
        folder=_folder(job, "train"),
        fingerprint=made_by,
        steps=read.steps(),
        seed=job.seed,
        micro_batch=config.batch_size,
        optimiser=config.optimiser,
        precision=job.config.precision,
    )
    before = pretrain.evaluate(objective, task, *held_out, _measure(objective, model))
    state = loop.train(model, work, plan, progress)
    after = pretrain.evaluate(objective, task, *held_out, _measure(objective, model))
    name = objective.per_byte[0] if objective.per_byte else "loss"
    return model, {"steps": plan.steps, "seconds": state.seconds, "before": before[name], "after": after[name]}


def _measure(objective: Objective, model: PreTrainedModel) -> Callable[[Mapping[str, np.ndarray]], dict[str, Tensor]]:
    def measure(arrays: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
        model.eval()
        with torch.no_grad():
            return objective.loss(
                model, {name: torch.from_numpy(part).to(model.device) for name, part in arrays.items()}
            )

    return measure


def _row(name: str, summary: Mapping[str, Any], job: Job, part: Job) -> dict[str, Any]:
    """What came of the fine-tuning that started ``name``; ``tokens`` are those of a test row, on average."""
    reader = bases.reader(part.base, bases.tokenizer_folder(part.base, job.work), job.config.sequence_length)
    reader.tokenizer.no_truncation()
    texts, seconds = labelled.texts(job.rows.test)
    read = reader.tokenizer.encode_batch(texts if seconds is None else list(zip(texts, seconds, strict=True)))
    return {
        "start": name,
        "score": summary["scores"]["model"][summary["main"]],
        "error": summary["best_loss"],
        "seconds": summary["seconds"],
        "tokens": float(np.mean([len(encoding.ids) for encoding in read])),
    }
