"""All that the cost ladder says of labelled rows: which model will do, what more labels bring, which labels look wrong.

The recommended rung's confidence is assessed; its features (or tf-idf) find suspect labels and texts to label next.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from math import ceil
from typing import Any

import numpy as np

from training.batches import random_streams
from training.finetuning import cost_ladder, deadline, learning_curve, suspects, worth_labelling
from training.finetuning.confidence import assess
from training.finetuning.cost_ladder import Ladder, Measured, Recommendation, Rung, Sets
from training.finetuning.rungs.base import logits
from training.labelled.rows import Labelled

_CURVE_COST = 12  # fits of all rows that a learning curve takes about as long as
_NEXT = 0.5  # share of what is left after the audit that the texts to label next may take
_CLIMB = 0.8  # share of the time that the rungs may take: audit and learning curve have the rest


@dataclass(frozen=True)
class Advice:
    """``said`` is plain values for a file and for tables; ``next_rows`` are rows of the texts to label, best first."""

    said: dict[str, Any]
    next_rows: list[int]


def advise(
    labelled: Labelled, rungs: Sequence[Rung], minutes: float, unlabelled: Sequence[str] = (), wanted: int = 0,
    say: Callable[[str], None] = lambda _: None,
) -> Advice:  # fmt: skip
    """Climb ``rungs`` within ``minutes`` and say what was found; choose ``wanted`` of the ``unlabelled`` texts.

    Raises MillError where the task is no classification or no rung fits the time.
    """
    started = time.perf_counter()
    end = started + minutes * 60
    sets = cost_ladder.sets_of(labelled)
    ladder = cost_ladder.climb(sets, rungs, minutes * _CLIMB, say)
    chosen = cost_ladder.recommend(ladder, sets)
    rung = ladder.rung(chosen.name or chosen.best)
    say("label audit")
    reading = _with_features(ladder, rung)
    said = {
        "rungs": [_row(each) for each in ladder.measured],
        "left_out": ladder.left_out,
        "recommended": {**asdict(chosen), "why": why(ladder, chosen, len(sets.dev))},
        "assessed": rung.title,
        "documents": {"train": len(sets.train), "dev": len(sets.dev), "test": len(sets.test)},
        "labels": sets.labels,
        "confidence": assess.assess(
            logits(rung.dev), sets.dev.labels, logits(rung.test), sets.test.labels, sets.test.groups
        ),
        "suspects": None if reading is None else _suspects(reading, labelled, sets, end),
    }
    chosen_rows = _next(reading, rung, unlabelled, wanted, end, say) if wanted and unlabelled else []
    say("learning curve")
    said["learning_curve"] = _curve(ladder, rungs, rung, sets, end)
    said["seconds"] = time.perf_counter() - started
    return Advice(said, chosen_rows)


def why(ladder: Ladder, chosen: Recommendation, rows: int) -> str:
    """The reason of the recommendation, or of there being none, in a sentence; of ``rows`` development rows."""
    best, lead = ladder.rung(chosen.best).title, chosen.lead
    by = f"{100 * lead.value:.1f} points (95 % interval {100 * lead.low:+.1f} to {100 * lead.high:+.1f})"
    if chosen.name is None:
        return _why_nothing(chosen, best, by, rows)
    name = ladder.rung(chosen.name).title
    if chosen.name == chosen.best:
        return f"{name} is the most accurate on the development rows, and surely more so than all that is cheaper"
    return (
        f"{name} is the cheapest that is not surely worse than the best, {best}, which leads it on the development rows"
        f" by {by}"
    )


def _why_nothing(chosen: Recommendation, best: str, by: str, rows: int) -> str:
    if chosen.best == cost_ladder.MAJORITY:
        return "no model that reads the texts was compared with the most frequent label; give more time"
    if chosen.lead.value <= 0:
        return (
            f"no model is more accurate on {rows:,} development rows than the most frequent label; {best} leads by {by}"
        )
    # an interval narrows with the root of the rows
    needed = ceil(rows * ((chosen.lead.value - chosen.lead.low) / chosen.lead.value) ** 2)
    return (
        f"{rows:,} development rows are too few to show that any model is better than the most frequent label: {best}"
        f" leads it by {by}. Were that its true lead, about {needed:,} rows would show it; label more"
    )


def _suspects(reading: Measured, labelled: Labelled, sets: Sets, end: float) -> dict[str, Any]:
    fitted: Any = reading.fitted
    right = reading.test.argmax(1) == sets.test.labels
    try:
        with deadline.until(end):
            audit = suspects.find(fitted, labelled, (sets.train, sets.dev, sets.test), right)
    except deadline.OutOfTime:
        audit = {"why": "the time was up before the label audit ended", "rows": []}
    return {"features": reading.title, **audit}


def _next(
    reading: Measured | None, rung: Measured, unlabelled: Sequence[str], wanted: int, end: float,
    say: Callable[[str], None],
) -> list[int]:  # fmt: skip
    """Rows of the texts to label; where ``rung`` cannot read all by ``end``, among the first that are drawn."""
    order = random_streams.generator("next", len(unlabelled)).permutation(len(unlabelled))
    rate = min(each.documents_per_second for each in (rung, reading or rung))
    left = max(0.0, end - time.perf_counter()) * _NEXT
    read = np.sort(order[: max(wanted, int(left * rate / 2))])  # for the features, and for the probabilities
    part = "" if len(read) == len(order) else f", among {len(read):,} of {len(order):,}, as many as there is time for"
    say(f"texts to label next{part}")
    texts = [unlabelled[int(row)] for row in read]
    features = None if reading is None else reading.fitted.features(texts)  # type: ignore[attr-defined]
    shares = rung.fitted.predict_proba(texts)
    rows = worth_labelling.choose(shares, shares if features is None else features, wanted)
    return read[rows].tolist()


def _row(each: Measured) -> dict[str, Any]:
    return {
        "name": each.name,
        "title": each.title,
        "accuracy": asdict(each.accuracy),
        "macro_f1": asdict(each.macro_f1),
        "matthews": asdict(each.matthews),
        "seconds": each.seconds,
        "documents_per_second": each.documents_per_second,
        "bytes": each.bytes,
    }


def _with_features(ladder: Ladder, rung: Measured) -> Measured | None:
    """The recommended rung if it gives features of a text, else the first that does."""
    return next((each for each in (rung, *ladder.measured) if hasattr(each.fitted, "features")), None)


def _curve(ladder: Ladder, rungs: Sequence[Rung], rung: Measured, sets: Sets, end: float) -> dict[str, Any]:
    """The learning curve of the recommended rung, or of the first that reads texts where that does not fit the time."""
    readers = [each for each in ladder.measured if each.name != "majority"]
    for each in ([rung] if rung in readers else []) + readers:
        if time.perf_counter() + each.seconds * _CURVE_COST <= end:
            fit = next(r.fit for r in rungs if r.name == each.name)
            try:
                with deadline.until(end):
                    curve = learning_curve.curve(fit, sets.train, sets.dev, sets.test, sets.classes)
            except deadline.OutOfTime:
                break
            return {"rung": each.title, "more": learning_curve.MORE, **asdict(curve)}
    return {"rung": None, "why": "no rung is quick enough to be fitted some 25 times in what is left of the time"}
