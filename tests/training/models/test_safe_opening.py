"""A folder that a recipe names is opened without running what is in it."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertConfig, BertForMaskedLM

from pipeline import MillError
from training.models import new_tokens

ROOT = Path(__file__).parents[3]


def calls() -> list[tuple[str, ast.Call]]:
    """Every call of ``from_pretrained`` in the program, with its place."""
    found = []
    for path in sorted(
        path for room in ("pipeline", "training", "flows", "corpusmill") for path in (ROOT / room).rglob("*.py")
    ):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "from_pretrained":
                found.append((f"{path.relative_to(ROOT)}:{node.lineno}", node))
    return found


def test_nothing_is_opened_that_could_bring_code_along():
    assert len(calls()) >= 15
    unsafe = []
    for place, call in calls():
        given = {word.arg: getattr(word.value, "value", None) for word in call.keywords}
        source = ast.unparse(call.func)
        is_auto = "Auto" in source or source.startswith(("auto.", "task.auto."))
        if is_auto and given.get("trust_remote_code") is not False:
            unsafe.append(f"{place}: {source} does not say trust_remote_code=False")
        if "AutoConfig" not in source and "Tokenizer" not in source and given.get("use_safetensors") is not True:
            unsafe.append(f"{place}: {source} does not say use_safetensors=True")
    assert unsafe == []


def test_weights_in_a_pickle_are_refused(tmp_path):
    shape: dict[str, Any] = {
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
        "intermediate_size": 8,
        "vocab_size": 9,
    }
    model = BertForMaskedLM(BertConfig(**shape))
    model.config.architectures = ["BertForMaskedLM"]
    model.config.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(MillError, match=r"pytorch_model\.bin, which can run code"):
        new_tokens.load(tmp_path)
