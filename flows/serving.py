"""A build on a schedule."""

from __future__ import annotations

from pathlib import Path

from prefect.schedules import Cron

from flows.build import build
from flows.execution import Runner
from flows.opening import open_build


def serve(recipe: Path, cron: str, timezone: str, workers: int | None, runner: Runner, builds: Path) -> None:
    """Register the deployment `build/<recipe's name>` and run its scheduled builds here, one at a time, until stopped.

    Raises ValueError for a cron line or time zone that is not valid, WrongRecipe for a recipe that is not.
    """
    name = open_build(recipe, builds).recipe.name
    build.serve(
        name=name,
        schedule=Cron(cron, timezone=timezone),
        parameters={
            "recipe": str(recipe.resolve()),
            "workers": workers,
            "runner": runner,
            "builds": str(builds.resolve()),
        },
        limit=1,
        pause_on_shutdown=False,
        tags=["corpusmill"],
    )
