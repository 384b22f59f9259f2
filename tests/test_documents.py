"""The documents for those who carry on name what is there."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import get_args

import pytest

from pipeline.tokenization.config import Script

ROOT = Path(__file__).parents[1]
PACKAGES = ("flows", "pipeline", "training")
DOCUMENTS = ("README.md", "CONTRIBUTING.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md"))))
TOPS = {path.name for path in ROOT.iterdir()}
#: What a build, `make` or the user makes, and so is in no checkout.
MADE = (".venv", "dist", "data/builds", "data/drop", "data/models", "pipeline/__pycache__")
#: Paths that stand for many, such as `pipeline/stages/NAME.py`.
PLACEHOLDER = re.compile(r"\bNAME\b")


def named(document: str) -> set[str]:
    """Paths that a document names between backticks, whole or followed by words: `make lint` and globs are none."""
    text = (ROOT / document).read_text("utf-8")
    text = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    words = {word for quoted in re.findall(r"`([^`\n]+)`", text) for word in quoted.split()}
    paths = {word.rstrip(".,;:") for word in words if re.fullmatch(r"[\w./-]+", word)}
    return {path for path in paths if path.split("/")[0] in TOPS or path.startswith("docs/")}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_path_that_is_named_exists(document):
    paths = {path for path in named(document) if not path.startswith(MADE) and not PLACEHOLDER.search(path)}
    assert paths
    assert [path for path in sorted(paths) if not (ROOT / path).exists()] == []


def test_every_room_has_its_sentence():
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    described = dict(re.findall(r"^\| `([\w/]+)/` \| (.+) \|$", text, re.MULTILINE))
    inits = [path for package in PACKAGES for path in (ROOT / package).glob("*/**/__init__.py")]
    rooms = {path.parent.relative_to(ROOT).as_posix() for path in inits}
    assert len(rooms) > 20
    assert described.keys() == rooms
    assert [room for room, sentence in described.items() if not re.fullmatch(r"[^|]{15,}\.", sentence)] == []


def test_every_file_outside_a_room_is_named():
    files = [path for package in PACKAGES for path in (ROOT / package).glob("*.py") if not path.name.startswith("__")]
    assert len(files) > 5
    text = named("docs/architecture.md")
    assert [path.name for path in files if path.relative_to(ROOT).as_posix() not in text] == []


def test_the_rooms_stand_in_the_order_of_the_contracts():
    """Each table of the document goes downwards, as the imports do."""
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]
    checked = [contract for contract in contracts if len(contract.get("containers", [])) == 1]
    assert {contract["containers"][0] for contract in checked} == set(PACKAGES)
    for contract in checked:
        (package,) = contract["containers"]
        rooms = re.findall(rf"^\| `{package}/(\w+)/`", text, re.MULTILINE)
        floors = {room.strip(): floor for floor, layer in enumerate(contract["layers"]) for room in layer.split(":")}
        assert rooms == sorted(rooms, key=lambda room: floors[room])


def test_the_first_page_answers_the_five_questions_with_places():
    page = (ROOT / "docs" / "architecture.md").read_text("utf-8").split("\n## ")[1]
    rows = [line for line in page.splitlines() if line.startswith("| Where")]
    assert len(rows) == 5
    for row in rows:
        assert [path for path in re.findall(r"`([\w/.]+)`", row) if (ROOT / path).is_file()], row


def test_the_guide_names_every_script_that_split_scripts_knows():
    sentence = re.search(
        r"`split_scripts: .*?`tokenizer\.json`", (ROOT / "docs" / "guide.md").read_text("utf-8"), re.DOTALL
    )
    assert sentence
    _, listed = sentence[0].split(" it names: ")
    assert re.findall(r"`(\w+)`", listed) == list(get_args(Script))
