from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from pipeline.store import files
from tests.training.finetuning.understanding.conftest import classified, job_on, tagged
from training.finetuning.finetune import run
from training.finetuning.understanding import bound


def test_the_gap_is_the_formula() -> None:
    """By hand: distance 3, sigma 0.5, 1,000 rows, delta 0.05: KL 18, ln(2 sqrt(1000) / 0.05) = 7.1428."""
    assert bound.divergence(9.0, 0.5) == 18.0
    assert math.log(2 * math.sqrt(1000) / 0.05) == pytest.approx(7.1428, abs=1e-4)
    assert bound.gap(9.0, 0.5, 1000, 0.05) == pytest.approx(math.sqrt(25.1428 / 2000), abs=1e-6)
    assert bound.gap(0.0, 0.5, 1000, 0.05) == pytest.approx(math.sqrt(7.1428 / 2000), abs=1e-6)  # nothing moved


def test_the_gap_grows_with_distance_and_certainty_and_falls_with_rows() -> None:
    distances = [bound.gap(square, 0.1, 500, 0.05) for square in (0.0, 0.1, 1.0, 10.0)]
    rows = [bound.gap(1.0, 0.1, n, 0.05) for n in (100, 1_000, 10_000, 1_000_000)]
    deltas = [bound.gap(1.0, 0.1, 500, delta) for delta in (0.5, 0.1, 0.01)]
    assert distances == sorted(set(distances))
    assert rows == sorted(set(rows), reverse=True)
    assert deltas == sorted(set(deltas))


def test_hoeffding_holds_as_often_as_it_says() -> None:
    """Coins of several weights: in at most a tenth of the draws is the mean further above the sum."""
    draw = np.random.default_rng(0)
    weights = np.array([0.1] * 8 + [0.05] * 4)
    sums = (draw.random((20_000, len(weights))) < 0.3) @ weights
    above = 0.3 * weights.sum() - sums > bound.hoeffding(weights, 0.1)
    assert above.mean() <= 0.1
    assert bound.hoeffding(np.full(50, 1 / 50), 0.1) == pytest.approx(math.sqrt(math.log(10) / 100))


def test_groups_count_alike_whatever_their_size() -> None:
    assert bound._row_weights(["a", "b", "a", "a"]) == pytest.approx([1 / 6, 1 / 2, 1 / 6, 1 / 6])


@pytest.mark.parametrize("strategy", ["full", "features"])
def test_the_bound_of_a_run_is_made_of_what_it_states(bert: str, tmp_path: Path, strategy: str) -> None:
    job = job_on(classified(), bert, tmp_path, strategy=strategy, understand=["bound"])
    found = run(job)["understanding"]["bound"]
    each = found["delta"] / 2 / found["grid"]
    assert found["n"] == len(job.rows.train)
    assert found["kl"] == pytest.approx(found["distance"] ** 2 / (2 * found["sigma"] ** 2))
    assert found["gap"] == pytest.approx(
        math.sqrt((found["kl"] + math.log(2 * math.sqrt(found["n"]) / each)) / (2 * found["n"]))
    )
    assert found["sampling"] == pytest.approx(math.sqrt(math.log(2 / found["delta"]) / (2 * found["n"] / 8)))
    assert found["bound"] == pytest.approx(found["risk"] + found["sampling"] + found["gap"])
    assert found["vacuous"] == (found["bound"] >= 1)
    parts = sum(each**2 for each in found["distance_by_depth"].values())
    assert parts == pytest.approx(found["distance"] ** 2)
    above = {"full": 4, "features": 1}[strategy]  # embeddings, two layers, the head; or the head alone
    assert len(found["distance_by_depth"]) == above


def test_a_model_that_did_not_move_has_the_bound_without_divergence(bert: str, tmp_path: Path) -> None:
    job = job_on(tagged(), bert, tmp_path, understand=["bound"], optimiser={"learning_rate": 1e-60, "weight_decay": 0})
    found = run(job)["understanding"]["bound"]
    assert found["distance"] == found["kl"] == found["moved"] == 0
    assert found["risk"] == found["training_error"]
    n = found["n"]
    assert found["gap"] == pytest.approx(math.sqrt(math.log(2 * math.sqrt(n) * 2 * 13 / 0.05) / (2 * n)))


def test_weights_beside_the_base_have_no_bound(bert: str, tmp_path: Path) -> None:
    job = job_on(classified(), bert, tmp_path, strategy={"kind": "prompt", "tokens": 2}, understand=["bound"], epochs=1)
    assert "new weights" in run(job)["understanding"]["bound"]["why"]
    assert files.read_json(f"{job.result}/summary.json")["understanding"]["bound"]["why"]
