"""A file is added to a source of a finished build, removed or changed: what is made again, and what comes of it."""

from __future__ import annotations

import json
import pydoc_data.topics
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from pipeline.build.build import Build
from pipeline.curation import recipe as recipes
from pipeline.store import files, shards
from tests.helpers import building

TOPICS: dict[str, str] = pydoc_data.topics.topics
TEXTS = sorted(text for text in TOPICS.values() if 1000 < len(text) < 8000)[:48]

STAGES = {
    "language": {"keep": {"en": 0.3}},
    "heuristics": {"gopher_repetition": {}},
    "pii": {},
    "exact": {},
    "minhash": {},
    "passages": {},
    "substring": {},
    "index": True,
    "corpus": {"parquet": True},
}
#: The copy of a text that stands in the file 05 already, and words that stand nowhere else.
NEW = [
    TEXTS[5 * 4 + 1],
    "\n".join(f"The {word} of this new text is found nowhere else." for word in sorted(TOPICS)[:40]),
]


def _write(folder: Path, name: str, texts: list[str]) -> None:
    folder.mkdir(exist_ok=True)
    lines = [orjson.dumps({"text": text}) for text in texts]
    (folder / f"{name}.jsonl").write_bytes(b"\n".join(lines) + b"\n")


def _inputs(folder: Path) -> Path:
    for number in range(12):
        _write(folder, f"{number:02}", TEXTS[4 * number : 4 * number + 4])
    return folder


def _recipe(inputs: Path) -> recipes.Recipe:
    return recipes.parse(yaml.safe_dump(_values(inputs)), recipes.Recipe)


def _values(inputs: Path) -> dict[str, Any]:
    sources = [
        {"name": "other", "kind": "jsonl", "path": f"{inputs}/1*.jsonl"},
        {"name": "web", "kind": "jsonl", "path": f"{inputs}/0*.jsonl"},
    ]
    return {"name": "added", "shard_bytes": "24KiB", "sources": sources, **STAGES}


def _files(build: Build) -> dict[str, set[str]]:
    """Which files the shards of each part hold."""
    plans = {part: build.path("work", "ingest", f"{part}.files.json") for part in _parts(build)}
    return {part: {name for _, name, _ in files.read_json(path)["files"]} for part, path in plans.items()}


def _parts(build: Build) -> list[str]:
    return files.read_json(build.path("work", "ingest", "plan.json"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Inputs and their build, to be copied."""
    folder = tmp_path_factory.mktemp("finished")
    building.make(_recipe(_inputs(folder / "inputs")), folder / "build")
    return folder


@pytest.fixture
def inputs(finished) -> Iterator[Path]:
    """The finished build's inputs, to be changed: they are put back after the test."""
    yield finished / "inputs"
    shutil.rmtree(finished / "inputs")
    _inputs(finished / "inputs")


def _change(inputs: Path, name: str, what: str) -> None:
    if what == "removed":
        (inputs / f"{name}.jsonl").unlink()
    else:
        _write(inputs, name, NEW)


@pytest.mark.slow
@pytest.mark.parametrize("change", ["00x added", "05x added", "09x added", "1x added", "03 removed", "07 changed"])
def test_only_the_parts_with_the_file_are_measured_again_and_the_corpus_is_that_of_a_fresh_build(
    finished, inputs, tmp_path, change
):
    name, what = change.split()
    shutil.copytree(finished / "build", tmp_path / "build")
    build = Build(str(tmp_path / "build"), _recipe(inputs))
    before, was = _files(build), building.outputs(tmp_path / "build")
    _change(inputs, name, what)
    build = building.make(_recipe(inputs), tmp_path / "build", workers=2 if what == "changed" else 1)[0]
    after, now = _files(build), building.outputs(tmp_path / "build")

    neighbours = {
        file for held in (before, after) for part in held.values() if f"{name}.jsonl" in part for file in part
    }
    parts = {part for part, held in after.items() if held & neighbours}
    assert len(parts) <= 3 < len(after) / 2
    assert parts or what == "removed"  # it was a part by itself
    for folder in ("documents", "ledgers/language", "ledgers/heuristics", "ledgers/pii", "work/exact.hashes"):
        made = {path for path in now if path.startswith(f"{folder}/") and was.get(path) != now[path]}
        assert {path.removeprefix(f"{folder}/")[: -len("-000.arrow")] for path in made} - {"man"} == parts, folder

    later = ("ledgers/exact", "ledgers/minhash", "ledgers/passages", "ledgers/substring")
    others = {  # what the file holds decides on documents in these
        path.name.removesuffix("-000.arrow")
        for folder in later
        for path in (tmp_path / "build" / folder).glob("*.arrow")
        if (there := finished / "build" / folder / path.name).exists()
        and not shards.read_table(str(path)).equals(shards.read_table(str(there)))
    }
    assert len(others) <= 3
    for folder in (*later, "index/exact.hashes"):
        made = {path for path in now if path.startswith(f"{folder}/") and was.get(path) != now[path]}
        assert parts <= {path.removeprefix(f"{folder}/")[: -len("-000.arrow")] for path in made} <= parts | others, (
            folder
        )

    for folder in ("corpus/data-", "parquet/data-"):
        kept = {stamp for path, stamp in was.items() if path.startswith(folder)}
        written = [path for path, stamp in now.items() if path.startswith(folder) and stamp not in kept]
        assert bool(parts) <= len(written) <= len(parts | others), folder

    building.make(_recipe(inputs), tmp_path / "fresh")
    assert building.contents(tmp_path / "build") == building.contents(tmp_path / "fresh")


@pytest.mark.slow
def test_killed_after_a_file_was_added_it_resumes_to_the_bytes_of_a_fresh_build(finished, inputs, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(_values(inputs)))
    _change(inputs, "04x", "added")
    building.make(_recipe(inputs), tmp_path / "fresh")
    expected = building.contents(tmp_path / "fresh")
    command = [sys.executable, "-m", "tests.helpers.building", str(recipe)]
    shutil.copytree(finished / "build", tmp_path / "whole")
    whole = subprocess.run([*command, str(tmp_path / "whole")], capture_output=True, text=True, check=True)
    assert building.contents(tmp_path / "whole") == expected
    for step in ("ingest", "ingest.manifest", "minhash"):
        assert step in whole.stdout.split()
        root = Path(shutil.copytree(finished / "build", tmp_path / step))
        killed = subprocess.run([*command, str(root), f"{step}:0"], capture_output=True, check=True)
        assert json.loads(killed.stdout)["status"] == signal.SIGKILL
        building.make(_recipe(inputs), root)
        assert building.contents(root) == expected, step
