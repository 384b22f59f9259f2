"""`mill fields`: every field of a recipe is explained, and no name is cut on a narrow terminal."""

from __future__ import annotations

import io
import re
from typing import get_args

import pytest
from pydantic import BaseModel
from rich.console import Console
from typer.testing import CliRunner

from flows.cli import app
from flows.views import recipe_fields
from pipeline import MillError
from pipeline.sources import Source
from tests.helpers import plugins
from training.recipe.sections import BuildRecipe

KINDS = ["csv", "environment", "hub", "jsonl", "parquet", "text", "warc"]


def _reachable(annotation: object) -> set[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        found = {annotation}
        for field in annotation.model_fields.values():
            found |= _reachable(field.annotation)
        return found
    return {model for argument in get_args(annotation) for model in _reachable(argument)}


def _shown(place: str) -> list[str]:
    output = io.StringIO()
    Console(file=output, width=80).print(recipe_fields.fields_view(recipe_fields.fields(place)))
    return output.getvalue().splitlines()


def test_every_field_is_explained_in_a_sentence():
    models = _reachable(BuildRecipe)
    assert len(models) > 40
    bare = [
        f"{model.__module__}.{model.__name__}.{name}"
        for model in models
        for name, field in model.model_fields.items()
        if len((field.description or "").split()) < 3
    ]
    assert not bare


@pytest.mark.parametrize("place", [*BuildRecipe.model_fields, *(f"sources.{kind}" for kind in KINDS)])
def test_no_name_is_cut_at_80_columns(place: str):
    lines = _shown(place)
    assert not [line for line in lines if "…" in line]
    assert [line.rstrip() for line in lines if line[:1].strip()] == [
        field.name for field in recipe_fields.fields(place)
    ]


def test_each_kind_of_source_is_listed_with_a_sentence():
    listed = recipe_fields.kinds("sources")
    assert {field.name.removeprefix("sources.") for field in listed} == {
        get_args(model.model_fields["kind"].annotation)[0] for model in _reachable(Source)
    }
    assert sorted(field.name.removeprefix("sources.") for field in listed) == KINDS
    assert all(len(field.about.split()) >= 3 for field in listed)


def test_a_kind_has_its_own_fields_and_those_all_sources_share():
    names = [field.name for field in recipe_fields.fields("sources.csv")]
    assert {"sources[csv].delimiter", "sources[csv].text_field", "sources[csv].path"} <= set(names)
    assert not [name for name in names if "[csv]" not in name]


@pytest.mark.parametrize("place", ["nothing", "sources.docx", "exact.csv"])
def test_an_unknown_place_names_the_known_ones(place: str):
    with pytest.raises(MillError, match=r"there are|it has none"):
        recipe_fields.fields(place)


def test_the_section_of_a_plug_in_is_shown_beside_the_others(tmp_path):
    (tmp_path / "my_stage.py").write_text(plugins.STAGE)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("name: x\nplugins: [my_stage.py]\nsources: [{name: a, kind: text, path: a}]\n")
    shown = CliRunner().invoke(app, ["fields", "--recipe", str(recipe)])
    assert re.search(r"^shouting *\n +drop texts that shout *$", shown.output, re.M)
    shown = CliRunner().invoke(app, ["fields", "shouting", "--recipe", str(recipe)])
    assert re.search(r"^shouting\.most *\n +int, default 1 *\n +exclamation marks that a text", shown.output, re.M)
    assert "there are: " in CliRunner().invoke(app, ["fields", "shouting"]).output
