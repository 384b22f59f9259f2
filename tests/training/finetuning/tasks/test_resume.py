"""A run of any task that was stopped goes on to equal weights and equal scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.helpers.foreign_models import job, rows
from tests.training.conftest import NAMES, VERBS
from training.finetuning.finetune import run


def row(number: int) -> dict[str, Any]:
    """The columns of every task."""
    draw = np.random.default_rng(number)
    name, verb = NAMES[draw.integers(4)], VERBS[draw.integers(4)]
    words = ["the", name, verb, "it"]
    return {
        "text": " ".join(words) + " ." * draw.integers(1, 9),
        "pair": f"a {name}",
        "target": verb,
        "label": name,
        "labels": [name, verb],
        "score": float(name == "cat"),
        "words": words,
        "tags": ["O", "B-A", "O", "O"],
        "question": f"{verb} ?",
        "context": " ".join(words),
        "answers": [{"text": name, "start": 4}] if name != "cat" else [],
    }


LABELS = {"classify": sorted(NAMES), "multi_label": sorted([*NAMES, *VERBS]), "tokens": ["B-A", "O"]}
OPTIONS: dict[str, dict[str, Any]] = {
    "text2text": {"text2text": {"method": "sample", "target_length": 6}},
    "answers": {"answers": {"overlap": 4}},
    "similarity": {"similarity": {"contrast": "negatives"}},
}


class Killed(BaseException):
    pass


def stop(step: int, _steps: int, _metrics: dict) -> None:
    if step >= 5:
        raise Killed


@pytest.mark.slow
@pytest.mark.parametrize(
    "task", ["classify", "multi_label", "regression", "tokens", "answers", "text2text", "similarity"]
)
def test_a_run_that_was_stopped_has_equal_weights_and_scores(
    task: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    base = request.getfixturevalue("t5" if task == "text2text" else "bert")
    parts = [[row(number) for number in range(start, start + 20)] for start in (0, 100, 200)]
    given = rows(task, LABELS.get(task, []), *parts)
    runs = {}
    for name in ("whole", "stopped"):
        folder = tmp_path / name
        folder.mkdir()
        runs[name] = job(folder, base, given, name="x", epochs=4, batch_size=8, dropout=0.1, **OPTIONS.get(task, {}))
    whole = run(runs["whole"])
    with pytest.raises(Killed):
        run(runs["stopped"], stop)
    resumed = run(runs["stopped"])
    assert resumed["scores"] == whole["scores"]
    assert resumed["evaluation"] == whole["evaluation"]
    weights = [load_file(Path(one.result, "model.safetensors")) for one in runs.values()]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
