"""What can be known of models before any work. Without torch, which takes seconds to load."""

from __future__ import annotations

from pipeline import MillError, preflight
from pipeline.build import Build
from pipeline.store import files
from training.recipe import BuildRecipe


def check(build: Build[BuildRecipe]) -> None:
    """Raise MillError, which lists every problem with its field and remedy, unless the build can start."""
    found = [*preflight.problems(build), *_teachers(build)]
    if found:
        raise MillError("\n".join(found))


def _teachers(build: Build[BuildRecipe]) -> list[str]:
    names = {run.name for run in build.recipe.pretrain}
    return [
        f"pretrain[{at}].distillation.teacher: {run.distillation.teacher!r} is no run of this recipe and no folder"
        " with config.json; correct it"
        for at, run in enumerate(build.recipe.pretrain)
        if run.distillation is not None
        and run.distillation.teacher not in names
        and not files.exists(files.join(run.distillation.teacher, "config.json"))
    ]
