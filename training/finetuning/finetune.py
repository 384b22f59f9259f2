"""Fine-tuning: a pretrained model and labelled rows in, a model beside its baselines out.

    work/finetune/<name>/   checkpoints and metrics.jsonl while it runs
    models/<name>/          config.json, model.safetensors, tokenizer files, corpusmill.json, metrics.jsonl,
                            summary.json, README.md

The weights that are published are those that do best on the development rows; the test rows are read once, at the end.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from transformers import PreTrainedModel

from pipeline.build.build import Build
from pipeline.store import files
from training.batches import random_streams
from training.batches.batch import Batch
from training.finetuning import (
    adaptation,
    bases,
    classified,
    conservation,
    deadline,
    forgetting,
    near_copies,
    several,
    strategies,
    usage,
)
from training.finetuning.confidence import costs
from training.finetuning.encoded import Encoded, Order, Reader
from training.finetuning.job import VERSION, Job
from training.finetuning.long_text import pooling, side_files
from training.finetuning.rungs.base import Examples
from training.finetuning.scores import Measure
from training.finetuning.strategies import adapter_file
from training.finetuning.strategies.base import trained_tensors
from training.finetuning.tasks import task_of
from training.finetuning.tasks.base import Task
from training.finetuning.tasks.classify import Classify
from training.finetuning.understanding import pages
from training.labelled import audit, corpus
from training.labelled import files as labelled_files
from training.labelled import rows as labelled_rows
from training.labelled.few import few
from training.loop import checkpoint, hardware, loop, memory
from training.models import publish
from training.models.published_tokenizer import Known
from training.pretraining import model_card, pretrain
from training.recipe.finetuning import FinetuneConfig
from training.recipe.sections import BuildRecipe

_KNOWN = 16  # rows that the published tokenizer must read as the model did


def finetune(build: Build[BuildRecipe], name: str, progress: loop.Progress | None = None) -> dict[str, Any]:
    """Fine-tune the run ``name`` of the recipe and return its summary; at once if its model is there and current.

    A run that was killed goes on from its last checkpoint. Raises pretrain.MissingInput when the base model is not
    there, and rows.WrongRows when there are too few labels or a field that rows lack.
    """
    config: FinetuneConfig = pretrain.find(build.recipe.finetune, name)
    wanted = asked(build, config)
    note = build.path("work", "finetune", name, "asked.json")
    before = files.read_json(note) if files.exists(note) else {}
    if wanted is not None and before.get("asked") == wanted:
        current = pretrain.current_summary(build.path("models", name), before["fingerprint"])
        if current is not None and not pages.lacking(config, current):
            return current
    summary = run(job_of(build, name), progress)
    files.write_json(note, {"asked": wanted, "fingerprint": summary["fingerprint"]})
    return summary


def asked(build: Build[BuildRecipe], config: FinetuneConfig) -> str | None:
    """Names all that a run on documents of the corpus comes of, without reading them; None for other files."""
    if config.data is not None or (config.adapt is not None and config.adapt.corpus is not None):
        return None
    base, started_from, named = _base(build, config)
    compared = [files.read_json(build.path("models", n, "summary.json"))["fingerprint"] for n in config.baselines]
    seed = build.recipe.seed if config.seed is None else config.seed
    made_of = (VERSION, seed, started_from, named, _corpus(build), config.of_result(), compared)
    return publish.fingerprint(files.fingerprint(*made_of), base)


def _base(build: Build[BuildRecipe], config: FinetuneConfig) -> tuple[str, str, str]:
    """The folder of the base, what names its weights, and what names all of it."""
    if config.base not in {entry.name for entry in build.recipe.pretrain}:
        folder = str(files.local(config.base))
        weights = pretrain.weights_hash(folder)
        return folder, weights, weights
    folder = build.path("models", config.base)
    if not files.exists(files.join(folder, "summary.json")):
        raise pretrain.MissingInput(f"{folder}: not there; run `mill pretrain` first")
    summary = files.read_json(files.join(folder, "summary.json"))
    return folder, summary.get("trained_by", summary["fingerprint"]), summary["fingerprint"]


def _corpus(build: Build[BuildRecipe]) -> str:
    return files.read_json(build.path("corpus", "manifest.json"))["fingerprint"]


def job_of(build: Build[BuildRecipe], name: str) -> Job:
    """The run ``name`` of the recipe; its base is a run of the recipe, or a folder."""
    config: FinetuneConfig = pretrain.find(build.recipe.finetune, name)
    seed = build.recipe.seed if config.seed is None else config.seed
    base, started_from, named = _base(build, config)
    made_from = {**pretrain.made_from(build), "base": named}
    if config.data is not None:
        rows = labelled_files.load(config, seed)
        made_from |= {"data": config.data.train, "rows": rows.fingerprint}
    else:
        rows = corpus.load(build, config, seed)
        made_from["corpus"] = _corpus(build)
    if config.per_class is not None:
        rows = few(rows, name, config.per_class, config.dev_share, seed)
    return Job(
        config=config,
        rows=rows,
        base=base,
        seed=seed,
        result=build.path("models", name),
        work=build.path("work", "finetune", name),
        started_from=started_from,
        made_from=made_from,
        embeddings={entry: build.path("models", entry) for entry in config.baselines},
        held_out=config.held_out or _held_out(build, config),
        corpus=config.adapt and (config.adapt.corpus or build.path("corpus")),
    )


def _held_out(build: Build[BuildRecipe], config: FinetuneConfig) -> str | None:
    """The held-out tokens of the base, where it is a run of the recipe and they are there."""
    tokenizer = next((run.tokenizer for run in build.recipe.pretrain if run.name == config.base), None)
    folder = None if tokenizer is None else build.path("tokens", tokenizer, "heldout")
    return folder if folder and files.exists(files.join(folder, "manifest.json")) else None


def run(job: Job, progress: loop.Progress | None = None) -> dict[str, Any]:
    """Do ``job`` and return its summary; at once if its model is there and current. Raises bases.WrongBase.

    The pages of ``understand`` are made of the published model, and do not change it.
    """
    summary = _trained(job, progress)
    return pages.add(adaptation.published(job, summary), summary) if pages.lacking(job.config, summary) else summary


def _trained(job: Job, progress: loop.Progress | None) -> dict[str, Any]:
    config, rows = job.config, job.rows
    bases.check(job.base)
    forgetting.check(job.held_out)
    tokenizer = bases.tokenizer_folder(job.base, job.work)
    trained_by = job.trained_by
    made_by = publish.fingerprint(trained_by, tokenizer)
    current = pretrain.current_summary(job.result, made_by)
    if current is not None:
        return current
    if config.adapt is not None:
        return adaptation.run(job, made_by, lambda part: _trained(part, progress), progress)
    if config.compare or config.grid is not None or config.seeds > 1:
        _check_strategies(job)
        return several.run(job, made_by, lambda part: _trained(part, progress))
    files.check_folder(job.base)
    if config.costs:
        costs.matrix(config.costs, rows.labels)  # a label that is not there is said before training
    task = task_of(config, rows)
    reader = bases.reader(job.base, tokenizer, config.sequence_length)
    train, dev, test = (task.encode(reader, table) for table in (rows.train, rows.dev, rows.test))
    seed = random_streams.seed("classifier", job.seed)
    model = bases.load(task.auto, job.base, task.fields(), config.dropout, seed)
    task.prepare(model)
    pooling.attach(model, config.long_text, config.dropout, seed)
    audited = audit.extended(config, rows, reader.tokenizer)
    sets = {"train": (rows.train, train), "dev": (rows.dev, dev), "test": (rows.test, test)}
    conservation.check(task, reader, sets, model, audited.get("truncated", {}))
    ready = strategies.prepare(
        config.strategy,
        model,
        seed,
        config.sequence_length,
        -(-len(train) // config.batch_size),
        files.join(job.features or job.work, "features"),
        job.started_from,
    )
    seen, unseen = ready.examples(train, "train"), ready.examples(dev, "dev")
    order = Order(seen.lengths, config.batch_size, job.seed)
    conservation.check_epoch(config.name, rows.train, seen, order)
    plan = _plan(job, order)
    count = ready.trained_in(model, plan.steps)
    memory.forget_peak()
    state = loop.train(model, _work(task, seen, unseen, order, model, ready.rates), plan, progress)
    peak = memory.peak()
    best = next(c for c in checkpoint.usable(plan.folder, plan.made_by, plan.steps) if c.step == state.best_step)
    checkpoint.restore_model(best, model)
    chosen = task.finish(model, unseen)
    ready.simplify()
    tensors = trained_tensors(model) if ready.adapter else {}
    ready.finish()
    summary = {
        "fingerprint": made_by,
        "trained_by": trained_by,
        **_described(job),
        **pretrain.shape_of(model),
        "audit": audited,
        "steps": plan.steps,
        "main": task.main,
        "chosen": chosen,
        "unread": {side: part.unread for side, part in (("train", train), ("dev", dev), ("test", test))},
        **_scores(task, model, dev, test, reader, job),
        **pretrain.result_of(state, hardware.device()),
    }
    cost = {
        "strategy": config.strategy.kind,
        "trained": count,
        "share": count / sum(parameter.numel() for parameter in model.parameters()),
        "peak_bytes": peak,
        "seconds": state.seconds,
        "score": summary["scores"]["model"][task.main],
        "forgetting": forgetting.measured(model, job.base, tokenizer, job.held_out, config.sequence_length),
    }
    summary |= {"strategies": [cost], "adapter_only": not ready.plain}

    def write(folder: Path) -> None:
        how = side_files.How(long_text=config.long_text, sequence_length=config.sequence_length)
        side_files.write(folder, model, how)
        if ready.plain:
            model.save_pretrained(folder)
        if ready.adapter:
            adapter_file.write(folder, model, tensors, config.strategy, job.base, config.sequence_length)
        usage.write(folder, usage.of_summary(summary))

    labelled = model_card.finetuned(summary)
    known = _known(rows.train, reader)
    publish.publish(job.result, model, tokenizer, plan.folder, summary, labelled, write=write, known=known)
    return summary


def _check_strategies(job: Job) -> None:
    """Raise WrongStrategy where one to be compared does not go with the base: before another has been trained."""
    for strategy in job.config.compare:
        task = task_of(job.config, job.rows)
        model = bases.load(task.auto, job.base, task.fields(), 0.0, 0)
        task.prepare(model)
        strategies.prepare(strategy, model, 0, job.config.sequence_length)


def _known(rows: pa.Table, reader: Reader) -> list[Known]:
    """The first texts of ``rows`` as the model read them."""
    texts = labelled_rows.texts(rows.slice(0, _KNOWN))[0]
    read = enumerate(zip(texts, reader.read(texts), strict=True))
    return [Known(f"row {at}", text, made.ids, reader.length) for at, (text, made) in read]


def _described(job: Job) -> dict[str, Any]:
    """What the summary says of what was asked for, and of its rows."""
    config, rows = job.config, job.rows
    sides = {"train": rows.train, "dev": rows.dev, "test": rows.test}
    return {
        "name": config.name,
        "kind": "finetune",
        "task": config.task,
        "like": config.like,
        "config": config.model_dump(mode="json", exclude_defaults=True),
        "seed": job.seed,
        "made_from": job.made_from,
        "base": config.base,
        "label": config.label,
        "labels": rows.labels,
        "documents": {side: len(table) for side, table in sides.items()},
        "groups": {side: len(set(table["group"].to_pylist())) for side, table in sides.items()},
        "hidden_words": rows.hidden_words,
        "sequence_length": config.sequence_length,
        "epochs": config.epochs,
    }


def _work(
    task: Task, train: Encoded, dev: Encoded, order: Order, model: PreTrainedModel, rates: loop.Rates
) -> loop.Work:
    ids = task.rows.train["id"].to_pylist()
    in_time = deadline.checker()

    def batch(step: int) -> Batch:
        in_time()
        return task.batch(train, order.rows(step))

    return loop.Work(
        batch=batch,
        loss=task.loss,
        weights=task.weights,
        evaluate=lambda measure: {**evaluate(measure, task, dev), **task.judge(model, dev)},
        documents=lambda step: [ids[row] for row in np.unique(train.row[order.rows(step)])],
        flops_per_token=task.flops_per_token(model, train),
        error=task.error,
        rates=rates,
    )


def _plan(job: Job, order: Order) -> loop.Plan:
    config = job.config
    return loop.Plan(
        folder=job.work,
        fingerprint=files.fingerprint(*job.made_of, config.of_weights()),
        steps=order.steps_per_epoch * config.epochs,
        seed=job.seed,
        micro_batch=config.micro_batch or config.batch_size,
        optimiser=config.optimiser,
        precision=config.precision,
        compile=config.compile,
        eval_every=order.steps_per_epoch,
    )


def evaluate(measure: loop.Measure, task: Task, data: Encoded) -> loop.Metrics:
    """The mean of each part of the task's loss on ``data``."""
    sums, counts = dict.fromkeys(task.weights, 0.0), dict.fromkeys(task.weights, 0)
    by_length = np.argsort(data.lengths, kind="stable")
    for start in range(0, len(data), task.config.batch_size):
        deadline.check()
        batch = task.batch(data, by_length[start : start + task.config.batch_size])
        for name, value in measure(batch.arrays).items():
            sums[name] += float(value)
            counts[name] += batch.counts[name]
    means = {name: sums[name] / max(1, counts[name]) for name in sums}
    return {**means, "loss": sum(weight * means[name] for name, weight in task.weights.items())}


def _scores(
    task: Task, model: PreTrainedModel, dev: Encoded, test: Encoded, reader: Reader, job: Job
) -> dict[str, Any]:
    """The measures of the model on the test rows with their intervals, and those of its baselines where it has some."""
    rows, size = job.rows, job.config.batch_size
    if isinstance(task, Classify) and job.compared:
        train_read, dev_read, test_read = (
            Examples(task.texts_read(reader, table), task.indices(table), table["group"].to_pylist())
            for table in (rows.train, rows.dev, rows.test)
        )
        dev_logits, logits = (np.stack(task.all_outputs(model, side, size)) for side in (dev, test))
        described = classified.describe(
            train_read, dev_read, test_read, rows, dev_logits, logits, job.embeddings, job.config.costs
        )
        return {**described, **near_copies.without(task, logits.argmax(1), rows)}
    predicted = task.predict(model, test, rows.test, size)
    predictors = {"model": predicted, **task.baselines()}
    measures = {name: task.measures(predictions, rows.test) for name, predictions in predictors.items()}
    parts = task.parts(predicted, rows.test)
    return {
        "scores": {n: _intervals(of) for n, of in measures.items()},
        "parts": {n: _intervals(of) for n, of in parts.items()},
        **near_copies.without(task, predicted, rows),
    }


def _intervals(measures: list[Measure]) -> dict[str, Any]:
    return {measure.name: asdict(measure.interval()) for measure in measures}
