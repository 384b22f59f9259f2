from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from pipeline import MillError
from pipeline.store import files
from tests.training.conftest import make_build, pretrain_section
from training.pretraining.pretrain import pretrain
from training.recipe.objectives import OBJECTIVES


@pytest.fixture
def root(packed_build: str, tmp_path: Path) -> str:
    shutil.copytree(packed_build, tmp_path / "build")
    return str(tmp_path / "build")


VOCABULARY = math.log(320)  # 260 padded to a multiple of 64
#: What a uniform guess costs, in nats, and what the evaluation must come down to.
STARTS = {
    "causal": (VOCABULARY, 3.2),
    "mlm": (VOCABULARY, 3.2),
    "mlm_nsp": (VOCABULARY + math.log(2), 3.9),
    "mlm_sop": (VOCABULARY + math.log(2), 3.9),
    "electra": (VOCABULARY + 50 * math.log(2), 28.0),
    "span_corruption": (math.log(384), 4.0),  # with T5's sentinels
    "denoising": (VOCABULARY, 3.2),
}


@pytest.mark.slow
@pytest.mark.parametrize("objective", STARTS)
def test_loss_starts_at_a_uniform_guess_and_falls(root: str, objective: str) -> None:
    steps = 60 if objective != "mlm_sop" else 120  # factorised embeddings learn slower
    summary = pretrain(make_build(root, pretrain_section(objective, steps=steps)), objective)
    log = [json.loads(line) for line in Path(root, "models", objective, "metrics.jsonl").read_text().splitlines()]
    rows = [row for row in log if "loss" in row]
    assert [row["step"] for row in rows] == list(range(1, steps + 1))
    start, end = STARTS[objective]
    # T5 draws its tied embeddings with variance 1, so the logit of a token's own input stands out at first
    assert rows[0]["loss"] == pytest.approx(start, rel=0.15 if objective == "span_corruption" else 0.04)
    assert summary["evaluation"]["loss"] < end
    assert {"lr", "grad_norm", "tokens_per_second", "mfu"} <= set(rows[0])


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_result_opens_with_transformers(root: str, objective: str) -> None:
    summary = pretrain(make_build(root, pretrain_section(objective, steps=2)), objective)
    folder = f"{root}/models/{objective}"
    model = AutoModel.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    inputs = tokenizer("the cat sees the dog.", return_tensors="pt", return_token_type_ids=False)
    if model.config.is_encoder_decoder:
        inputs["decoder_input_ids"] = inputs["input_ids"]
    assert model(**inputs).last_hidden_state.shape == (1, 21, 32)
    assert files.read_json(f"{folder}/summary.json") == summary


def test_a_current_model_is_not_trained_again_and_a_changed_recipe_is(root: str) -> None:
    calls: list[int] = []

    def count(step: int, _total: int, _metrics: dict) -> None:
        calls.append(step)

    section = pretrain_section(steps=4)
    first = pretrain(make_build(root, section), "causal", count)
    assert calls == [2, 4]
    assert pretrain(make_build(root, section), "causal", count) == first
    assert calls == [2, 4]
    changed = pretrain(make_build(root, pretrain_section(steps=6)), "causal", count)
    assert changed["fingerprint"] != first["fingerprint"]
    assert calls == [2, 4, 2, 4, 6]  # from the start: the stale checkpoint at step 4 is another run's


@pytest.mark.parametrize(
    "changed",
    [{"log_every": 1}, {"eval_every": 2}, {"checkpoint_every": 2}, {"keep_last": 1}, {"micro_batch": 4}],
    ids=lambda fields: next(iter(fields)),
)
def test_how_a_run_is_carried_out_does_not_train_it_again(root: str, changed: dict) -> None:
    """Neither a finished one, nor the steps of one that was stopped."""
    finished = pretrain(make_build(root, pretrain_section(steps=8)), "causal")
    steps: list[int] = []
    build = make_build(root, pretrain_section(steps=8, **changed))
    assert pretrain(build, "causal", lambda step, *_: steps.append(step)) == finished
    shutil.rmtree(f"{root}/models/causal")
    shutil.rmtree(f"{root}/work/pretrain/causal/step-00000008")
    resumed = pretrain(build, "causal", lambda step, *_: steps.append(step))
    assert min(steps) > 4  # the checkpoint of step 4 is this run's
    assert resumed["fingerprint"] == finished["fingerprint"]


def test_another_measure_of_held_out_text_measures_again_without_training(root: str) -> None:
    pretrain(make_build(root, pretrain_section(steps=4, eval_tokens=100)), "causal")
    steps: list[int] = []
    build = make_build(root, pretrain_section(steps=4, eval_tokens=200))
    found = pretrain(build, "causal", lambda step, *_: steps.append(step))
    assert steps == []
    shutil.rmtree(f"{root}/models")
    shutil.rmtree(f"{root}/work")
    assert found["evaluation"] == pretrain(build, "causal")["evaluation"]


def test_bits_per_byte_are_the_cost_of_every_token_over_the_bytes_of_the_text(root: str) -> None:
    section = pretrain_section(steps=2, eval_tokens=200)
    summary = pretrain(make_build(root, section), "causal")
    found = summary["evaluation"]
    assert 0 < found["tokens"] <= 200
    assert found["bytes"] == found["tokens"] - found["documents"]  # one token a byte, and the end token of each
    assert found["bits_per_byte"] == pytest.approx(found["loss"] * found["tokens"] / math.log(2) / found["bytes"])


def test_held_out_loss_does_not_depend_on_the_micro_batch(root: str) -> None:
    losses = []
    for micro in (8, 2):
        build = make_build(root, pretrain_section(steps=2, micro_batch=micro))
        losses.append(pretrain(build, "causal")["evaluation"]["loss"])
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


def test_an_unknown_run_is_named_with_those_there_are(root: str) -> None:
    with pytest.raises(MillError, match="no run 'gpt'; it has causal"):
        pretrain(make_build(root, pretrain_section()), "gpt")


def test_a_checkpoint_holds_no_pickle(root: str) -> None:
    pretrain(make_build(root, pretrain_section(steps=4)), "causal")
    names = {path.name for path in Path(root, "work/pretrain/causal").rglob("*") if path.is_file()}
    names = {name for name in names if not name.endswith(".xxh3")}  # checksums, which are text
    board = {name for name in names if name.startswith("events.out.tfevents")}
    assert names - board == {"model.safetensors", "optimiser.safetensors", "state.json", "metrics.jsonl"}
    assert torch.get_default_dtype() == torch.float32


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json"])
def test_a_model_that_lost_a_file_is_made_again(root: str, name: str) -> None:
    build = make_build(root, pretrain_section("causal", steps=2))
    first = pretrain(build, "causal")
    lost = Path(root, "models", "causal", name)
    content = lost.read_bytes()
    assert pretrain(build, "causal") == first
    lost.unlink()
    assert pretrain(build, "causal")["evaluation"] == first["evaluation"]
    assert lost.read_bytes() == content
    lost.write_bytes(content[:-1])
    pretrain(build, "causal")
    assert lost.read_bytes() == content
