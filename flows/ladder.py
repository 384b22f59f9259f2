"""The scaling ladder: small models on the recipe's own corpus, and the laws that fit them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flows import parts
from flows.execution import tracking
from flows.execution.open_build import BUILDS, on_record, open_build
from flows.execution.progress import reporter
from flows.execution.run_steps import Runner
from flows.views import artifacts
from training.studies import ladder as ladders


def ladder(
    recipe: Path, workers: int | None = None, runner: Runner = "processes", builds: Path = BUILDS
) -> dict[str, Any]:
    """Train the models of the recipe's `ladder` section on its corpus, fit the laws, and return what was found.

    The corpus and the tokens are brought up to date first; runs that are done are not trained again.
    """
    opened = open_build(recipe, builds)
    ladders.ladder_config(opened)
    with tracking.flow("build", f"build {recipe.stem}"):
        parts.build(recipe, "tokenize", workers, runner, builds)
    with on_record(opened, recipe, tracking.page, reporter().seconds):
        planned = ladders.plan(opened)
        climbing = ladders.with_rungs(opened, planned.rungs)
        names = [rung.config.name for rung in planned.rungs]
        summaries = [parts.pretrain_model(climbing, name, "Train") for name in names]
        found = ladders.summarise(opened, planned, summaries)
        artifacts.publish_ladder(opened)
    return found
