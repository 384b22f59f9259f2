"""Which model do I need? Ways to learn one task, from the cheapest to the dearest, under one time budget.

A rung is left out where a timed sample says that it would not fit what is left of the budget, and is stopped where it
takes longer than that said. The recommendation is the cheapest rung that the best one does not surely beat on the
development rows; the test is only read for the table.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from transformers.utils import logging as transformers_logging

from pipeline import MillError
from training.finetuning import deadline, scores
from training.finetuning.rungs import apart, classical, overlap, tuned, word_vectors
from training.finetuning.rungs.base import Examples, Fit, Fitted, examples
from training.finetuning.rungs.encoder import Encoder, contrastive, contrastive_seconds, frozen
from training.finetuning.scores import Interval
from training.labelled.rows import Labelled
from training.recipe.finetuning import FinetuneConfig

#: The rung that reads no text.
MAJORITY = "majority"
_SAMPLE = 200
_TRAINED_BY = ("epochs", "batch_size", "dropout", "optimiser")


@dataclass(frozen=True)
class Rung:
    """``estimate`` gives the seconds that fitting and asking would take; None: by a fit of a sample of the rows."""

    name: str
    title: str
    fit: Fit
    estimate: Callable[[Sets], float] | None = None


@dataclass(frozen=True)
class Sets:
    """The three sets of rows; only the table reads ``test``."""

    train: Examples
    dev: Examples
    test: Examples
    labels: list[str]

    @property
    def classes(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Measured:
    """A rung that was climbed. Probabilities are float64 [rows, classes]; ``seconds`` include choosing settings."""

    name: str
    title: str
    fitted: Fitted
    dev: np.ndarray
    test: np.ndarray
    seconds: float
    documents_per_second: float
    bytes: int
    accuracy: Interval
    macro_f1: Interval
    matthews: Interval


@dataclass(frozen=True)
class Recommendation:
    """``best`` has the highest accuracy on the development rows; ``lead`` is that of it over ``name`` there.

    ``name`` is None where none of the models is surely better there than the most frequent label: then ``best`` is the
    best that reads texts, and ``lead`` that over the most frequent label.
    """

    name: str | None
    best: str
    lead: Interval


@dataclass
class Ladder:
    """What was climbed, in growing cost, and what was not, with the reason."""

    measured: list[Measured] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    def rung(self, name: str) -> Measured:
        return next(each for each in self.measured if each.name == name)


def sets_of(labelled: Labelled) -> Sets:
    """The rows of a task as texts and numbers. Raises MillError for a task that is no classification."""
    if labelled.task != "classify":
        raise MillError(
            f"the cost ladder compares classifiers of texts, and the task is {labelled.task!r}; leave it out"
        )
    tables = (labelled.train, labelled.dev, labelled.test)
    return Sets(*(examples(table, labelled.labels) for table in tables), labels=labelled.labels)


def cheap_rungs(vectors: Iterable[str] = (), pairs: bool = False) -> list[Rung]:
    """The rungs without a base model; ``vectors`` are folders of embeddings, ``pairs`` whether rows have two texts."""
    return [
        Rung(MAJORITY, "most frequent label", classical.majority),
        *([Rung("overlap", "words that both texts share", overlap.fit)] if pairs else []),
        Rung("tf_idf", "tf-idf + logistic regression", classical.tf_idf),
        Rung("fasttext", "fastText", classical.fasttext),
        *(
            Rung(f"static:{Path(folder).name}", f"word vectors {Path(folder).name} + head", word_vectors.fit(folder))
            for folder in vectors
        ),
    ]


def rungs(
    vectors: Iterable[str], base: str | None, length: int, work: str, pairs: bool = False, **fields: Any
) -> list[Rung]:
    """All rungs in growing cost; those on a pretrained encoder only where there is a ``base``.

    ``base`` is the folder of a model that reads up to ``length`` tokens of a text; ``work`` a folder of our own;
    ``pairs`` says whether rows have two texts;
    ``fields`` are those of a recipe's `finetune` that LoRA and the whole model are trained with.
    """
    cheap = cheap_rungs(vectors, pairs)
    if base is None:
        return cheap
    transformers_logging.disable_progress_bar()
    encoder = Encoder(base, length, work, pairs)

    def texts(sets: Sets) -> list[str]:
        return [text for part in (sets.train, sets.dev, sets.test) for text in part.texts]

    if pairs:
        reading = apart.Reading(encoder)
        first = Rung(
            "frozen", "frozen encoder, both texts apart + head", apart.fit(reading),
            lambda sets: reading.seconds(texts(sets)),
        )  # fmt: skip
    else:
        first = Rung("frozen", "frozen encoder + head", frozen(encoder), lambda sets: encoder.seconds(texts(sets)))
    return [
        *cheap,
        first,
        Rung(
            "pairs", "encoder trained on pairs + head", contrastive(encoder),
            lambda sets: contrastive_seconds(encoder, sets.train) + encoder.seconds(texts(sets)),
        ),
        Rung(
            "lora", "LoRA", tuned.tuned(base, length, pairs, **fields, strategy={"kind": "lora"}),
            lambda sets: tuned.seconds(base, length, sets.train, len(sets.dev) + len(sets.test), pairs, **fields),
        ),
        Rung(
            "full", "the whole model trained", tuned.tuned(base, length, pairs, **fields),
            lambda sets: tuned.seconds(base, length, sets.train, len(sets.dev) + len(sets.test), pairs, **fields),
        ),
    ]  # fmt: skip


def settings(config: FinetuneConfig) -> dict[str, Any]:
    """The fields of ``config`` that ``rungs`` takes: those that training goes by and that are not at their defaults."""
    fields = {name: FinetuneConfig.model_fields[name].default for name in _TRAINED_BY}
    return {name: getattr(config, name) for name, default in fields.items() if getattr(config, name) != default}


def climb(sets: Sets, rungs: Iterable[Rung], minutes: float, say: Callable[[str], None] = lambda _: None) -> Ladder:
    """Fit and measure each of ``rungs`` in order, as far as ``minutes`` of wall time allow; ``say`` hears of each."""
    ladder, started = Ladder(), time.perf_counter()
    end = started + minutes * 60
    for rung in rungs:
        begun = time.perf_counter()
        if begun > end:
            ladder.left_out[rung.title] = "the time was up before it"
            continue
        try:
            with deadline.until(end):
                needed = rung.estimate(sets) if rung.estimate else _by_sample(rung, sets)
                left = end - time.perf_counter()
                if needed > left:
                    ladder.left_out[rung.title] = f"needs about {needed:,.0f} s, and {max(0, left):,.0f} s are left"
                    continue
                say(rung.title)
                ladder.measured.append(_measure(rung, sets))
        except deadline.OutOfTime:
            ladder.left_out[rung.title] = f"stopped after {time.perf_counter() - begun:,.0f} s, when the time was up"
    ladder.seconds = time.perf_counter() - started
    return ladder


def recommend(ladder: Ladder, sets: Sets) -> Recommendation:
    """The cheapest rung that is within one interval of the best on the development rows, and not surely worse.

    That is: its accuracy is in the 95 % interval of the best one's, and the interval of the best one's lead over it on
    the same rows holds 0. A model is recommended for what it has learned: where that would be the most frequent label,
    nothing is.
    """
    if not ladder.measured:
        raise MillError("no rung of the cost ladder fits the time; give more `--minutes`")
    counts = [
        scores.confusion(sets.dev.labels, each.dev.argmax(1), sets.dev.groups, sets.classes) for each in ladder.measured
    ]
    shares = [float(scores.accuracy(each.sum(0))) for each in counts]
    best = int(np.argmax(shares))
    leads = [scores.interval(scores.accuracy, counts[best], each) for each in counts]
    least = scores.interval(scores.accuracy, counts[best]).low
    cheapest = next(at for at, share in enumerate(shares) if leads[at].low <= 0 and share >= least)
    name = ladder.measured[cheapest].name
    if name != MAJORITY:
        return Recommendation(name, ladder.measured[best].name, leads[cheapest])
    best = max((at for at in range(len(shares)) if at != cheapest), key=shares.__getitem__, default=cheapest)
    lead = scores.interval(scores.accuracy, counts[best], counts[cheapest])
    return Recommendation(None, ladder.measured[best].name, lead)


def _by_sample(rung: Rung, sets: Sets) -> float:
    """Seconds for all rows, as a fit of some of them takes them row by row; 0 where a sample is nearly all."""
    rows = len(sets.train) + len(sets.dev) + len(sets.test)
    share = _SAMPLE / len(sets.train)
    if share > 0.5:
        return 0.0
    parts = [each.take(np.arange(0, len(each), round(1 / share))) for each in (sets.train, sets.dev, sets.test)]
    started = time.perf_counter()
    fitted = rung.fit(parts[0], parts[1], sets.classes)
    fitted.predict_proba(parts[2].texts)
    return (time.perf_counter() - started) * rows / sum(map(len, parts))


def _measure(rung: Rung, sets: Sets) -> Measured:
    started = time.perf_counter()
    fitted = rung.fit(sets.train, sets.dev, sets.classes)
    seconds = time.perf_counter() - started
    dev = fitted.predict_proba(sets.dev.texts)
    started = time.perf_counter()
    test = fitted.predict_proba(sets.test.texts)
    asking = time.perf_counter() - started
    with tempfile.TemporaryDirectory(prefix="mill-rung-") as folder:
        fitted.save(folder)
        size = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
    counts = scores.confusion(sets.test.labels, test.argmax(1), sets.test.groups, sets.classes)
    return Measured(
        rung.name, rung.title, fitted, dev, test, seconds, len(sets.test) / max(asking, 1e-9), size,
        *(measure.interval() for measure in scores.of_classes(counts)),
    )  # fmt: skip
