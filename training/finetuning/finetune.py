"""Fine-tuning: a pretrained encoder and the corpus' own labels in, a classifier beside its baselines out.

    work/finetune/<name>/   checkpoints and metrics.jsonl while it runs
    models/<name>/          config.json, model.safetensors, tokenizer files, metrics.jsonl, summary.json, README.md

Devlin et al. 2019, "BERT", section 4: a linear layer on the first token's pooled state, all weights trained. Texts
are cut to the model's length, a batch is padded to its longest. The baselines read exactly the text that is left.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedModel
from transformers.utils import logging as transformers_logging

from pipeline.build.build import Build
from pipeline.store import files
from training.batches import random_streams
from training.batches.batch import Batch
from training.finetuning import baselines, scores, tasks, word_vector_baseline
from training.finetuning.tasks import LabelledTask
from training.loop import hardware, loop
from training.models import architectures, publish
from training.pretraining import model_card, pretrain
from training.recipe.model_shapes import dropout_fields
from training.recipe.sections import BuildRecipe, FinetuneConfig

VERSION = 2


def finetune(build: Build[BuildRecipe], name: str, progress: loop.Progress | None = None) -> dict[str, Any]:
    """Fine-tune the run ``name`` of the recipe and return its summary; at once if its model is there and current.

    A run that was killed goes on from its last checkpoint. Raises pretrain.MissingInput when the base model is not
    there, tasks.WrongField for a field that documents lack, tasks.TooFewDocuments when the corpus has too few labels.
    """
    config: FinetuneConfig = pretrain.find(build.recipe.finetune, name)
    base = build.path("models", config.base)
    if not files.exists(files.join(base, "summary.json")):
        raise pretrain.MissingInput(f"{base}: not there; run `mill pretrain` first")
    base_summary = files.read_json(files.join(base, "summary.json"))
    corpus = files.read_json(build.path("corpus", "manifest.json"))["fingerprint"]
    seed = build.recipe.seed if config.seed is None else config.seed
    compared = [files.read_json(build.path("models", n, "summary.json"))["fingerprint"] for n in config.baselines]
    started_from = base_summary.get("trained_by", base_summary["fingerprint"])
    made_of = (VERSION, seed, started_from, corpus)
    trained_by = files.fingerprint(*made_of, config.of_result(), compared)
    made_by = publish.fingerprint(trained_by, base)
    result = build.path("models", name)
    current = pretrain.current_summary(result, made_by)
    if current is not None:
        return current

    task = tasks.load(build, config, seed)
    files.check_folder(base)
    tokenizer = Tokenizer.from_file(str(files.local(files.join(base, "tokenizer.json"))))
    tokenizer.enable_truncation(config.sequence_length)
    model = classifier(base, task.labels, config.dropout, random_streams.seed("classifier", seed))
    train, test = (encode(tokenizer, side.texts, model.config.pad_token_id or 0) for side in (task.train, task.test))
    steps = math.ceil(len(train.tokens) * config.epochs / config.batch_size)
    order = Shuffled(len(train.tokens), config.batch_size, seed)
    plan = _plan(build, config, steps, seed, files.fingerprint(*made_of, config.of_weights()))
    state = loop.train(model, _work(config, task, train, test, order, model), plan, progress)
    predicted = predict(model, test, config.batch_size)
    summary = {
        "name": name,
        "kind": "finetune",
        "fingerprint": made_by,
        "trained_by": trained_by,
        "config": config.model_dump(mode="json", exclude_defaults=True),
        "seed": seed,
        "made_from": {**pretrain.made_from(build), "corpus": corpus, "base": base_summary["fingerprint"]},
        **pretrain.shape_of(model),
        "base": config.base,
        "label": config.label,
        "labels": task.labels,
        "documents": {"train": len(task.train), "test": len(task.test)},
        "groups": {"train": len(set(task.train.groups)), "test": len(set(task.test.groups))},
        "hidden_words": task.hidden_words,
        "sequence_length": config.sequence_length,
        "steps": steps,
        "epochs": config.epochs,
        **compare(task, predicted, train.texts, test.texts, {n: build.path("models", n) for n in config.baselines}),
        **pretrain.result_of(state, hardware.device()),
    }
    publish.publish(result, model, base, plan.folder, summary, model_card.classifier(summary))
    return summary


def _work(
    config: FinetuneConfig, task: LabelledTask, train: Encoded, test: Encoded, order: Shuffled, model: PreTrainedModel
) -> loop.Work:
    return loop.Work(
        batch=lambda step: batch(train, task.train.labels, order.rows(step)),
        loss=loss,
        weights={"loss": 1.0, "accuracy": 0.0},
        evaluate=lambda measure: evaluate(measure, test, task.test.labels, config.batch_size),
        documents=lambda step: [task.train.ids[row] for row in order.rows(step)],
        flops_per_token=architectures.flops_per_token(model, config.sequence_length),
    )


def _plan(build: Build[BuildRecipe], config: FinetuneConfig, steps: int, seed: int, made_of: str) -> loop.Plan:
    return loop.Plan(
        folder=build.path("work", "finetune", config.name),
        fingerprint=made_of,
        steps=steps,
        seed=seed,
        micro_batch=config.micro_batch or config.batch_size,
        optimiser=config.optimiser,
        precision=config.precision,
        compile=config.compile,
    )


class Encoded:
    """Texts as token ids, the part of each text that those tokens cover, and the id that fills a batch up."""

    def __init__(self, tokens: list[np.ndarray], texts: list[str], pad: int) -> None:
        self.tokens, self.texts, self.pad = tokens, texts, pad


def encode(tokenizer: Tokenizer, texts: list[str], pad: int) -> Encoded:
    found = tokenizer.encode_batch(texts)
    ends = [max((end for _, end in encoding.offsets), default=0) for encoding in found]
    tokens = [np.array(encoding.ids, np.int64) for encoding in found]
    return Encoded(tokens, [text[:end] for text, end in zip(texts, ends, strict=True)], pad)


class Shuffled:
    """Rows of ``count`` examples in an order drawn again in each epoch, as a pure function of (seed, step)."""

    def __init__(self, count: int, batch_size: int, seed: int) -> None:
        self.count, self.batch_size, self.seed = count, batch_size, seed

    def rows(self, step: int) -> np.ndarray:
        """The rows that ``step`` reads, int64 [batch_size]."""
        epochs, places = np.divmod(pretrain.positions(self.batch_size, step), self.count)
        orders = {epoch: self._order(int(epoch)) for epoch in np.unique(epochs)}
        return np.array([orders[epoch][place] for epoch, place in zip(epochs, places, strict=True)])

    def _order(self, epoch: int) -> np.ndarray:
        return np.argsort(
            random_streams.generator("examples", self.seed, epoch=epoch).random(self.count), kind="stable"
        )


def batch(data: Encoded, labels: np.ndarray, rows: np.ndarray) -> Batch:
    """``tokens`` and ``mask`` int64 [rows, longest], ``labels`` int64 [rows]."""
    longest = max(len(data.tokens[row]) for row in rows)
    tokens = np.full((len(rows), longest), data.pad, np.int64)
    mask = np.zeros(tokens.shape, np.int64)
    for at, row in enumerate(rows):
        size = len(data.tokens[row])
        tokens[at, :size], mask[at, :size] = data.tokens[row], 1
    arrays = {"tokens": tokens, "mask": mask, "labels": labels[rows]}
    return Batch(arrays, {"loss": len(rows), "accuracy": len(rows)}, int(mask.sum()))


def logits(model: nn.Module, arrays: Mapping[str, Tensor]) -> Tensor:
    return cast(PreTrainedModel, model)(arrays["tokens"], attention_mask=arrays["mask"]).logits.float()


def loss(model: nn.Module, arrays: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Sums over the batch: cross-entropy in nats, and how many are right (which is watched, not trained)."""
    found = logits(model, arrays)
    right = (found.detach().argmax(1) == arrays["labels"]).float().sum()
    return {"loss": F.cross_entropy(found, arrays["labels"], reduction="sum"), "accuracy": right}


def evaluate(measure: loop.Measure, data: Encoded, labels: np.ndarray, batch_size: int) -> loop.Metrics:
    """Mean loss and accuracy on ``data``."""
    sums = {"loss": 0.0, "accuracy": 0.0}
    for start in range(0, len(labels), batch_size):
        rows = np.arange(start, min(start + batch_size, len(labels)))
        for name, value in measure(batch(data, labels, rows).arrays).items():
            sums[name] += float(value)
    return {name: value / len(labels) for name, value in sums.items()}


@torch.no_grad()
def predict(model: PreTrainedModel, data: Encoded, batch_size: int) -> np.ndarray:
    """The most likely label of each text, int64 [n]."""
    model.eval()
    found = []
    for start in range(0, len(data.tokens), batch_size):
        rows = np.arange(start, min(start + batch_size, len(data.tokens)))
        arrays = batch(data, np.zeros(len(data.tokens), np.int64), rows).arrays
        inputs = {name: torch.from_numpy(array).to(model.device) for name, array in arrays.items()}
        found.append(logits(model, inputs).argmax(1).cpu().numpy())
    return np.concatenate(found)


def classifier(base: str, labels: list[str], dropout: float, seed: int) -> PreTrainedModel:
    """The encoder in ``base`` under a new classification layer drawn from ``seed``; float32."""
    config = AutoConfig.from_pretrained(files.local(base), num_labels=len(labels))
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: number for number, label in enumerate(labels)}
    for name in dropout_fields(config.model_type):
        setattr(config, name, dropout)
    torch.manual_seed(seed)
    told = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()  # it would list the new layer's weights as missing
    model = AutoModelForSequenceClassification.from_pretrained(
        files.local(base), config=config, dtype=torch.float32, attn_implementation="sdpa"
    )
    transformers_logging.set_verbosity(told)
    return model.train()


def compare(
    task: LabelledTask, predicted: np.ndarray, train: list[str], test: list[str], embeddings: Mapping[str, str]
) -> dict[str, Any]:
    """Accuracy and macro-F1 on the test part of the model and its baselines, and its lead over the bag of words.

    ``embeddings`` are further baselines: a name and the folder of word vectors for each.
    """
    classes, labels = len(task.labels), task.test.labels
    predictions = {
        "model": predicted,
        "bag_of_words": baselines.bag_of_words(train, task.train.labels, classes, test),
        **{n: word_vector_baseline.predict(f, train, task.train.labels, classes, test) for n, f in embeddings.items()},
        "majority": baselines.majority(task.train.labels, len(labels)),
    }
    counts = {n: scores.confusion(labels, p, task.test.groups, classes) for n, p in predictions.items()}
    measures = {"accuracy": scores.accuracy, "macro_f1": scores.macro_f1}
    return {
        "scores": {
            name: {measure: asdict(scores.interval(score, found)) for measure, score in measures.items()}
            for name, found in counts.items()
        },
        "lead_over_bag_of_words": {
            measure: asdict(scores.interval(score, counts["model"], counts["bag_of_words"]))
            for measure, score in measures.items()
        },
        "confusion": counts["model"].sum(0).tolist(),
    }
