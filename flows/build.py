"""The flows that Prefect runs for a deployment: `flows.build.build` and the studies."""

# No `from __future__ import annotations` here: Prefect checks a deployment's parameters by the types themselves.

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from prefect import flow
from prefect.logging import get_run_logger
from prefect.runtime import flow_run
from prefect.settings import PREFECT_API_URL
from prefect.states import Cancelled
from pydantic import Field

from flows import parts
from flows.ablate import ablate as run_ablation
from flows.execution import tracking
from flows.execution.open_build import BUILDS
from flows.execution.run_steps import Runner
from flows.ladder import ladder as run_ladder
from pipeline.build.lock import BuildBusy

Workers = Annotated[int, Field(ge=1, le=4096, description="tasks at a time; the result is the same for any number")]


def _reported(work: Callable[[], Any]) -> Any:
    """Do ``work`` as part of the flow run that Prefect started; cancelled while another run is at work on the build."""
    try:
        with tracking.tracking(PREFECT_API_URL.value(), get_run_logger().warning, flow_run.id):
            return work()
    except BuildBusy as busy:
        return Cancelled(message=str(busy), name="Skipped")


@flow(name="build", flow_run_name="build {recipe.stem}")
def build(
    recipe: Path,
    until: parts.Stop = "report",
    workers: Workers | None = None,
    runner: Runner = "processes",
    builds: Path = BUILDS,
) -> Any:
    """Build what RECIPE describes, up to and including the part named by `until`; returns the build's folder.

    Work whose inputs, configuration and models are unchanged since an earlier run is not done again. While another
    run is at work on the build, this one is cancelled.
    """
    return _reported(lambda: parts.build(recipe, until, workers, runner, builds))


@flow(name="ladder", flow_run_name="ladder {recipe.stem}")
def ladder(recipe: Path, workers: Workers | None = None, runner: Runner = "processes", builds: Path = BUILDS) -> Any:
    """Train the models of the recipe's `ladder` section on its corpus, fit the laws, and return what was found."""
    return _reported(lambda: run_ladder(recipe, workers, runner, builds))


@flow(name="ablate", flow_run_name="ablate {recipe.stem}")
def ablate(recipe: Path, workers: Workers | None = None, runner: Runner = "processes", builds: Path = BUILDS) -> Any:
    """Train the models of the recipe's `ablation` section, compare them, and return what was found."""
    return _reported(lambda: run_ablation(recipe, workers, runner, builds))
