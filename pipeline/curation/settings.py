"""Fields of a recipe that are set apart from its file: ``--set section.field=value``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml

from pipeline import MillError
from pipeline.curation import recipe as recipes
from pipeline.curation.recipe import Recipe
from pipeline.store import recipe_file

R = TypeVar("R", bound=Recipe)


class WrongSetting(MillError):
    """A setting that is not ``field=value``."""


def parse(settings: Iterable[str]) -> dict[str, Any]:
    """Dotted names to values, read as YAML: ``80`` a number, ``{en: 0.5}`` a mapping. Raises WrongSetting."""
    values: dict[str, Any] = {}
    for setting in settings:
        name, mark, value = setting.partition("=")
        if not mark or not name:
            raise WrongSetting(f"--set {setting}: give field=value, such as gopher_quality.min_words=80")
        try:
            _, values[name.strip()] = recipe_file.read(value, "")
        except recipe_file.WrongRecipe as error:
            raise WrongSetting(f"--set {setting}: the value is not valid YAML") from error
    return values


def with_settings(recipe: R, settings: Mapping[str, Any], folder: str | Path = ".") -> R:
    """``recipe`` with other values of the fields that ``settings`` names, dotted: ``language.keep.en``.

    The name of a rule (``gopher_quality.min_words``) may stand for the field of that name. Raises WrongRecipe, for an
    unknown field with the nearest. ``folder``: of the recipe's file, from which the paths of plug-ins go.
    """
    values = recipe.model_dump(mode="json")
    for name, value in settings.items():
        head, *rest = name.split(".")
        homes = [stage for stage in recipe.stages_before(None) if head in values[stage]]
        path = [homes[0], head, *rest] if head not in values and len(homes) == 1 else [head, *rest]
        section = values
        for key in path[:-1]:
            if not isinstance(section.setdefault(key, {}), dict):
                section[key] = {}
            section = section[key]
        section[path[-1]] = value
    return recipes.parse(yaml.safe_dump(values), type(recipe), name="", folder=folder)
