"""What plug-ins add to a recipe: a subclass of its model, which has their sections beside the program's own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args

from pydantic import create_model

from pipeline import MillError
from pipeline.build.plugins import Part, Plugin, added, find, installed, parts
from pipeline.build.stage import Stage
from pipeline.sources import READERS
from pipeline.sources.reader import Reader
from pipeline.stages import registry, titles
from pipeline.store.recipe_file import Misfit

if TYPE_CHECKING:
    from pipeline.curation.recipe import Recipe

R = TypeVar("R", bound="Recipe")


@cache
def with_plugins(model: type[R], plugins: tuple[Plugin, ...]) -> type[R]:
    """``model``, Recipe or a subclass, with all that ``plugins`` add. Raises MillError where something does not fit."""
    if not plugins:
        return model
    for plugin in plugins:
        if not parts(plugin, Part):
            raise MillError(
                f"{plugin}: it makes no Stage, Reader, Objective or FinetuningTask at module level (docs/plugins.md)"
            )
    made = create_model(model.__name__, __base__=model, __module__=model.__module__, **model.added_fields(plugins))
    made.registered = registry.with_plugins(added(plugins, Stage, registry.STAGES))
    made.readers = {**model.readers, **{reader.name: reader for reader in readers(plugins)}}
    made.loaded = plugins
    titles.TITLES.update({stage.name: stage.title for stage in made.registered})
    titles.SUBJECTS.update(stage.name for stage in made.registered if stage.subject)
    return made


def readers(plugins: Iterable[Plugin]) -> list[Reader]:
    """The kinds of sources that ``plugins`` add. Raises MillError for one that does not fit."""
    kinds = added(plugins, Reader, ())
    for reader in kinds:
        if reader.name in READERS:
            raise MillError(f"{reader.plugin}: the name {reader.name!r} is taken; give the kind of source another name")
        kind = reader.config.model_fields.get("kind")
        if kind is None or get_args(kind.annotation) != (reader.name,) or kind.default != reader.name:
            line = f'kind: Literal["{reader.name}"] = "{reader.name}"'
            raise MillError(f"{reader.plugin}: {reader.config.__name__} needs the field `{line}`; add it")
    return kinds


def empty(model: Any, plugins: tuple[Plugin, ...]) -> Recipe:
    """A recipe without its state, for pickle."""
    known = with_plugins(model, plugins)
    return known.__new__(known)


def resolve(values: dict[str, Any], model: type[R], folder: str | Path) -> tuple[dict[str, Any], type[R]]:
    """``values`` of a recipe in ``folder`` with each plug-in as it is stored, and ``model`` with what they add: those
    that ``plugins`` lists, and those of installed packages that are named where they are used.

    Raises Misfit.
    """
    listed = values.get("plugins", [])
    if not isinstance(listed, list) or not all(isinstance(entry, str) for entry in listed):
        return values, model  # the model says what is wrong
    plain: Any = model.__base__ if model.loaded else model
    known: type[R] = plain
    plugins: list[Plugin] = []
    for at, entry in enumerate(listed):
        with _field("plugins", at):
            plugins.append(find(entry, folder))
            known = with_plugins(plain, tuple(dict.fromkeys(plugins)))
    for kind, name, *field in known.announced(values):
        with _field(*field):
            if plugin := installed(kind, name):
                plugins.append(plugin)
                known = with_plugins(plain, tuple(dict.fromkeys(plugins)))
    return ({**values, "plugins": [plugin.stored() for plugin in known.loaded]} if plugins else values), known


@contextlib.contextmanager
def _field(*field: str | int) -> Iterator[None]:
    """Errors of the block name ``field``."""
    try:
        yield
    except MillError as error:
        raise Misfit(str(error), *field) from error
