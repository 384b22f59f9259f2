"""A stage is one file and a line in the registry: name, field, verdicts and canaries follow from these."""

from __future__ import annotations

import json
import subprocess
import sys

from pipeline.stages import registry

TOY = """
from typing import Annotated
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field
from pipeline.build.canaries import Canaries, Canary
from pipeline.build.stage import Batch, Measured, Stage
from pipeline.store import recipe_file
from pipeline.store.ledger import Rule

class Config(recipe_file.Config):
    most: Annotated[int, Field(description="exclamation marks that a text may hold")] = 1

def measure(config, batch):
    return Measured({"shouts": pc.count_substring(batch.texts, "!").cast(pa.int32())})

def plant(build, choices):
    return (lambda _host, rng=rng: Canary("Buy" + "!" * rng.randint(2, 9), "a shout") for rng in choices)

def caught(room, canaries):
    dropped = room.ledger("shouting")["dropped_by"].is_valid().to_pylist()
    return {name for name, row in room.rows(list(canaries)).items() if dropped[row]}

STAGE = Stage(
    name="shouting",
    title="Shouted texts",
    about="drop texts that shout",
    config=Config,
    version=1,
    signals={"shouts": pa.int32()},
    rules=lambda config: [Rule("shouting.most", "shouts", maximum=config.most)],
    measure=measure,
    canaries=Canaries("shouted texts", plant, caught, hosted=False),
)
"""
ADDED = """
import json, sys
from pathlib import Path
from pipeline.stages import registry
import toy
at = registry.NAMES.index("exact")
registry.STAGES = (*registry.STAGES[:at], toy.STAGE, *registry.STAGES[at:])  # the line in the registry
from pipeline.curation import recipe as recipes
from pipeline.report import canaries
from pipeline.stages import titles
from pipeline.store import files
from tests.helpers import building
recipe = recipes.parse(Path("recipe.yaml").read_text(), recipes.Recipe)
build, _ = building.make(recipe, Path("build").resolve())
funnel = files.read_json(build.path("funnel.json"))
print(json.dumps({
    "about": recipes.Recipe.model_fields["shouting"].description,
    "stages": [stage["stage"] for stage in funnel["stages"]],
    "title": titles.title("shouting"),
    "rule": titles.rule("shouting.most"),
    "canaries": [(row["planted"], row["caught"]) for row in canaries.canaries(build)["rows"]],
    "texts": sorted(text for text, *_ in building.curated(build).values()),
}))
"""


def test_a_stage_is_added_by_its_file_and_a_line_in_the_registry(tmp_path, pytestconfig):
    (tmp_path / "toy.py").write_text(TOY)
    texts = ["One quiet line of text.", "Buy! Now! And again!"]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    (tmp_path / "recipe.yaml").write_text(
        "name: toy\nsources: [{name: a, kind: jsonl, path: in.jsonl}]\n"
        "canaries: {documents: 3}\nshouting: {}\nexact: {}\n"
    )
    code = f"import sys; sys.path[:0] = [{str(pytestconfig.rootpath)!r}, {str(tmp_path)!r}]\n{ADDED}"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "about": "drop texts that shout",
        "stages": ["ingest", "shouting", "exact", "corpus"],
        "title": "Shouted texts",
        "rule": "most",
        "canaries": [["3 shouted texts", 3], ["nothing to plant", 0]],
        "texts": texts[:1],
    }


def test_canaries_are_made_of_documents_as_the_first_stage_that_compares_them_sees_them():
    assert registry.FIRST_TO_COMPARE == "exact"
    assert [stage.name for stage in registry.STAGES if stage.compares] == ["exact", "minhash", "passages", "substring"]
