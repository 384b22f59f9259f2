"""Strategies with tasks other than a label of a text: they run and keep what is frozen, or say why they do not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from pipeline import MillError
from tests.helpers.foreign_models import job, rows
from tests.training.finetuning.tasks.test_resume import LABELS, row
from training.finetuning.finetune import run
from training.finetuning.strategies.adapter_file import load

STRATEGIES: dict[str, Any] = {
    "lora": {"kind": "lora", "rank": 2, "merge": False},
    "bitfit": "bitfit",
    "partial": {"kind": "partial", "layers": 1},
    "features": "features",
}
SIZES = {"epochs": 1, "batch_size": 16}


def given(task: str) -> Any:
    return rows(task, LABELS.get(task, []), *([row(at) for at in range(start, start + 16)] for start in (0, 100, 200)))


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("task", ["multi_label", "regression", "tokens", "answers"])
def test_what_is_frozen_stays_and_the_head_learns(bert: str, tmp_path: Path, task: str, strategy: str) -> None:
    made = job(tmp_path, bert, given(task), strategy=STRATEGIES[strategy], **SIZES)
    summary = run(made)
    assert summary["strategies"][0]["trained"] < summary["parameters"]["total"]
    before = load_file(Path(bert, "model.safetensors"))
    if strategy == "lora":
        found = {name: parameter.detach() for name, parameter in load(made.result).named_parameters()}
        frozen = [name for name in before if name in found and ".query." not in name and ".value." not in name]
    else:
        found = load_file(Path(made.result, "model.safetensors"))
        frozen = [
            name
            for name in before
            if name in found
            and (
                (strategy == "bitfit" and not name.endswith(".bias"))
                or (strategy == "partial" and ("embeddings" in name or "layer.0." in name))
                or (strategy == "features" and ".pooler." not in name)
            )
        ]
    assert len(frozen) > 10
    assert all(torch.equal(before[name], found[name]) for name in frozen)


@pytest.mark.parametrize("strategy", ["lora", "partial"])
def test_a_text_for_a_text_is_learned_by_a_part_of_the_weights(t5: str, tmp_path: Path, strategy: str) -> None:
    made = job(tmp_path, t5, given("text2text"), strategy=STRATEGIES[strategy], text2text={"target_length": 6}, **SIZES)
    cost = run(made)["strategies"][0]
    assert 0 < cost["share"] < 0.9


@pytest.mark.parametrize(("task", "strategy", "remedy"), [
    ("text2text", "features", "take lora or partial"), ("text2text", "bitfit", "no biases"),
    ("similarity", "features", "take lora or partial"),
])  # fmt: skip
def test_what_does_not_go_together_is_refused_with_the_reason(
    task: str, strategy: str, remedy: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    base = request.getfixturevalue("t5" if task == "text2text" else "bert")
    with pytest.raises(MillError, match=remedy):
        run(job(tmp_path, base, given(task), strategy=strategy, **SIZES))
