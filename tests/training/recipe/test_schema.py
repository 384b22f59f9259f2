"""The JSON Schema of a recipe takes what the models take, and refuses what they refuse of types and names."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

import jsonschema
import pytest
import yaml

from pipeline.curation import recipe as recipes
from pipeline.store import recipe_file
from tests.helpers import asking
from training.recipe import strategies
from training.recipe.schema import schema
from training.recipe.sections import BuildRecipe

ROOT = Path(__file__).parents[3]
RECIPES = sorted((ROOT / "data" / "recipes").glob("*.yaml"))
SOURCES = {"name": "x", "sources": [{"name": "s", "kind": "text", "path": "*.txt"}]}


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    made = schema()
    jsonschema.Draft202012Validator.check_schema(made)
    assert made["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    return jsonschema.Draft202012Validator(made)


def faults(validator: jsonschema.Draft202012Validator, values: Any) -> list[str]:
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(values)]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipes_that_are_shipped_are_valid_and_so_is_what_a_build_stores_of_them(validator, path):
    _, values = recipe_file.read(recipe_file.read_file(path), str(path))
    assert faults(validator, values) == []
    stored = recipes.load(path, BuildRecipe).model_dump(mode="json")
    assert faults(validator, stored) == []


def test_recipes_of_other_tests_and_sections_of_the_guide_are_valid(validator, tmp_path):
    assert faults(validator, asking.values(tmp_path)) == []
    blocks = re.findall(r"^```yaml\n(.*?)^```", (ROOT / "docs" / "guide.md").read_text("utf-8"), re.M | re.S)
    assert blocks
    for block in blocks:
        _, values = recipe_file.read(block, "guide")
        assert faults(validator, {**SOURCES, **values}) == []


@pytest.mark.parametrize(
    "section",
    [
        {"canaries": False},
        {"canaries": "off"},
        {"minhash": None},
        {"heuristics": {"gopher_quality@datatrove": {}, "c4": {}}},
        {"heuristics": {"gopher_quality": {}, "c4@datatrove": {}}},
        {"shard_bytes": "64MB"},
        {"pretrain": [{"name": "m", "objective": "causal", "tokenizer": "t", "model": {"type": "gpt2"}, "steps": 9}]},
        {"finetune": [{"name": "f", "base": "./b", "label": "l", "strategy": "lora", "compare": ["full", "prompt"]}]},
        {"finetune": [{"name": "f", "base": "./b", "label": "l", "strategy": {"kind": "lora", "rank": 4}}]},
    ],
)
def test_each_way_to_write_a_field_is_known(validator, section):
    assert faults(validator, {**SOURCES, **section}) == []


@pytest.mark.parametrize(
    ("section", "place"),
    [
        ({"minhash": {"bnads": 3}}, r"\$\.minhash"),
        ({"sources": []}, r"\$\.sources"),
        ({"sources": [{"name": "s", "kind": "json", "path": "x"}]}, r"\$\.sources\[0\]"),
        ({"sources": [{"name": "s", "path": "x"}]}, r"\$\.sources\[0\]"),
        ({"error_budget": 7}, r"\$\.error_budget"),
        ({"seed": "many"}, r"\$\.seed"),
        ({"nosuch": {}}, r"nosuch"),
        ({"finetune": [{"name": "f", "base": "b", "label": "l", "strategy": "lroa"}]}, r"\$\.finetune\[0\]\.strategy"),
    ],
)
def test_a_wrong_recipe_fails_here_and_there(validator, section, place):
    values = {**SOURCES, **section}
    assert re.search(place, "\n".join(faults(validator, values)))
    with pytest.raises(recipe_file.WrongRecipe):
        recipes.checked(values, BuildRecipe)


def test_every_strategy_may_be_named_alone():
    short = set(get_args(strategies.Named))
    kinds = {get_args(kind.model_fields["kind"].annotation)[0] for kind in get_args(get_args(strategies.OneOf)[0])}
    assert short == kinds


def test_plugins_are_in_the_schema(tmp_path):
    (tmp_path / "shouting.py").write_text(
        re.findall(r"```python\n# shouting\.py\n(.*?)```", (ROOT / "docs" / "plugins.md").read_text("utf-8"), re.S)[0]
    )
    (tmp_path / "r.yaml").write_text(yaml.safe_dump({**SOURCES, "plugins": ["shouting.py"], "shouting": {}}))
    made = schema(type(recipes.load(tmp_path / "r.yaml", BuildRecipe)))
    values = {**SOURCES, "plugins": ["shouting.py"], "shouting": {}}
    assert faults(jsonschema.Draft202012Validator(made), values) == []
    assert faults(jsonschema.Draft202012Validator(schema()), values) != []
