"""From a step to its documents, and from a jump of the loss to what it read."""

from __future__ import annotations

import json
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pipeline import MillError
from pipeline.store import files
from tests.training.conftest import END, make_build, pack, pretrain_section, sentences
from training.pretraining import lineage
from training.pretraining.pretrain import pretrain


@pytest.fixture(scope="module")
def model(packed_build: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    root = str(tmp_path_factory.mktemp("lineage") / "build")
    shutil.copytree(packed_build, root)
    build = make_build(root, pretrain_section(steps=6))
    files.write_json(f"{root}/recipe.json", build.recipe.model_dump(mode="json"))
    pretrain(build, "causal")
    return f"{root}/models/causal"


def test_the_steps_of_an_epoch_name_every_document_with_all_its_tokens(model: str) -> None:
    found, summary = lineage.of_model(model)
    steps = -(-found.read.order.windows_per_epoch // summary["batch_size"])
    size = summary["batch_size"]
    read: dict[str, int] = {}
    for step in range(1, steps + 1):
        for seen in found.documents(step):
            read[seen.id] = read.get(seen.id, 0) + seen.tokens
            assert (seen.source, seen.domain) == (seen.id.split("/")[0], "tales")
    assert sum(read.values()) == steps * size * summary["sequence_length"]
    lengths = dict(zip(found.packed.documents["id"].to_pylist(), np.diff(found.packed.starts).tolist(), strict=True))
    short = [name for name, length in lengths.items() if read.get(name, 0) < length]
    assert len(short) <= 1  # the last document of an epoch may be cut


def test_what_a_step_read_is_told_in_the_words_of_its_documents(model: str) -> None:
    found, _ = lineage.of_model(model)
    texts = dict(zip(found.packed.documents["id"].to_pylist(), _texts(found), strict=True))
    for seen in found.documents(3):
        assert seen.excerpt
        assert seen.excerpt in texts[seen.id]


def _texts(found: lineage.Lineage) -> list[str]:
    bounds = found.packed.starts
    return [bytes(found.packed.tokens(a, b - 1).astype(np.uint8)).decode() for a, b in pairwise(bounds.tolist())]


@given(st.lists(st.floats(2.9, 3.1), min_size=60, max_size=80), st.integers(15, 59))
def test_a_planted_jump_is_found_and_nothing_else_as_large(losses: list[float], at: int) -> None:
    losses[at] = 9.0
    found = lineage.spikes([{"step": step + 1, "loss": loss} for step, loss in enumerate(losses)])
    assert found[0].step == at + 1
    assert found[0].jump == pytest.approx(6, abs=0.2)
    assert all(spike.jump < 1 for spike in found[1:])


def test_a_loss_that_falls_smoothly_has_no_jump() -> None:
    rows = [{"step": step, "loss": 2 + 4 / (1 + step / 10)} for step in range(1, 200)]
    assert lineage.spikes([*rows, {"step": 200, "evaluation": {"loss": 50.0}}]) == []


def test_the_documents_behind_a_jump_are_in_the_summary(model: str) -> None:
    found, _ = lineage.of_model(model)
    log = [json.dumps({"step": step, "loss": 30.0 if step == 14 else 3.0 + step % 3 / 10}) for step in range(1, 20)]
    (spike,) = found.spikes(log)
    assert spike["step"] == 14
    expected = found.documents(14)
    assert spike["documents"][0]["id"] == expected[0].id
    assert spike["documents_in_all"] == len(expected)
    assert spike["tokens_by_domain"] == {"tales": sum(seen.tokens for seen in expected)}


def test_tokens_that_were_packed_anew_are_refused(model: str, tmp_path: Path) -> None:
    root = tmp_path / "build"
    shutil.copytree(Path(model).parent.parent, root)
    shutil.rmtree(root / "tokens/bytes/train")
    pack(str(root / "tokens/bytes/train"), sentences(50, seed=9), END)
    with pytest.raises(MillError, match="packed again since"):
        lineage.of_model(str(root / "models/causal"))
    with pytest.raises(MillError, match="give the folder of a model"):
        lineage.of_model(str(root / "tokens"))


def test_the_card_names_what_made_the_model_and_its_losses_by_domain(model: str) -> None:
    summary = files.read_json(f"{model}/summary.json")
    text = Path(model, "README.md").read_text()
    _, head, body = text.split("---\n", 2)
    assert yaml.safe_load(head)["pipeline_tag"] == "text-generation"
    for name in ("tokenizer", "tokens", "recipe_fingerprint"):
        assert summary["made_from"][name] in body
    tales = summary["evaluation"]["domains"]["tales"]
    assert set(summary["evaluation"]["domains"]) == {"tales"}
    assert tales["loss"] == pytest.approx(summary["evaluation"]["loss"], abs=1e-4)  # the only domain is the whole
    assert f"| tales | {tales['loss']:.4g} |" in body
