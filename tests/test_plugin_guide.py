"""The examples of docs/plugins.md run as they stand."""

from __future__ import annotations

import json
import re
from pathlib import Path

import corpusmill
from pipeline.build.build import Build
from pipeline.curation import recipe as recipes
from tests.helpers import building
from training.recipe.sections import BuildRecipe

GUIDE = Path(__file__).parents[1] / "docs" / "plugins.md"


def section(title: str, folder: Path) -> None:
    """Write the files that a section of the guide shows, each a block that begins with its name, into ``folder``."""
    text = GUIDE.read_text("utf-8").partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    blocks = re.findall(r"^```(?:python|yaml)\n# (\S+)\n(.*?)^```", text, re.M | re.S)
    assert len(blocks) == 2
    for name, block in blocks:
        assert len([line for line in block.splitlines() if line]) <= 10
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
