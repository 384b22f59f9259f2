"""Several strategies, settings and seeds of one fine-tuning: what is chosen, and by which rows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from transformers import AutoModelForSequenceClassification

from pipeline.report import tables
from tests.training.finetuning.strategies.conftest import job
from training.finetuning.finetune import run
from training.finetuning.job import Job
from training.finetuning.strategies.base import WrongStrategy
from training.recipe.strategies import Grid

GRID = {"learning_rate": [1e-5, 3e-3], "batch_size": [32], "epochs": [1]}


def mislabelled(made: Job) -> Job:
    """``made`` with the labels of the test rows turned round."""
    labels = made.rows.test["label"].to_pylist()
    turned = pa.array(["sees" if label == "hears" else "hears" for label in labels])
    at = made.rows.test.column_names.index("label")
    return replace(made, rows=replace(made.rows, test=made.rows.test.set_column(at, "label", turned)))


@pytest.fixture(scope="module")
def compared(bases_of: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Job, dict[str, Any]]:
    made = job(
        tmp_path_factory.mktemp("several"), bases_of["bert"], "full", compare=["features", "bitfit"], grid=GRID, seeds=2
    )
    return made, run(made)


@pytest.mark.slow
def test_one_table_of_all_and_the_best_on_the_development_rows_is_published(
    compared: tuple[Job, dict[str, Any]],
) -> None:
    made, summary = compared
    assert [row["strategy"] for row in summary["strategies"]] == ["features", "bitfit"]
    assert len(summary["grid"]) == 4
    for row in summary["strategies"]:
        tried = [point for point in summary["grid"] if point["strategy"] == row["strategy"]]
        least = min(tried, key=lambda point: point["error"])
        assert row["setting"] == {name: least[name] for name in row["setting"]}
        assert row["over_seeds"]["runs"] == 2
    assert AutoModelForSequenceClassification.from_pretrained(made.result).num_labels == 2
    assert run(made) == summary  # current: read, not made again
    assert not Path(made.work, "runs").exists()
    assert [row[0] for row in tables.strategies(summary).rows] == ["features", "bitfit"]
    assert len(tables.grid(summary).rows) == 4


@pytest.mark.slow
def test_the_choice_does_not_look_at_the_test_rows(compared: tuple[Job, dict[str, Any]], tmp_path: Path) -> None:
    made, summary = compared
    other = run(mislabelled(replace(made, result=str(tmp_path / "model"), work=str(tmp_path / "work"))))
    assert other["grid"] == summary["grid"]
    for one, same in zip(other["strategies"], summary["strategies"], strict=True):
        assert one["setting"] == same["setting"]
        assert one["score"]["value"] == pytest.approx(1 - same["score"]["value"])


def test_the_ranges_are_those_of_the_paper() -> None:
    assert Grid().model_dump() == {"learning_rate": [2e-5, 3e-5, 5e-5], "batch_size": [16, 32], "epochs": [2, 3, 4]}


def test_a_strategy_that_does_not_fit_is_refused_before_another_is_trained(
    bases_of: dict[str, str], tmp_path: Path
) -> None:
    long = {"kind": "prompt", "tokens": 64}
    with pytest.raises(WrongStrategy, match="strategy prompt: 64 tokens"):
        run(job(tmp_path, bases_of["bert"], "full", compare=["bitfit", long]))
    assert not list(tmp_path.rglob("model.safetensors"))
    assert not list(tmp_path.rglob("metrics.jsonl"))
