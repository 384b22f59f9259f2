from __future__ import annotations

import errno
import math
import os
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from tests.training.conftest import make_build, pretrain_section
from training.batches.batch import Batch
from training.loop import checkpoint, loop, optimisers
from training.pretraining.pretrain import pretrain
from training.recipe.objectives import OBJECTIVES
from training.recipe.run import OptimiserConfig


@pytest.mark.slow
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_accumulation_is_the_whole_batch(packed_build: str, tmp_path: Path, objective: str) -> None:
    """1 x 32 = 4 x 8 = 32 x 1, though the micro-batches hold different numbers of targets."""
    found = {}
    for micro in (32, 8, 1):
        root = str(tmp_path / str(micro))
        shutil.copytree(packed_build, root)
        section = pretrain_section(objective, batch_size=32, micro_batch=micro, steps=3, sequence_length=24)
        # AdamW's first steps go by the sign of the gradient, which rounding may turn where it is 1e-9: hence epsilon.
        section["optimiser"] = {"learning_rate": 1e-3, "epsilon": 1e-4}
        pretrain(make_build(root, section), objective)
        found[micro] = load_file(f"{root}/models/{objective}/model.safetensors")
    for micro in (8, 1):
        for name, tensor in found[32].items():
            torch.testing.assert_close(found[micro][name], tensor, rtol=0, atol=1e-6)


def test_the_rate_rises_and_falls_as_stated() -> None:
    linear = OptimiserConfig(learning_rate=1.0, schedule="linear", warmup=0.1, floor=0.2)
    rates = [loop.learning_rate(linear, step, 100) for step in range(100)]
    np.testing.assert_allclose(rates[:10], np.arange(1, 11) / 10)
    np.testing.assert_allclose(rates[10:], 0.2 + 0.8 * (1 - np.arange(90) / 90))
    cosine = OptimiserConfig(learning_rate=1.0, schedule="cosine", warmup=0.0)
    assert loop.learning_rate(cosine, 0, 100) == 1.0
    assert loop.learning_rate(cosine, 50, 100) == pytest.approx(0.5)
    assert loop.learning_rate(cosine, 99, 100) < 1e-3


class Line(nn.Module):
    """y = w x + b, to follow the loop by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(1, 1))
        self.b = nn.Parameter(torch.zeros(1))


def work(**changed) -> loop.Work:
    def batch(step: int) -> Batch:
        x = np.full((4, 1), 1.0 + step, np.float32)
        return Batch({"x": x}, {"square": 4}, 4)

    def loss(model: nn.Module, arrays) -> dict[str, torch.Tensor]:
        assert isinstance(model, Line)
        return {"square": (arrays["x"] @ model.w + model.b - 3).square().sum()}

    values = {
        "batch": batch,
        "loss": loss,
        "weights": {"square": 1.0},
        "evaluate": lambda _measure: {"loss": 1.0},
        "documents": lambda step: [f"document {step}"],
        "flops_per_token": 1.0,
        **changed,
    }
    return loop.Work(**values)


def plan(folder: Path, **changed) -> loop.Plan:
    values = {"steps": 3, "seed": 0, "micro_batch": 2, "optimiser": OptimiserConfig(), "precision": "fp32", **changed}
    return loop.Plan(folder=str(folder), fingerprint="line", **values)


def test_the_step_is_adamw_on_the_clipped_gradient(tmp_path: Path) -> None:
    config = OptimiserConfig(learning_rate=0.1, warmup=0.0, clip=0.5, weight_decay=0.3)
    model, reference = Line(), Line()
    loop.train(model, work(), plan(tmp_path, optimiser=config))
    optimiser = torch.optim.AdamW(
        [{"params": [reference.w], "weight_decay": 0.3}, {"params": [reference.b], "weight_decay": 0.0}],
        betas=(config.beta1, config.beta2),
    )
    for step in range(3):
        for group in optimiser.param_groups:
            group["lr"] = loop.learning_rate(config, step, 3)
        optimiser.zero_grad()
        (torch.full((4, 1), 1.0 + step) @ reference.w + reference.b - 3).square().mean().backward()
        nn.utils.clip_grad_norm_(reference.parameters(), 0.5)
        optimiser.step()
    torch.testing.assert_close(model.w, reference.w)
    torch.testing.assert_close(model.b, reference.b)


def found_by(run: loop.Plan) -> list[checkpoint.Checkpoint]:
    return checkpoint.usable(run.folder, run.made_by, run.steps)


def kept_steps(folder: Path) -> list[int]:
    return sorted(int(path.name.removeprefix("step-")) for path in folder.glob("step-*"))


def test_the_best_checkpoint_outlives_later_ones(tmp_path: Path) -> None:
    losses = iter([3.0, 1.0, 2.0, 2.5, 2.4, 2.3])
    changed = work(evaluate=lambda _measure: {"loss": next(losses)})
    state = loop.train(Line(), changed, plan(tmp_path, steps=6, eval_every=1, checkpoint_every=1, keep_last=2))
    assert (state.best_step, state.best_loss) == (2, 1.0)
    assert kept_steps(tmp_path) == [2, 5, 6]


def test_checkpoints_of_another_run_are_passed_over(tmp_path: Path) -> None:
    loop.train(Line(), work(), plan(tmp_path))
    assert found_by(plan(tmp_path))
    assert found_by(replace(plan(tmp_path), fingerprint="another")) == []


@pytest.mark.parametrize(
    ("optimiser", "goes_on_from"),
    [
        ({"schedule": "constant", "warmup_steps": 2}, 8),  # from the end of the shorter run
        ({"schedule": "constant", "warmup": 0.5}, 0),  # the warm-up is longer in the longer run
        ({"schedule": "wsd", "warmup_steps": 2, "decay": 0.25}, 6),  # from where the decay began
        ({"schedule": "cosine", "warmup_steps": 2}, 2),  # from the end of the warm-up: only that is alike
        ({"schedule": "linear", "warmup_steps": 0}, 0),
    ],
)
def test_more_steps_go_on_from_the_last_checkpoint_whose_rates_are_the_same(
    tmp_path: Path, optimiser: dict, goes_on_from: int
) -> None:
    config = OptimiserConfig(learning_rate=0.1, **optimiser)
    whole, longer = Line(), Line()
    loop.train(Line(), work(), plan(tmp_path / "run", steps=8, checkpoint_every=2, keep_last=4, optimiser=config))
    wanted = plan(tmp_path / "run", steps=12, checkpoint_every=2, optimiser=config)
    assert max((entry.step for entry in found_by(wanted)), default=0) == goes_on_from
    loop.train(longer, work(), wanted)
    loop.train(whole, work(), plan(tmp_path / "whole", steps=12, optimiser=config))
    assert all(torch.equal(a, b) for a, b in zip(longer.parameters(), whole.parameters(), strict=True))


def test_the_checkpoint_before_the_decay_outlives_later_ones(tmp_path: Path) -> None:
    config = OptimiserConfig(schedule="wsd", decay=0.5, warmup_steps=0)
    loop.train(Line(), work(), plan(tmp_path, steps=10, checkpoint_every=3, keep_last=1, optimiser=config))
    assert kept_steps(tmp_path) == [5, 10]


def test_rates_of_the_schedules() -> None:
    def rates(**fields) -> list[float]:
        config = OptimiserConfig(learning_rate=1.0, **fields)
        return [round(loop.learning_rate(config, step, 10), 6) for step in range(10)]

    assert rates(schedule="constant", warmup_steps=4) == [0.25, 0.5, 0.75, *[1.0] * 7]
    assert rates(schedule="wsd", warmup=0.2, decay=0.4, floor=0.1) == [0.5, *[1.0] * 6, 0.775, 0.55, 0.325]
    assert rates(schedule="linear", warmup=0.0) == [1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1]


def test_a_checkpoint_of_another_shape_is_refused(tmp_path: Path) -> None:
    loop.train(Line(), work(), plan(tmp_path))
    last = found_by(plan(tmp_path))[-1]
    other = nn.Linear(3, 3)
    with pytest.raises(checkpoint.WrongCheckpoint, match=r"model\.safetensors: b does not fit"):
        checkpoint.restore(last, other, optimisers.make(other, OptimiserConfig()))


def test_tied_weights_are_stored_once_and_stay_tied(tmp_path: Path) -> None:
    table, head = nn.Embedding(4, 2), nn.Linear(2, 4, bias=False)
    head.weight = table.weight
    model = nn.Sequential(table, head)
    optimiser = optimisers.make(model, OptimiserConfig())
    model(torch.arange(4)).sum().backward()
    optimiser[0].step()
    snapshot = checkpoint.copied(1, model, optimiser)
    assert snapshot is not None
    saved = checkpoint.save(str(tmp_path), snapshot, "tied", {})
    assert set(load_file(saved.folder / "model.safetensors")) == {"0.weight"}
    before = table.weight.detach().clone()
    table.weight.data.zero_()
    checkpoint.restore(saved, model, optimiser)
    assert torch.equal(head.weight, before)
    assert head.weight is table.weight


def test_steps_go_on_while_a_checkpoint_is_written_and_do_not_change_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save, at_three = checkpoint.save, threading.Event()

    def slow(folder: str, snapshot: checkpoint.Snapshot, *of_run) -> checkpoint.Checkpoint:
        assert snapshot.step != 2 or at_three.wait(60), "no step was made while the second was written"
        return save(folder, snapshot, *of_run)

    def progress(step: int, *_: object) -> None:
        if step >= 3:
            at_three.set()

    monkeypatch.setattr(checkpoint, "save", slow)
    config = OptimiserConfig(learning_rate=0.1, schedule="constant", warmup_steps=0)
    run = plan(tmp_path / "run", steps=5, checkpoint_every=2, keep_last=3, log_every=1, optimiser=config)
    loop.train(Line(), work(), run, progress)
    assert kept_steps(tmp_path / "run") == [2, 4, 5]
    short, second = Line(), Line()
    loop.train(short, work(), plan(tmp_path / "short", steps=2, optimiser=config))
    checkpoint.restore_model(found_by(run)[0], second)
    assert all(torch.equal(a, b) for a, b in zip(short.parameters(), second.parameters(), strict=True))


def test_a_checkpoint_is_read_when_its_copies_have_arrived(tmp_path: Path) -> None:
    """On a GPU the tensors are still on their way when the loop goes on."""
    weights, moments = {"a": torch.zeros(3)}, {"exp_avg/a": torch.zeros(3)}

    class Arrival:
        def synchronize(self) -> None:
            weights["a"] += 1
            moments["exp_avg/a"] += 2

    snapshot = checkpoint.Snapshot(1, weights, moments, Arrival())  # type: ignore[arg-type]
    saved = checkpoint.save(str(tmp_path), snapshot, "late", {})
    assert load_file(saved.folder / "model.safetensors")["a"].tolist() == [1, 1, 1]
    assert load_file(saved.folder / "optimiser.safetensors")["exp_avg/a"].tolist() == [2, 2, 2]


@pytest.mark.parametrize("diverges", [False, True])
def test_a_checkpoint_that_cannot_be_written_ends_the_run_or_is_said_with_what_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, diverges: bool
) -> None:
    def full(*_: object) -> checkpoint.Checkpoint:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    rate = loop.learning_rate
    if diverges:
        monkeypatch.setattr(loop, "learning_rate", lambda c, step, n: math.inf if step == 2 else rate(c, step, n))
    with monkeypatch.context() as disk:
        disk.setattr(checkpoint, "save", full)
        with pytest.raises(loop.Diverged if diverges else OSError) as caught:
            loop.train(Line(), work(), plan(tmp_path, steps=6, checkpoint_every=2, log_every=1))
    said = " ".join([str(caught.value), *getattr(caught.value, "__notes__", [])])
    assert os.strerror(errno.ENOSPC) in said
    assert kept_steps(tmp_path) == []
    monkeypatch.undo()
    assert loop.train(Line(), work(), plan(tmp_path, steps=6, checkpoint_every=2)).step == 6


def test_the_gradient_norm_that_is_logged_is_the_one_before_clipping(tmp_path: Path) -> None:
    seen: list[dict] = []
    config = OptimiserConfig(clip=1e-3)
    loop.train(Line(), work(), plan(tmp_path, steps=1, optimiser=config), lambda *at: seen.append(at[2]))
    # loss = (w x + b - 3)^2 at w = b = 0, x = 1: both partial derivatives are -6
    assert seen[0]["grad_norm"] == pytest.approx(np.sqrt(72))
    assert seen[0]["loss"] == pytest.approx(9.0)


def test_what_is_left_at_the_end_of_an_evaluation_is_not_compiled_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes: list[tuple[int, ...]] = []

    def compiled(module: nn.Module, **_: object):
        def run(arrays):
            shapes.append(tuple(arrays["x"].shape))
            return module(arrays)

        return run

    monkeypatch.setattr(torch, "compile", compiled)
    rows = {"x": np.arange(7, dtype=np.float32)[:, None]}
    found: list[float] = []

    def evaluate(measure: loop.Measure) -> dict:
        found.append(float(measure(rows)["square"]))
        return {"loss": found[-1]}

    for name, asked in (("plain", False), ("compiled", True)):
        loop.train(Line(), work(evaluate=evaluate), plan(tmp_path / name, compile=asked, micro_batch=2))
    assert found[0] == found[1]
    assert set(shapes) == {(2, 1)}
    assert len(shapes) == 3 * 2 + 3  # steps of two micro-batches, and three of the four parts of the evaluation
