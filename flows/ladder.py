"""The scaling ladder as a flow: small models on the recipe's own corpus, and the laws that fit them."""

# No `from __future__ import annotations` here: Prefect checks a deployment's parameters by the types themselves.

from pathlib import Path
from typing import Any

from prefect import flow
from prefect.runtime import flow_run

from flows import artifacts
from flows.build import Workers, build
from flows.execution import Runner
from flows.opening import BUILDS, on_record, open_build
from flows.pretrain import pretrain_model
from flows.progress import reporter
from training import ladder as ladders


@flow(name="ladder", flow_run_name="ladder {recipe.stem}")
def ladder(
    recipe: Path, workers: Workers | None = None, runner: Runner = "processes", builds: Path = BUILDS
) -> dict[str, Any]:
    """Train the models of the recipe's `ladder` section on its corpus, fit the laws, and return what was found.

    The corpus and the tokens are brought up to date first; runs that are done are not trained again.
    """
    opened = open_build(recipe, builds)
    ladders.ladder_config(opened)
    build(recipe, until="tokenize", workers=workers, runner=runner, builds=builds)
    with on_record(opened, recipe, flow_run.ui_url, reporter().seconds):
        planned = ladders.plan(opened)
        climbing = ladders.with_rungs(opened, planned.rungs)
        names = [rung.config.name for rung in planned.rungs]
        summaries = [pretrain_model.with_options(task_run_name=f"Train {name}")(climbing, name) for name in names]
        found = ladders.summarise(opened, planned, summaries)
        artifacts.publish_ladder(opened)
    return found
