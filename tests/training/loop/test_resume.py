"""Kill it anywhere: a run that goes on from a checkpoint ends with the same bits as one that was never stopped."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pipeline.build.build import Build
from tests.training.conftest import make_build, pretrain_section
from training.batches import random_streams
from training.loop import loop
from training.pretraining.pretrain import pretrain
from training.recipe.objectives import OBJECTIVES
from training.recipe.sections import BuildRecipe


class Killed(BaseException):
    """Stands for the end of the process at a moment of the test's choice."""


def copy(packed_build: str, to: Path) -> str:
    shutil.copytree(packed_build, to)
    return str(to)


def weights(root: str, name: str) -> dict[str, torch.Tensor]:
    return load_file(f"{root}/models/{name}/model.safetensors")


def run_until(build: Build[BuildRecipe], name: str, step: int) -> None:
    def stop(at: int, _steps: int, _metrics: dict) -> None:
        if at >= step:
            raise Killed

    with pytest.raises(Killed):
        pretrain(build, name, stop)


def random_step(objective: str, low: int, high: int) -> int:
    """A step of the run, the objective's own: any from ``low`` to ``high``, drawn from a seeded generator."""
    return int(random_streams.generator("killed at", objective).integers(low, high + 1))


@pytest.mark.slow
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_run_killed_at_a_random_step_resumes_to_equal_weights(
    packed_build: str, tmp_path: Path, objective: str
) -> None:
    section = pretrain_section(objective, eval_every=3, log_every=1)
    whole, stopped = copy(packed_build, tmp_path / "whole"), copy(packed_build, tmp_path / "stopped")
    summary = pretrain(make_build(whole, section), objective)
    run_until(make_build(stopped, section), objective, random_step(objective, 1, 11))
    resumed = pretrain(make_build(stopped, section), objective)
    expected, found = weights(whole, objective), weights(stopped, objective)
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert resumed["evaluation"] == summary["evaluation"]
    assert resumed["trained_tokens"] == summary["trained_tokens"]


def test_the_log_of_a_resumed_run_names_every_step_once(packed_build: str, tmp_path: Path) -> None:
    root = copy(packed_build, tmp_path / "build")
    build = make_build(root, pretrain_section())
    run_until(build, "causal", 10)
    pretrain(build, "causal")
    rows = [json.loads(line) for line in Path(root, "models/causal/metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "loss" in row] == list(range(1, 13))


def test_dropout_is_drawn_again_alike(packed_build: str, tmp_path: Path) -> None:
    section = pretrain_section("mlm")
    section["model"] = {**section["model"], "hidden_dropout_prob": 0.2, "attention_probs_dropout_prob": 0.2}
    whole, stopped = copy(packed_build, tmp_path / "whole"), copy(packed_build, tmp_path / "stopped")
    pretrain(make_build(whole, section), "mlm")
    run_until(make_build(stopped, section), "mlm", 10)
    pretrain(make_build(stopped, section), "mlm")
    expected, found = weights(whole, "mlm"), weights(stopped, "mlm")
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_only_the_last_checkpoints_and_the_best_are_kept(packed_build: str, tmp_path: Path) -> None:
    root = copy(packed_build, tmp_path / "build")
    pretrain(make_build(root, pretrain_section(steps=20, keep_last=2, eval_every=20)), "causal")
    kept = sorted(path.name for path in Path(root, "work/pretrain/causal").glob("step-*"))
    assert kept == ["step-00000016", "step-00000020"]


def test_a_loss_that_is_not_finite_stops_with_step_documents_and_checkpoint(
    packed_build: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = copy(packed_build, tmp_path / "build")
    rate = loop.learning_rate
    monkeypatch.setattr(loop, "learning_rate", lambda c, step, n: float("inf") if step == 6 else rate(c, step, n))
    with pytest.raises(loop.Diverged) as caught:
        pretrain(make_build(root, pretrain_section()), "causal")
    message = str(caught.value)
    assert message.startswith("step 8: loss nan")  # the step after the one that spoiled the weights
    assert "train:" in message
    assert f"{root}/work/pretrain/causal/step-00000004" in message
    assert not Path(root, "models/causal").exists()


def forks(packed_build: str, folder: Path, *arguments: str) -> list[dict]:
    """What tests.helpers.killing prints."""
    copy(packed_build, folder / "build")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.helpers.killing", arguments[0], str(folder), *arguments[1:]]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.slow
def test_sigkill_at_a_random_step_and_the_same_command_again(packed_build: str, tmp_path: Path) -> None:
    """A process of its own is killed by the kernel: nothing is closed, flushed or tidied up."""
    objectives = ["causal", "mlm_sop", "electra", "span_corruption", "denoising"]
    runs = forks(packed_build, tmp_path, "steps", *(f"{name}={random_step(name, 6, 23)}" for name in objectives))
    assert [run["objective"] for run in runs] == objectives
    for run in runs:
        assert (run["signal"], run["published"], run["again"]) == (signal.SIGKILL, False, 0), run
        # the first checkpoint is of step 4: finished steps are not made again
        assert 4 < run["first"] <= run["step"] + 1, run
        assert run["same"], run


@pytest.mark.slow
def test_killed_at_any_moment_it_leaves_nothing_half_done_and_ends_with_equal_weights(
    packed_build: str, tmp_path: Path
) -> None:
    """What is on the disk before each file is made, renamed or removed: saving, pruning, publishing, logging."""
    *killed, undisturbed = forks(packed_build, tmp_path, "moments")
    assert (undisturbed["at"], undisturbed["again"]) == ("", 0)
    moments = " ".join(run["at"] for run in killed)
    for told in ("os.rename /work/pretrain/causal/.step-", "os.rename /work/pretrain/causal/step-", "optimiser.safe"):
        assert told in moments  # a save, a deletion, and the middle of one were among them
    for run in killed:
        assert {**run, "at": ""} == undisturbed, run
