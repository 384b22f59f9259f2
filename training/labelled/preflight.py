"""What can be known of a build, its models and their labelled rows before any work. Without torch."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline import MillError
from pipeline.build.build import Build
from training.labelled import files
from training.recipe import preflight
from training.recipe.sections import BuildRecipe


def check(build: Build[BuildRecipe]) -> None:
    """Raise MillError, which lists every problem with its field and remedy, unless the build can start."""
    if messages := problems(build):
        raise MillError("\n".join(messages))


def problems(build: Build[BuildRecipe], remote: bool = True) -> list[str]:
    """Every problem that keeps the build from its end. Without ``remote`` no other machine is asked."""
    return [*preflight.problems(build, remote), *_files(build)]


def _files(build: Build[BuildRecipe]) -> Iterator[str]:
    """Files of labelled rows that are not there, or lack a column."""
    for at, run in enumerate(build.recipe.finetune):
        if run.data is None:
            continue
        try:
            files.look(run)
        except MillError as error:
            yield from (f"finetune[{at}] ({run.name}): {line}" for line in str(error).splitlines())
