"""The JSON Schema of a recipe, for editors and other programs; read off the models that check recipes."""

from __future__ import annotations

from typing import Any

from training.recipe.sections import BuildRecipe

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schema(recipe: type[BuildRecipe] = BuildRecipe) -> dict[str, Any]:
    """The schema (draft 2020-12) of recipes of the type ``recipe``, with the plug-ins that it has.

    It knows fields, types, choices and bounds. What fields say of one another, and of files, only `mill check` tells.
    """
    made = recipe.model_json_schema(by_alias=False)
    for part in made["$defs"].values():
        if "const" in (kind := part.get("properties", {}).get("kind", {})):
            kind.pop("default", None)
            part["required"] = sorted({*part.get("required", ()), "kind"})  # it says which of the kinds an entry is
    about = "A recipe of corpusmill: one YAML file that describes a build."
    return {"$schema": DIALECT, **made, "title": "Recipe", "description": about}
