"""A classifier trained as a step of the build, on labelled texts, and measured on those that it has not seen.

models/classifiers/<stage>.bin    models/classifiers/<stage>.json (what made it, and its scores)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import MillError
from pipeline.build.build import Build, Made, Outcome, Step, make
from pipeline.build.stage import Batch
from pipeline.sources import READERS, Source, quarantine
from pipeline.sources.base import Document
from pipeline.stages.classifiers import fine_tuned, scoring, train_model
from pipeline.stages.classifiers.config import Classifier, Training
from pipeline.stages.classifiers.features import Shape
from pipeline.stages.classifiers.train_model import LABELS, NEGATIVE, POSITIVE
from pipeline.store import files, model_files
from pipeline.text.excerpts import excerpts
from pipeline.text.hashing import document_hash, unit_interval

VERSION = 1
#: Bytes that one text gives to learn from.
LONGEST = 10_000
_BATCH = 4 << 20


class BadLabelledTexts(MillError):
    """The labelled texts cannot be read or learned from; the message says which, and what to do."""


class MadeByABuild(MillError):
    """A model that a build made is not one to bring: it would be given other texts than it learned from."""


def step(stage: str, title: str) -> Step:
    """The step that trains the classifier of ``stage``; it has no items where the recipe brings a model."""
    return Step(f"{stage}.train", title, partial(_items, stage), partial(_train, stage))


def model_of(stage: str, config: Classifier) -> dict[str, str]:
    """What ``Stage.models`` asks for: the model that scores every document."""
    return {"classifier": f"build:models/classifiers/{stage}.bin" if config.made_here else str(config.model)}


def require(path: str, labels: Sequence[str]) -> None:
    """Raise NoSuchLabel unless the fastText model in ``path`` knows ``labels``, MadeByABuild if a build made it."""
    scoring.require(path, labels)
    note = f"{path.removesuffix('.bin')}.json"
    if path.endswith(".bin") and files.exists(note) and files.read_json(note).get("sha256") == model_files.digest(path):
        raise MadeByABuild(
            f"{path}: a build made this model, and it reads folded text (lower-cased, marks apart, digits as 0), while"
            " a `model` of your own is given the text as it is; give the `train` section, or the fine-tuned classifier,"
            " that it was made of"
        )


def measure(config: Classifier, batch: Batch) -> pa.Array:
    """float32: the score of each text, null for one without a visible character."""
    path, texts = batch.models["classifier"], scoring.shortened(batch.texts, config.max_bytes)
    if config.direct:
        return fine_tuned.probability(texts, path, config.labels, batch.scorer)
    if config.made_here:
        return scoring.probability(scoring.folded(texts), path, [POSITIVE])
    return scoring.probability(texts, path, config.labels)


def scores(build: Build, stage: str) -> dict[str, Any] | None:
    """What the classifier trained for ``stage`` came to on the texts held out; None if none has been trained."""
    path = _path(build, f"{stage}.json")
    return files.read_json(path)["heldout"] if files.exists(path) else None


def _path(build: Build, name: str) -> str:
    return build.path("models", "classifiers", name)


def _training(build: Build, stage: str) -> Training | None:
    return build.section(stage).train


def _items(stage: str, build: Build) -> list[str]:
    return [f"{stage}.bin"] if _training(build, stage) is not None else []


def _train(stage: str, build: Build, item: str) -> Outcome:
    config = _training(build, stage)
    assert config is not None
    sides = {NEGATIVE: config.negative, POSITIVE: config.positive}
    content = {side: list(map(_identity, sources)) for side, sources in sides.items()}
    made_by = files.fingerprint("classifier", VERSION, config, build.recipe.seed, content)
    path = _path(build, item)

    def has_model(note: dict[str, Any]) -> bool:
        return files.exists(path) and model_files.digest(path) == note["sha256"]

    return make(_path(build, f"{stage}.json"), made_by, partial(_model, stage, build, config, path), has_model)


def _model(stage: str, build: Build, config: Training, path: str) -> Made:
    seed = build.recipe.seed
    sides = {NEGATIVE: config.negative, POSITIVE: config.positive}
    gathered = [_gather(sides[side], config.max_bytes, seed, build.recipe.error_budget) for side in LABELS]
    texts = pa.concat_arrays(gathered)
    labels = np.repeat(np.arange(len(LABELS)), list(map(len, gathered)))
    order = np.argsort(document_hash(texts, seed), kind="stable")
    texts, labels = texts.take(pa.array(order)), labels[order]
    heldout = unit_interval(document_hash(texts, seed ^ 1)) < config.heldout
    _check(stage, labels[~heldout])
    shortest, longest = config.character_ngrams or (0, 0)
    hashed = config.word_ngrams > 1 or longest > 0
    train_model.train(
        texts.filter(pa.array(~heldout)), labels[~heldout], LABELS, path,
        dimensions=config.dimensions, epochs=config.epochs, learning_rate=config.learning_rate, seed=seed,
        min_count=config.min_count, shape=Shape(config.word_ngrams, shortest, longest, config.buckets * hashed),
    )  # fmt: skip
    measured = scoring.probability(texts.filter(pa.array(heldout)), path, [POSITIVE])
    facts = {"sha256": model_files.digest(path), "texts": int((~heldout).sum())}
    note = {**facts, "heldout": evaluate(measured.to_numpy(), labels[heldout] == 1)}
    return Outcome(len(texts), texts.nbytes), note


def _identity(source: Source) -> list[Any]:
    reader = READERS[source.kind]
    return [reader.VERSION, [[file.name, reader.identity(source, file)] for file in reader.list_files(source)]]


def _check(stage: str, labels: np.ndarray) -> None:
    for label, name in enumerate(LABELS):
        if not np.any(labels == label):
            raise BadLabelledTexts(f"{stage}.train.{name}: there is no text to learn from; correct its sources")


def _gather(sources: Iterable[Source], max_bytes: int, seed: int, budget: float) -> pa.StringArray:
    """The folded texts of ``sources``, each once, in the order of their hashes; those with the lowest up to a size."""
    texts = pa.array([], pa.string())
    for source in sources:
        for batch in _batches(source, budget):
            texts = pa.concat_arrays([texts, scoring.folded(excerpts(batch, LONGEST))])
            texts = texts.filter(pc.greater(pc.binary_length(texts), 0))
            _, first = np.unique(document_hash(texts, seed), return_index=True)
            texts = texts.take(pa.array(first))
            sizes = np.cumsum(pc.binary_length(texts).to_numpy())
            texts = texts.slice(0, int(np.searchsorted(sizes, max_bytes, side="right")))
    return texts


def _batches(source: Source, budget: float) -> Iterator[pa.StringArray]:
    reader = READERS[source.kind]
    texts: list[bytes] = []
    size, documents, listed = 0, 0, reader.list_files(source)
    account = quarantine.Account(source.name)
    for file in listed:
        for record in reader.read(source, file):
            if not isinstance(record, Document):
                account.add(record)
                continue
            documents += 1
            texts.append(record.text.encode("utf-8", "replace"))
            size += len(texts[-1])
            if size > _BATCH:
                yield pa.array(texts, pa.binary()).view(pa.string())
                texts, size = [], 0
    bad, records = quarantine.bad_records(account.report, documents, sum(file.size for file in listed))
    if bad > budget * records:
        raise BadLabelledTexts(
            f"source {source.name!r}: {bad} of {records} records are bad, more than the error budget of {budget:.2%}:"
            "\n  " + "\n  ".join(quarantine.examples(account.report)) + "\nCorrect the files or the source."
        )
    yield pa.array(texts, pa.binary()).view(pa.string())


def evaluate(scores: np.ndarray, positive: np.ndarray) -> dict[str, Any]:
    """Counts and shares over n texts, by ``scores`` (float) > 0.5 and the truth ``positive`` (bool).

    ``majority`` is the accuracy of always naming the larger side. ``auc``: how often a positive text scores above a
    negative one, ties half (Mann and Whitney 1947). What has no denominator is None.
    """
    named = scores > 0.5
    right = int((named & positive).sum())
    many, above = int(positive.sum()), int(named.sum())
    count = len(scores)
    ranks = np.searchsorted(np.sort(scores), scores, "left") + np.searchsorted(np.sort(scores), scores, "right") + 1
    pairs = many * (count - many)
    auc = (ranks[positive].sum() / 2 - many * (many + 1) / 2) / pairs if pairs else None
    return {
        "texts": count,
        "positive": many,
        "accuracy": float(np.mean(named == positive)) if count else None,
        "majority": max(many, count - many) / count if count else None,
        "precision": right / above if above else None,
        "recall": right / many if many else None,
        "f1": 2 * right / (above + many) if above + many else None,
        "auc": None if auc is None else float(auc),
    }
