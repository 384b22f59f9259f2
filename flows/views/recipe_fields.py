"""Every field that a recipe may hold, read off the models that check it; so it is never out of date."""

from __future__ import annotations

import inspect
import types
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, RootModel
from pydantic_core import PydanticUndefined
from rich.console import Group, RenderableType
from rich.padding import Padding

from flows.execution.terminal import Text
from pipeline import MillError
from training.recipe.sections import BuildRecipe


@dataclass(frozen=True)
class Field:
    """One field: its dotted name, type and default as a recipe would write them, and what it is for."""

    name: str
    type: str
    default: str
    about: str


def sections(recipe: type[BuildRecipe] = BuildRecipe) -> list[Field]:
    """The top-level fields of a recipe, in order; of ``recipe`` with the plug-ins that it has."""
    return [Field(name, "", "", field.description or "") for name, field in recipe.model_fields.items()]


def kinds(section: str, recipe: type[BuildRecipe] = BuildRecipe) -> list[Field]:
    """What an entry of the section may be, by its ``kind``; empty where all entries have the same fields."""
    return [
        Field(f"{section}.{kind}", "", "", model.model_fields["kind"].description or "")
        for kind, model in _kinds(_section(section, recipe)).items()
    ]


def fields(place: str, recipe: type[BuildRecipe] = BuildRecipe) -> list[Field]:
    """The fields of a section, or of one kind of its entries (``sources.csv``), those of nested models after their own.

    Raises MillError for an unknown section or kind.
    """
    section, _, kind = place.partition(".")
    field = _section(section, recipe)
    if not kind:
        return list(_describe(section, field.annotation, field))
    return list(_inside(f"{section}[{kind}]", _kind(section, kind, recipe)))


def about(place: str, recipe: type[BuildRecipe] = BuildRecipe) -> str:
    """What the model of a section, or of one kind of its entries, says of itself."""
    section, _, kind = place.partition(".")
    models = [_kind(section, kind, recipe)] if kind else _models(_section(section, recipe).annotation)
    return "\n\n".join(inspect.getdoc(model) or "" for model in models if model.__doc__ != BaseModel.__doc__).strip()


def fields_view(fields: Sequence[Field]) -> RenderableType:
    """Each field's name, type and default on a line of its own, and below it what it is for; no name is cut."""
    parts: list[RenderableType] = []
    for field in fields:
        parts.append(Text(field.name, "bold", no_wrap=True, overflow="ignore"))
        default = field.default if field.default in ("", "required") else f"default {field.default}"
        for text in filter(None, (", ".join(filter(None, (field.type, default))), field.about)):
            parts.append(Padding(Text(text), (0, 0, 0, 4)))
    return Group(*parts)


def _section(name: str, recipe: type[BuildRecipe]) -> Any:
    if name not in recipe.model_fields:
        raise MillError(f"a recipe has no section {name!r}; there are: {', '.join(recipe.model_fields)}")
    return recipe.model_fields[name]


def _kinds(field: Any) -> dict[str, type[BaseModel]]:
    models = _models(field.annotation)
    kinds = {
        get_args(model.model_fields["kind"].annotation)[0]: model for model in models if "kind" in model.model_fields
    }
    return kinds if len(kinds) > 1 else {}


def _kind(section: str, kind: str, recipe: type[BuildRecipe]) -> type[BaseModel]:
    kinds = _kinds(_section(section, recipe))
    if kind not in kinds:
        known = f"there are: {', '.join(kinds)}" if kinds else "it has none"
        raise MillError(f"section {section!r} has no kind {kind!r}; {known}")
    return kinds[kind]


def _describe(name: str, annotation: Any, field: Any) -> Iterator[Field]:
    models = _models(annotation)
    listed = "list[" in str(annotation)
    yield Field(name, _type(annotation), _default(field), field.description or "")
    for model in models:
        kind = model.model_fields["kind"].annotation if "kind" in model.model_fields else None
        label = f"{name}[{get_args(kind)[0]}]" if kind and len(models) > 1 else f"{name}[]" if listed else name
        yield from _inside(label, model)


def _inside(label: str, model: type[BaseModel]) -> Iterator[Field]:
    for key, inner in model.model_fields.items():
        own = "<name>" if issubclass(model, RootModel) else key  # the user's names and their values
        yield from _describe(f"{label}.{own}", _item(inner.annotation) if own != key else inner.annotation, inner)


def _item(annotation: Any) -> Any:
    """What a mapping of names holds."""
    return get_args(annotation)[1]


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return list(dict.fromkeys(model for argument in get_args(annotation) for model in _models(argument)))


def _type(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type(arguments[0])
    if origin is Literal:
        return " | ".join(str(value) for value in arguments)
    if origin in (Union, types.UnionType):
        return " | ".join(dict.fromkeys(_type(argument) for argument in arguments if argument is not type(None)))
    if origin in (list, tuple):
        return f"list of {_type(arguments[0])}"
    if origin is dict:
        return f"{_type(arguments[0])}: {_type(arguments[1])}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "section"
    return {"str": "text", "ByteSize": "size, such as 64MB"}.get(annotation.__name__, annotation.__name__)


def _default(field: Any) -> str:
    default = field.get_default(call_default_factory=True)
    if default is PydanticUndefined:
        return "required"
    if default is None:
        return ""
    if isinstance(default, BaseModel):
        return "{}"
    return str(default)
