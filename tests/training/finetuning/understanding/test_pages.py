from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import ValidationError

from pipeline.store import files
from tests.training.finetuning.understanding.conftest import classified, job_on, tagged
from training.finetuning import finetune
from training.finetuning.job import Job
from training.finetuning.understanding import pages
from training.recipe.finetuning import FinetuneConfig


def asking(job: Job, *pages: str, **changed) -> Job:
    return replace(job, config=job.config.model_copy(update={"understand": list(pages), **changed}))


def test_pages_are_added_to_a_model_that_is_there_and_made_once(
    bert: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = job_on(classified(), bert, tmp_path)
    plain = finetune.run(job)
    assert "understanding" not in plain
    assert FinetuneConfig.model_validate({"name": "x", "base": "x", "label": "x"}).understand == []
    monkeypatch.setattr(finetune.loop, "train", lambda *_: pytest.fail("it was trained again"))
    found = finetune.run(asking(job, "attention"))
    assert found["fingerprint"] == plain["fingerprint"]
    both = finetune.run(asking(job, "attention", "probes", "pooling"))
    assert both["understanding"]["attention"] == found["understanding"]["attention"]
    assert files.read_json(f"{job.result}/summary.json") == both
    monkeypatch.setattr(pages, "_MAKERS", {})
    assert finetune.run(asking(job, "probes", "attention")) == both
    assert finetune.run(job) == both


@pytest.mark.slow
def test_another_model_has_pages_of_its_own(bert: str, tmp_path: Path) -> None:
    job = asking(job_on(tagged(), bert, tmp_path), "bound")
    first = finetune.run(job)
    second = finetune.run(asking(job, "bound", epochs=3))
    assert first["understanding"]["bound"]["made_by"] != second["understanding"]["bound"]["made_by"]
    assert first["understanding"]["bound"]["distance"] != second["understanding"]["bound"]["distance"]


@pytest.mark.slow
def test_the_best_of_several_runs_has_the_pages(bert: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    monkeypatch.setitem(pages._MAKERS, "attention", lambda job, _summary: made.append(job) or {"texts": 1})
    job = job_on(classified(), bert, tmp_path, compare=["features", "bitfit"], epochs=1, understand=["attention"])
    assert finetune.run(job)["understanding"]["attention"]["texts"] == 1
    assert len(made) == 1


def test_a_page_that_the_task_has_not_is_refused() -> None:
    entry = {"name": "x", "base": "x", "label": "x", "data": {"train": "x.csv"}, "task": "regression"}
    with pytest.raises(ValidationError, match=r"`understand` names probes, which is of the task classify or tokens"):
        FinetuneConfig.model_validate({**entry, "understand": ["attention", "probes"]})
