from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.build.build import Build
from pipeline.store import files
from tests.training.conftest import recipe
from training import objectives
from training.batches.vocabulary import Vocabulary
from training.budget.laws import Law
from training.models import architectures
from training.objectives.base import Task
from training.pretraining.pretrain import pretrain
from training.recipe.sections import BuildRecipe, LadderConfig
from training.studies import fit_laws, ladder

SECTION: dict[str, Any] = {
    "tokenizer": "bytes",
    "compute": [3e9, 6e9],
    "widths": [32, 64, 96],
    "layer_width": 96,
    "sequence_length": 32,
    "batch_size": 4,
    "min_steps": 2,
    "max_epochs": 100,
    "bootstrap": 20,
    "eval_tokens": 500,
    "precision": "fp32",
}


@pytest.fixture(autouse=True)
def _fewer_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is made of a fit is tested here; test_fit_laws.py tests the fit, from all its starts."""
    monkeypatch.setattr(fit_laws, "_TRIED", 20)


def climbing(root: str, **changes: Any) -> Build[BuildRecipe]:
    return Build(root, recipe(ladder={**SECTION, **changes}))


def test_every_run_spends_its_compute(packed_build: str) -> None:
    planned = ladder.plan(climbing(packed_build))
    assert len(planned.rungs) + len(planned.left_out) == 6
    for rung in planned.rungs:
        model = objectives.load("causal").create(Task(rung.config, Vocabulary(260, eos=256), 0))
        flops = architectures.flops_per_token(objectives.load("causal").checkpoint(model), 32)
        step = 4 * 32 * flops
        assert abs(rung.tokens * flops - rung.compute) <= 0.5 * step
        assert rung.tokens == rung.config.steps * 4 * 32  # type: ignore[operator]
        padding = (320 - 257) * rung.width * (1 if rung.config.shape["type"] == "gpt2" else 2)  # is not published
        assert rung.parameters == sum(parameter.numel() for parameter in model.parameters()) - padding


def test_runs_not_worth_training_are_left_out_with_the_reason(packed_build: str) -> None:
    planned = ladder.plan(climbing(packed_build, compute=[2e7, 3e9, 6e9, 1e12], max_epochs=50, min_steps=4))
    reasons = set(planned.left_out.values())
    assert any("fewer than min_steps 4" in reason for reason in reasons)
    assert any("more than max_epochs 50" in reason for reason in reasons)
    trained = {rung.config.name for rung in planned.rungs}
    assert trained.isdisjoint(planned.left_out)
    with pytest.raises(ValueError, match="a law needs 6") as refused:
        ladder.plan(climbing(packed_build, compute=[1e12]))
    assert "epochs are more than max_epochs" in str(refused.value)


def made_of(law: Law) -> list[dict[str, Any]]:
    """Rows of a ladder whose losses are exactly those of ``law``; compute is 6 N D."""
    rows = []
    for compute in (1e15, 3e15, 1e16, 3e16):
        best = law.optimum(compute)[0]
        for factor in np.exp(np.linspace(-0.8, 0.8, 7)):
            n = best * factor
            d = compute / 6 / n
            rows.append(
                {
                    "name": f"{compute}-{n}",
                    "compute": compute,
                    "width": round(n**0.5),
                    "parameters": round(n),
                    "tokens": d,
                    "loss": law.loss(n, d),
                }
            )
    return rows


@pytest.mark.slow
def test_the_analysis_gives_back_the_law_predicts_the_next_size_and_warns_a_decade_beyond_the_runs() -> None:
    law = Law("made up", E=1.7, A=300.0, B=500.0, alpha=0.35, beta=0.35)
    found = ladder.analyse(made_of(law), LadderConfig(tokenizer="bytes", bootstrap=20, predict=[10.0, 1000.0]))
    for name, value in found["law"].items():
        assert value == pytest.approx(getattr(law, name), rel=0.01)
    next_size, _ = found["next"]
    n, d = law.optimum(3e17)
    assert (next_size["parameters"], next_size["tokens"]) == pytest.approx((n, d), rel=0.02)
    assert next_size["loss"] == pytest.approx(law.loss(n, d), rel=1e-3)
    assert next_size["loss_interval"][0] <= next_size["loss"] * (1 + 1e-6)
    for curve in found["isoflop"]["curves"]:
        n, d = law.optimum(curve["compute"])
        assert curve["bracketed"]
        assert (curve["parameters"], curve["tokens"]) == pytest.approx((n, d), rel=1e-3)
    assert found["isoflop"]["exponent"] == pytest.approx(0.5, abs=1e-3)
    assert len(found["held_out"]) == 7
    for row in found["held_out"]:
        assert row["predicted"] == pytest.approx(row["loss"], rel=1e-3)
    assert len(found["warnings"]) == 2  # of N and of D a decade beyond the runs, and of nothing else
    assert all(line.startswith("at 3e+19 FLOP") for line in found["warnings"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kept", "told"), [(slice(0, 3), "larger models.*above"), (slice(4, 7), "smaller models.*below")]
)
def test_sizes_that_miss_the_best_one_are_told_with_those_to_add(kept: slice, told: str) -> None:
    law = Law("made up", E=1.7, A=300.0, B=500.0, alpha=0.35, beta=0.35)
    rows = made_of(law)
    best = {row["compute"]: law.optimum(row["compute"])[0] for row in rows}
    one_sided = [row for start in range(0, len(rows), 7) for row in rows[start : start + 7][kept]]
    end = (max if kept.start == 0 else min)(one_sided[:3], key=lambda row: row["parameters"])
    assert end["parameters"] < best[1e15] if kept.start == 0 else end["parameters"] > best[1e15]
    warnings = ladder.analyse(one_sided, LadderConfig(tokenizer="bytes", bootstrap=20, predict=[10.0]))["warnings"]
    assert [re.search(r"at (\S+) FLOP", line)[1] for line in warnings if re.search(told, line)] == [  # type: ignore[index]
        f"{compute:.2g}" for compute in sorted(best)
    ]
    assert f"`widths` {'above' if kept.start == 0 else 'below'} {end['width']} " in warnings[0]


@pytest.mark.slow
def test_an_exponent_that_the_runs_do_not_determine_is_warned_of() -> None:
    rows = made_of(Law("made up", E=1.7, A=300.0, B=500.0, alpha=0.35, beta=0.35))
    steep = [{**row, "loss": 2 + 1e35 * row["parameters"] ** -5.0 + 500 * row["tokens"] ** -0.35} for row in rows]
    warnings = ladder.analyse(steep, LadderConfig(tokenizer="bytes", bootstrap=20))["warnings"]
    assert any(line.startswith("alpha is fitted at 3,") for line in warnings)


@pytest.mark.slow
def test_absurd_predictions_are_left_out_and_said() -> None:
    """Losses that hardly depend on N: the law would have a model of a few parameters."""
    law = Law("made up", E=1.7, A=300.0, B=500.0, alpha=0.35, beta=0.35)
    rows = [{**row, "loss": 1.7 + 500 * row["tokens"] ** -0.35} for row in made_of(law)]
    found = ladder.analyse(rows, LadderConfig(tokenizer="bytes", bootstrap=20, predict=[10.0]))
    assert found["next"] == []
    (line,) = [line for line in found["warnings"] if "nothing is predicted" in line]
    assert line.startswith("at 3e+17 FLOP")


@pytest.mark.slow
def test_intervals_that_reach_beyond_reason_are_not_given() -> None:
    rows = made_of(Law("made up", E=1.7, A=300.0, B=500.0, alpha=0.35, beta=0.35))
    random = np.random.default_rng(0)
    noisy = [{**row, "loss": row["loss"] * float(np.exp(random.normal(0, 0.2)))} for row in rows]
    found = ladder.analyse(noisy, LadderConfig(tokenizer="bytes", bootstrap=20, predict=[10.0]))
    worst, sizes = max(row["loss"] for row in noisy), [row["parameters"] for row in noisy]
    for entry in found["next"]:
        assert entry["loss_interval"] is None or entry["loss_interval"][1] <= worst
        low, high = entry["parameters_interval"] or (min(sizes), max(sizes))
        assert min(sizes) / 100 <= low
        assert high <= max(sizes) * 100


@pytest.mark.slow
def test_e_at_the_edge_of_what_is_tried_is_warned_of() -> None:
    rows = made_of(Law("made up", E=1.7, A=300.0, B=500.0, alpha=0.35, beta=0.35))
    without = [{**row, "loss": row["loss"] - 1.7} for row in rows]
    warnings = ladder.analyse(without, LadderConfig(tokenizer="bytes", bootstrap=20))["warnings"]
    assert any(line.startswith("E is fitted at ") and "the edge of what is tried" in line for line in warnings)


@pytest.mark.slow
def test_a_ladder_is_trained_fitted_and_written(packed_build: str, tmp_path: Path) -> None:
    root = str(shutil.copytree(packed_build, tmp_path / "build"))
    build = climbing(root)
    planned = ladder.plan(build)
    runs = ladder.with_rungs(build, planned.rungs)
    summaries = [pretrain(runs, rung.config.name) for rung in planned.rungs]
    found = ladder.summarise(build, planned, summaries)
    assert files.read_json(build.path("scaling", "ladder.json")) == found
    for row, summary in zip(found["rows"], summaries, strict=True):
        assert (row["tokens"], row["parameters"]) == (summary["steps"] * 4 * 32, summary["parameters"]["total"])
        assert row["loss"] == summary["evaluation"]["loss"]
    assert set(found["law"]) == {"E", "A", "B", "alpha", "beta"}
    assert torch.tensor(list(found["law"].values())).isfinite().all()


def test_a_recipe_without_the_section_is_told_so(packed_build: str) -> None:
    with pytest.raises(ValueError, match="no `ladder` section"):
        ladder.plan(Build(packed_build, recipe()))
