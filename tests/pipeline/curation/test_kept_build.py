"""A build made by an earlier version stays current: what it holds is not made again."""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path

import pytest
import tokenizers

from pipeline.curation import recipe as recipes
from tests.helpers import building

#: Made by version 0.1.0 in this folder, because the paths of sources are part of what documents are made from.
FOLDER = Path("/tmp/corpusmill-kept")
#: Steps that write what their items come to each time, and leave a file as it is where nothing in it changes.
ALWAYS = {"ingest.manifest", "decontaminate.report", "funnel"}

#: Steps that came later, and the beginnings of the files that they add.
LATER, ADDED = {"tokens.shards", "tokens.canaries", "tokens.account"}, ("tokens/account.json", "work/tokens.shards/")

#: The release of tokenizers that it was made with; another one makes tokenizers again, and what is packed with them.
ENGINE = "0.23.3"


@pytest.fixture
def kept(monkeypatch):
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    with tarfile.open(Path(__file__).with_name("kept_build.tar.xz")) as archive:
        archive.extractall(FOLDER, filter="data")
    monkeypatch.chdir(FOLDER)
    yield FOLDER
    shutil.rmtree(FOLDER)


def test_every_step_of_a_build_of_an_earlier_version_is_reused(kept):
    before = building.contents(kept / "build")
    recipe = recipes.load(kept / "recipe.yaml", recipes.Recipe)
    _, outcomes = building.make(recipe, kept / "build")
    made = {step for step, items in outcomes.items() if not all(item.reused for item in items)}
    engine = tokenizers.__version__ == ENGINE
    assert made <= ALWAYS | LATER | (
        set() if engine else {step for step in outcomes if step.startswith(("tokenizer", "tokens"))}
    )
    assert len(outcomes) > 40
    parts = () if engine else ("tokenizers/", "tokens/", "work/tokenizer")
    after = {
        name: content
        for name, content in building.contents(kept / "build").items()
        if not name.startswith(ADDED) and "/canaries/" not in name.removeprefix("work/")
    }
    assert after.keys() == before.keys()
    assert [name for name in before if after[name] != before[name] and not name.startswith(parts)] == []
