"""A finished build of Python's documentation with tokenizers and packed tokens, at ``data/builds/demo`` of a folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.build.build import Build
from pipeline.store import files
from tests.helpers import asking

TOKENIZERS = [
    {"name": "bpe", "algorithm": "bpe", "vocab_size": 500},
    {"name": "unigram", "algorithm": "unigram", "vocab_size": 500},
]


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="session")
def built(home: Path) -> Build:
    recipe = asking.values(home, name="demo", tokenizers=TOKENIZERS)
    build = asking.make(recipe, home / "data" / "builds" / "demo")
    files.write_json(build.path("recipe.json"), build.recipe.model_dump(mode="json"))
    return build
