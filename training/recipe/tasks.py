"""What a recipe may say about each fine-tuning task. Torch-free."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, get_args

from pipeline import MillError
from pipeline.build.plugins import Part, Plugin, added

#: What is learned of a row; training/labelled/kinds says which columns each goes by.
Task = Literal["classify", "multi_label", "regression", "tokens", "answers", "text2text", "similarity"]
TASKS: tuple[str, ...] = get_args(Task)


@dataclass(frozen=True)
class Declared(Part):
    """As much of a plug-in's fine-tuning task as a recipe must know.

    ``like`` is which of TASKS has the same options, needs the same kind of base and learns of the same rows; other rows
    are of the kind ``rows``, a training.labelled.kinds.base.Kind. ``version`` is raised when equal rows would give
    another model.
    """

    like: str = field(default="", kw_only=True)
    rows: object = field(default=None, kw_only=True)
    version: int = field(default=1, kw_only=True)

    @property
    def made_by(self) -> list[int | str]:
        """What of it is part of fingerprints."""
        assert self.plugin is not None
        return [self.version, self.plugin.made_by]


def declared(loaded: Iterable[Plugin]) -> dict[str, Declared]:
    """The tasks that plug-ins add, by name. Raises MillError for one that does not fit."""
    parts = added(loaded, Declared, ())
    for part in parts:
        if part.name in TASKS:
            raise MillError(f"{part.plugin}: the name {part.name!r} is taken; give the task another name")
        if part.like not in TASKS:
            raise MillError(f"{part.plugin}: task {part.name!r} needs `like`, one of {', '.join(TASKS)}")
    return {part.name: part for part in parts}
