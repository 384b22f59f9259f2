"""Embeddings of the corpus: word2vec, GloVe and ELMo, the ancestors that pretrained models are to beat.

    work/embeddings/<name>/   ELMo's checkpoints while it runs
    models/<name>/            words.txt; vectors.safetensors (static) or config.json and model.safetensors (ELMo);
                              summary.json

They read the words of the documents that models are trained on; ELMo is judged on the documents that are held out.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file, save_file

from pipeline.build.build import Build
from pipeline.store import files
from training.batches import cooccurrences, random_streams
from training.batches.batch import Batch
from training.embeddings import elmo, glove, word2vec, words
from training.embeddings.words import WordCounts
from training.loop import hardware, loop
from training.models import architectures, publish
from training.pretraining import evaluation, pretrain
from training.recipe.sections import BuildRecipe, EmbeddingConfig

VERSION = 1


def embed(build: Build[BuildRecipe], name: str, progress: loop.Progress | None = None) -> dict[str, Any]:
    """Train the embeddings ``name`` of the recipe and return their summary; at once if they are there and current.

    Raises pretrain.UnknownRun for a name that the recipe has not, MillError where the corpus has too few words.
    """
    config: EmbeddingConfig = pretrain.find(build.recipe.embeddings, name)
    split = files.read_json(build.path("tokenizers", "split.json"))["fingerprint"]
    seed = build.recipe.seed if config.seed is None else config.seed
    made_by = files.fingerprint("embeddings", VERSION, config, seed, split)
    result = build.path("models", name)
    current = pretrain.current_summary(result, made_by)
    if current is not None:
        return current
    vocabulary = words.count(build, config.lowercase, config.min_count, config.vocabulary)
    summary: dict[str, Any] = {
        "name": name,
        "kind": "embeddings",
        "fingerprint": made_by,
        "method": config.method,
        "lowercase": config.lowercase,
        "words": len(vocabulary),
        "occurrences": int(vocabulary.counts.sum()),
        "dimensions": config.dimensions,
    }
    if config.method == "elmo":
        return _embed_by_elmo(build, config, seed, vocabulary, summary, progress)
    vectors, more = _static(build, config, seed, vocabulary)
    summary |= more
    with files.replacing_folder(result) as aside:
        save_file({"vectors": vectors}, aside / "vectors.safetensors")
        _write_words(aside / "words.txt", vocabulary)
        publish.write_summary(aside, summary)
    return summary


def _write_words(path: Any, vocabulary: WordCounts) -> None:
    path.write_text("".join(f"{word}\n" for word in vocabulary.words), encoding="utf-8")


def load_words(folder: str) -> list[str]:
    """The vocabulary in ``folder``, in the order of its vectors."""
    path = files.join(folder, "words.txt")
    files.check(path)
    with files.opened(path) as handle:
        return handle.read().decode().split("\n")[:-1]


def load_vectors(folder: str) -> np.ndarray:
    """The static vectors in ``folder``: float32 [words, dimensions]."""
    files.check_folder(folder)
    return load_file(files.local(files.join(folder, "vectors.safetensors")))["vectors"]


def _static(
    build: Build, config: EmbeddingConfig, seed: int, vocabulary: WordCounts
) -> tuple[np.ndarray, dict[str, Any]]:
    def blocks() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for _, places, bounds in words.documents(build, "train", config.lowercase, vocabulary.words):
            yield places, bounds

    if config.method == "glove":
        i, j, x = cooccurrences.count(blocks(), len(vocabulary), config.window)
        vectors, losses = glove.train(
            i, j, x, len(vocabulary), config.dimensions, config.epochs, config.learning_rate, seed
        )
        return vectors, {"cooccurrences": len(x), "losses": losses}
    vectors = word2vec.train(
        blocks(),
        vocabulary.words,
        skipgram=config.method == "skipgram",
        dimensions=config.dimensions,
        window=config.window,
        epochs=config.epochs,
        negatives=config.negatives,
        rate=config.learning_rate,
        thinning=config.thinning,
        seed=seed,
    )
    return vectors, {}


Sequences = list[tuple[list[str], np.ndarray]]


def _sequences(
    build: Build, split: str, config: EmbeddingConfig, vocabulary: WordCounts
) -> tuple[Sequences, list[str]]:
    """The words of each document in runs of at most ``sequence_length``, and the document of each run."""
    runs: Sequences = []
    owners: list[str] = []
    known = {word: place for place, word in enumerate(vocabulary.words)}
    for ids, texts in words.texts_of(build, split):
        tokens, bounds = words.cut(texts, config.lowercase)
        spelled = tokens.to_pylist()
        for owner, (start, stop) in zip(ids, pairwise(bounds.tolist()), strict=True):
            for at in range(start, stop, config.sequence_length):
                part = spelled[at : min(stop, at + config.sequence_length)]
                runs.append((part, np.array([known.get(word, words.UNKNOWN) for word in part], np.int64)))
                owners.append(owner)
    return runs, owners


def _embed_by_elmo(
    build: Build[BuildRecipe],
    config: EmbeddingConfig,
    seed: int,
    vocabulary: WordCounts,
    summary: dict[str, Any],
    progress: loop.Progress | None,
) -> dict[str, Any]:
    train, owners = _sequences(build, "train", config, vocabulary)
    heldout, _ = _sequences(build, "heldout", config, vocabulary)
    steps = max(1, math.ceil(config.epochs * len(train) / config.batch_size))
    torch.manual_seed(random_streams.seed("elmo", seed))
    model = elmo.ElmoModel(
        elmo.ElmoConfig(
            vocab_size=len(vocabulary) + elmo.RESERVED,
            hidden_size=config.dimensions // 2,
            cell_size=config.cell_size,
            filters=config.filters,
        )
    ).train()

    def rows(step: int) -> list[int]:
        epochs, places = np.divmod(evaluation.positions(config.batch_size, step), len(train))
        orders = {
            epoch: random_streams.generator("elmo order", seed, epoch=int(epoch)).permutation(len(train))
            for epoch in np.unique(epochs)
        }
        return [int(orders[epoch][place]) for epoch, place in zip(epochs, places, strict=True)]

    def batch(sequences: Sequences) -> Batch:
        arrays = elmo.examples(sequences, config.sequence_length, model.config.max_characters)
        predicted = int((arrays["lengths"] - 1).sum())
        return Batch(arrays, dict.fromkeys(("forward", "backward"), predicted), predicted)

    def evaluate(measure: loop.Measure) -> loop.Metrics:
        sums, count = {"forward": 0.0, "backward": 0.0}, 0
        for start in range(0, len(heldout), config.batch_size):
            part = batch(heldout[start : start + config.batch_size])
            count += part.tokens
            for name, nats in measure(part.arrays).items():
                sums[name] += float(nats)
        means = {name: value / max(1, count) for name, value in sums.items()}
        return {"loss": sum(means.values()) / 2, **means, "tokens": count}

    total = sum(parameter.numel() for parameter in model.parameters())
    work = loop.Work(
        batch=lambda step: batch([train[row] for row in rows(step)]),
        loss=elmo.loss,  # type: ignore[arg-type]
        weights={"forward": 0.5, "backward": 0.5},
        evaluate=evaluate,
        documents=lambda step: sorted({owners[row] for row in rows(step)}),
        flops_per_token=6.0 * total,
    )
    plan = loop.Plan(
        folder=build.path("work", "embeddings", config.name),
        fingerprint=summary["fingerprint"],
        steps=steps,
        seed=seed,
        micro_batch=config.batch_size,
        optimiser=config.optimiser,
        precision="fp32",
    )
    state = loop.train(model, work, plan, progress)
    summary |= {"steps": steps, "parameters": architectures.count(model).asdict()}
    summary |= pretrain.result_of(state, hardware.device())
    with files.replacing_folder(build.path("models", config.name)) as aside:
        model.cpu().eval().save_pretrained(aside)
        shutil.copy(files.local(files.join(plan.folder, "metrics.jsonl")), aside)
        _write_words(aside / "words.txt", vocabulary)
        publish.write_summary(aside, summary)
    return summary
