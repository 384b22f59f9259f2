"""The examples of docs/plugins.md run as they stand."""

from __future__ import annotations

import json
import pickle
import re
from pathlib import Path

import pytest

import corpusmill
from pipeline.build.build import Build
from pipeline.curation import recipe as recipes
from pipeline.store import files
from tests.helpers import building
from training.finetuning.finetune import finetune
from training.pretraining import lineage
from training.pretraining.pretrain import pretrain
from training.recipe.sections import BuildRecipe

GUIDE = Path(__file__).parents[1] / "docs" / "plugins.md"


def section(title: str, folder: Path) -> None:
    """Write the files that a section of the guide shows, each a block that begins with its name, into ``folder``."""
    text = GUIDE.read_text("utf-8").partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    blocks = re.findall(r"^```(?:python|yaml)\n# (\S+)\n(.*?)^```", text, re.M | re.S)
    assert len(blocks) == 2
    for name, block in blocks:
        assert len([line for line in block.splitlines() if line]) <= 11
        (folder / name).write_text(block)


def built(folder: Path, *texts: str) -> Build:
    (folder / "notes.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    recipe = recipes.load(folder / "recipe.yaml", BuildRecipe)
    return building.make(recipe, folder / "build")[0]


def test_the_stage_of_the_guide_runs(tmp_path, monkeypatch):
    section("A stage", tmp_path)
    monkeypatch.chdir(tmp_path)
    build = built(tmp_path, "Buy! Now! Here!", "A quiet line!", "A quiet line!")
    assert [text for text, *_ in building.curated(build).values()] == ["A quiet line!"]
    assert build.stages == ("shouting", "exact")
    table = corpusmill.run_stage("shouting", {}, ["Well!", "No! No! No!"], plugins=["shouting.py"])
    assert table["dropped_by"].to_pylist() == [None, "shouting.shouts"]
    assert table["shouts"].to_pylist() == [1, 3]


def test_the_source_of_the_guide_runs(tmp_path, monkeypatch):
    section("A source", tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "may.diary").write_text("We sailed.\n* It rained.\n* We sailed.")
    build = built(tmp_path)
    kept = building.curated(build)
    assert "days/may.diary#2" in kept
    assert sorted(text for text, *_ in kept.values()) == ["It rained.", "We sailed."]


def test_the_objective_of_the_guide_trains_a_model_and_is_current_by_its_file(tmp_path, monkeypatch):
    section("An objective", tmp_path)
    monkeypatch.chdir(tmp_path)
    build = built(tmp_path, *(f"The {n}th note says {n * n} words of the weather and the sea. " * 5 for n in range(40)))
    summary = pretrain(build, "gpt")
    assert summary["objective"] == "smoothed"
    assert summary["evaluation"]["loss"] > 0
    files.write_json(build.path("recipe.json"), build.recipe.model_dump(mode="json"))
    lineage.of_model(build.path("models", "gpt"))  # opens with the plug-in
    (run,) = build.recipe.pretrain
    assert pickle.loads(pickle.dumps(run)) == run  # noqa: S301
    assert pickle.loads(pickle.dumps(build.recipe)) == build.recipe  # noqa: S301
    assert pretrain(build, "gpt") == summary  # reused
    plug_in = tmp_path / "smoothed.py"
    plug_in.write_text(plug_in.read_text().replace("0.1", "0.2"))
    changed = Build(build.root, recipes.load(tmp_path / "recipe.yaml", BuildRecipe))
    again = pretrain(changed, "gpt")
    assert again["fingerprint"] != summary["fingerprint"]
    assert again["evaluation"]["loss"] != summary["evaluation"]["loss"]


@pytest.mark.slow
def test_the_task_of_the_guide_tunes_a_model_and_is_current_by_its_file(tmp_path, monkeypatch):
    section("A fine-tuning task", tmp_path)
    monkeypatch.chdir(tmp_path)
    lines = [
        {"text": f"The {n}th {kind} is {n * n} miles from {kind} harbour. " * 3, "topic": kind}
        for n in range(30)
        for kind in ("ship", "star")
    ]
    (tmp_path / "notes.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    build = building.make(recipes.load(tmp_path / "recipe.yaml", BuildRecipe), tmp_path / "build")[0]
    pretrain(build, "bert")
    summary = finetune(build, "kinds")
    assert (summary["task"], summary["like"]) == ("careful", "classify")
    assert "accuracy" in summary["scores"]["model"]
    (run,) = build.recipe.finetune
    assert pickle.loads(pickle.dumps(run)) == run  # noqa: S301
    assert finetune(build, "kinds") == summary  # reused
    plug_in = tmp_path / "careful.py"
    plug_in.write_text(plug_in.read_text().replace("0.2", "0.4"))
    changed = Build(build.root, recipes.load(tmp_path / "recipe.yaml", BuildRecipe))
    pretrain(changed, "bert")
    again = finetune(changed, "kinds")
    assert again["fingerprint"] != summary["fingerprint"]
    losses = [made["evaluation"]["loss"] for made in (summary, again)]
    assert losses[0] != losses[1]
