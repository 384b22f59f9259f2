"""A build on a schedule."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from prefect.client.orchestration import get_client
from prefect.client.schemas import filters
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.schedules import CronSchedule
from prefect.schedules import Cron
from prefect.states import Cancelled
from pydantic import ValidationError

from flows.build import build
from flows.execution.run_steps import Runner
from pipeline import MillError


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
