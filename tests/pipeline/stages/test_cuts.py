"""Every stage that cuts or overwrites text leaves words of the text, and no two of them as one."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest

from pipeline.build.build import Build, texts_before
from pipeline.curation.recipe import Recipe
from pipeline.stages.pii import PLACEHOLDERS
from pipeline.stages.registry import NAMES
from pipeline.store import ledger
from tests.helpers import building

#: Stages that cut, in their order. A new one comes here with a text that it cuts.
CUTTING = ["language", "heuristics", "pii", "passages", "substring", "decontaminate"]
SHARED = "The committee of the small town met again on a rainy day in spring to talk about its new bridge."
NOTICE = "Every visitor is asked to sign the guest book at the gate before they leave again."
QUESTION = "Which of the seven rivers that cross the northern plain carries the most water to the sea in summer"
GERMAN = "Der Ausschuss der kleinen Stadt traf sich an einem verregneten Tag, um über die neue Brücke zu reden."
FRENCH = "Le conseil de la petite ville se réunit encore un jour de pluie pour parler de son nouveau pont."


def page(number: int) -> str:
    """A page of its own words in which something of every sort is cut between two words that nothing else parts."""
    own = [
        f"{name}{chr(97 + number)} {chr(97 + number)}{name} tells of it" for name in ("river", "lake", "hill", "wood")
    ]
    return "\n".join(
        [
            f"The {own[0]}[12]beyond the fields[edit]and the old mill, as everybody in the valley knew very well.",
            GERMAN if number % 2 else FRENCH,
            f"Write to {own[1]}—jane.doe@example.org—or call 212-555-0142/or come by on any day of the week.",
            "MENU",
            "",
            f"The {own[2]}/{SHARED}/resources of the {own[2]} were not enough for what they had planned to do.",
            f"They asked {own[3]}-{QUESTION}-before they went home, and nobody in the room knew what to say.",
            f"This was the {own[0]} and the {own[3]} of the story. {NOTICE} So did {own[1]} this time.",
        ]
    )


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    folder: Path = tmp_path_factory.mktemp("cuts")
    lines = [json.dumps({"id": str(number), "text": page(number)}) for number in range(12)]
    (folder / "in.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "eval.jsonl").write_text(json.dumps({"question": QUESTION}) + "\n")
    evaluation = {"name": "eval", "path": str(folder / "eval.jsonl"), "question_fields": ["question"]}
    recipe = {
        "name": "cuts",
        "sources": [{"name": "web", "kind": "jsonl", "path": str(folder / "in.jsonl")}],
        "language": {"keep": {"*": 0}, "lines": {"keep": ["en"]}},
        "heuristics": {"c4": {}, "refinedweb": {"max_removed_words": None}},
        "pii": {},
        "passages": {"unit": "sentence", "length": 1, "minimum": 40},
        "substring": {"length": 15},
        "decontaminate": {"sets": [evaluation], "action": "cut_span"},
    }
    return building.make(Recipe.model_validate(recipe), folder / "build")[0]


def words(text: str) -> Counter[str]:
    for placeholder in PLACEHOLDERS.values():
        text = text.replace(placeholder, " ")
    return Counter(re.findall(r"\w+", text))


def texts(build: Build, stage: str | None) -> list[str]:
    found: list[str] = []
    for shard in build.shards():
        found += texts_before(build, shard, range(len(build.documents(shard))), stage).to_pylist()
    return found


@pytest.mark.parametrize("stage", CUTTING)
def test_what_a_stage_leaves_are_words_of_the_text(build, stage):
    later = [*build.stages[build.stages.index(stage) + 1 :], None][0]
    before, after = texts(build, stage), texts(build, later)
    changed = [pair for pair in zip(before, after, strict=True) if pair[0] != pair[1]]
    assert changed, f"{stage} cuts nothing here, so this test says nothing of it"
    for whole, left in changed:
        assert words(left) - words(whole) == Counter(), "words that were not there"
        assert len(left) < len(whole)
        assert not re.search(r"\n{3,}", left), "more than one empty line where something was cut"


def test_all_stages_that_cut_are_looked_at(build):
    with_edits = {
        stage
        for stage in build.stages
        for shard in build.shards()
        if {*ledger.EDIT_COLUMNS} & {*build.ledger(stage, shard).column_names}
    }
    assert with_edits == {*CUTTING} <= {*NAMES}
