"""Builds on a schedule: the flows that Prefect runs for a deployment, its cron line, and runs that were missed."""

# No `from __future__ import annotations` here: Prefect checks a deployment's parameters by the types themselves.
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas import filters
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.schedules import CronSchedule
from prefect.logging import get_run_logger
from prefect.runtime import flow_run
from prefect.schedules import Cron
from prefect.settings import PREFECT_API_URL
from prefect.states import Cancelled
from pydantic import Field, ValidationError

from flows.build import Stop
from flows.build import build as run_build
from flows.execution import tracking
from flows.execution.open_build import BUILDS
from flows.execution.run_steps import Runner
from flows.studies import ablate as run_ablation
from flows.studies import ladder as run_ladder
from pipeline import MillError
from pipeline.build.lock import BuildBusy

Workers = Annotated[int, Field(ge=1, le=4096, description="tasks at a time; the result is the same for any number")]


def _tracked(work: Callable[[], Any]) -> Any:
    """Do ``work`` as part of the flow run that Prefect started; cancelled while another run is at work on the build."""
    try:
        with tracking.tracking(PREFECT_API_URL.value(), get_run_logger().warning, flow_run.id):
            return work()
    except BuildBusy as busy:
        return Cancelled(message=str(busy), name="Skipped")


@flow(name="build", flow_run_name="build {recipe.stem}")
def build(
    recipe: Path,
    until: Stop = "report",
    workers: Workers | None = None,
    runner: Runner = "processes",
    builds: Path = BUILDS,
) -> Any:
    """Build what RECIPE describes, up to and including the part named by `until`; returns the build's folder.

    Work whose inputs, configuration and models are unchanged since an earlier run is not done again. While another
    run is at work on the build, this one is cancelled.
    """
    return _tracked(lambda: run_build(recipe, until, workers, runner, builds))


@flow(name="ladder", flow_run_name="ladder {recipe.stem}")
def ladder(recipe: Path, workers: Workers | None = None, runner: Runner = "processes", builds: Path = BUILDS) -> Any:
    """Train the models of the recipe's `ladder` section on its corpus, fit the laws, and return what was found."""
    return _tracked(lambda: run_ladder(recipe, workers, runner, builds))


@flow(name="ablate", flow_run_name="ablate {recipe.stem}")
def ablate(recipe: Path, workers: Workers | None = None, runner: Runner = "processes", builds: Path = BUILDS) -> Any:
    """Train the models of the recipe's `ablation` section, compare them, and return what was found."""
    return _tracked(lambda: run_ablation(recipe, workers, runner, builds))


class WrongSchedule(MillError):
    """A cron line or time zone that does not exist."""


def check(cron: str, timezone: str) -> None:
    """Raises WrongSchedule."""
    try:
        CronSchedule(cron="0 0 * * *", timezone=timezone)
    except ValidationError:
        raise WrongSchedule(
            f"--timezone {timezone}: no such time zone; give a name such as UTC or Europe/Berlin"
        ) from None
    try:
        CronSchedule(cron=cron, timezone=timezone)
    except ValidationError:
        raise WrongSchedule(
            f'--cron "{cron}": not a cron line; give minute, hour, day, month and weekday, such as "0 2 * * *"'
        ) from None


def skip_missed(name: str) -> int:
    """Cancel the runs of the deployment `build/<name>` that should have begun before now; returns how many."""
    deployment = filters.DeploymentFilter(name=filters.DeploymentFilterName(any_=[name]))
    flow = filters.FlowFilter(name=filters.FlowFilterName(any_=["build"]))
    late = filters.FlowRunFilter(
        state=filters.FlowRunFilterState(type=filters.FlowRunFilterStateType(any_=[StateType.SCHEDULED])),
        expected_start_time=filters.FlowRunFilterExpectedStartTime.model_validate({"before_": datetime.now(UTC)}),
    )
    skipped = 0
    with get_client(sync_client=True) as client:
        while runs := client.read_flow_runs(flow_filter=flow, flow_run_filter=late, deployment_filter=deployment):
            for run in runs:
                skip = Cancelled(name="Skipped", message="missed while nothing served it")
                client.set_flow_run_state(run.id, skip, force=True)
            skipped += len(runs)
    return skipped


def serve(name: str, recipe: Path, cron: str, timezone: str, workers: int | None, runner: Runner, builds: Path) -> None:
    """Register the deployment `build/<name>` and run its scheduled builds here, one at a time, until stopped."""
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
