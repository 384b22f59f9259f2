"""A small published model of each task, fine-tuned in seconds, and rows to ask it with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tests.helpers import foreign_models
from tests.training.conftest import NAMES, VERBS, sentences
from training.finetuning.finetune import run
from training.labelled.rows import Labelled

TASKS = ("classify", "multi_label", "regression", "tokens", "answers", "text2text", "similarity")
_TAGS = ["B-A", "B-B", "I-A", "I-B", "O"]


def _row(task: str, draw: np.random.Generator) -> dict[str, Any]:
    first, second = (NAMES[at] for at in draw.integers(4, size=2))
    verb = VERBS[draw.integers(4)]
    text = f"the {first} {verb} the {second} ." + " and the cat sees the dog ." * int(draw.integers(3))
    match task:
        case "classify":
            return {"text": text, "label": "pet" if first in NAMES[:2] else "wild"}
        case "multi_label":
            return {"text": text, "labels": sorted({first, second})}
        case "regression":
            return {"text": text, "score": 20.0 + 10 * NAMES.index(first)}
        case "tokens":
            kinds = ["AABB"[NAMES.index(name)] for name in (first, second)]
            tags = [f"B-{kinds[0]}", f"I-{kinds[0]}", "O", f"B-{kinds[1]}", f"I-{kinds[1]}", "O"]
            return {"words": ["the", first, verb, "the", second, "."], "tags": tags}
        case "answers":
            context = f"the {first} {verb} . the fish {verb} . " if draw.random() < 0.7 else f"the cat {verb} . "
            found = [{"text": "fish", "start": context.index("fish")}] if "fish" in context else []
            return {"question": "what swims ?", "context": context * int(draw.integers(1, 4)), "answers": found}
        case "text2text":
            return {"text": text, "target": verb}
        case _:
            return {"text": text, "pair": f"a {first}", "score": float(draw.random() < 0.5)}


def labelled(task: str, counts: tuple[int, int, int] = (48, 16, 24)) -> Labelled:
    draw = np.random.default_rng(0)
    labels = {"classify": ["pet", "wild"], "multi_label": sorted(NAMES), "tokens": _TAGS}.get(task, [])
    train, dev, test = ([_row(task, draw) for _ in range(count)] for count in counts)
    return foreign_models.rows(task, labels, train, dev, test)


def publish(folder: Path, task: str, **config: Any) -> tuple[str, Labelled, dict[str, Any]]:
    """The folder of a model of ``task``, its rows, and its summary."""
    make = foreign_models.t5 if task == "text2text" else foreign_models.bert
    base = make(folder / "base", [*sentences(100), "what swims ? a and"])
    rows = labelled(task)
    options: dict[str, Any] = {"text2text": {"text2text": {"prefix": "shorten: ", "target_length": 8}}}.get(task, {})
    given = foreign_models.job(folder, base, rows, **{"epochs": 2, **options, **config})
    summary = run(given)
    return given.result, rows, summary
