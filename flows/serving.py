"""Deployments that this process serves: which there are, their version and schedule, and runs that were missed."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prefect.client.orchestration import get_client
from prefect.client.schemas import filters
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.schedules import CronSchedule
from prefect.deployments.runner import RunnerDeployment
from prefect.runner import Runner
from prefect.schedules import Cron
from prefect.states import Cancelled
from prefect.types.entrypoint import EntrypointType
from pydantic import ValidationError

from flows.execution.open_build import open_build
from flows.execution.run_steps import Runner as Where
from flows.execution.tracking import HEARTBEAT_SECONDS
from flows.schedule import FLOWS
from pipeline import MillError, __version__
from pipeline.store import files

EVERY_RECIPE = "any-recipe"
"""The name of the deployments that ask for a recipe when they are run."""


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


def version(recipe: str | None = None) -> dict[str, str]:
    """``{"version": ...}``: the commit of a checkout or the release of an installed corpusmill, and the fingerprint of
    ``recipe``, if there is such a file. prefect.yaml calls it as a step of `prefect deploy`.
    """
    here = Path(__file__).parent
    asked = ["git", "-C", str(here), "describe", "--always", "--dirty", "--exclude", "*"]
    try:
        done = subprocess.run(asked, capture_output=True, text=True, timeout=10, check=False)
        commit = done.stdout.strip() if (here.parent / ".git").exists() else ""
    except (OSError, subprocess.TimeoutExpired):
        commit = ""
    parts = [commit or __version__]
    if recipe is not None and Path(recipe).is_file():
        parts.append(files.fingerprint(open_build(Path(recipe)).recipe)[:12])
    return {"version": " ".join(parts)}


def skip_missed(name: str) -> int:
    """Cancel the runs of the deployment ``name`` that should have begun before now; returns how many."""
    deployment = filters.DeploymentFilter(name=filters.DeploymentFilterName(any_=[name]))
    late = filters.FlowRunFilter(
        state=filters.FlowRunFilterState(type=filters.FlowRunFilterStateType(any_=[StateType.SCHEDULED])),
        expected_start_time=filters.FlowRunFilterExpectedStartTime.model_validate({"before_": datetime.now(UTC)}),
    )
    skipped = 0
    with get_client(sync_client=True) as client:
        while runs := client.read_flow_runs(flow_run_filter=late, deployment_filter=deployment):
            for run in runs:
                skip = Cancelled(name="Skipped", message="missed while nothing served it")
                client.set_flow_run_state(run.id, skip, force=True)
            skipped += len(runs)
    return skipped


def every_flow(workers: int | None, runner: Where, builds: str | Path) -> list[RunnerDeployment]:
    """A deployment of each flow, which asks for the recipe."""
    return [_deployment(name, EVERY_RECIPE, _parameters(workers, runner, builds), version()) for name in FLOWS]


def one_recipe(
    flow: str, recipe: Path, cron: str | None, timezone: str, workers: int | None, runner: Where, builds: str | Path
) -> RunnerDeployment:
    """The deployment ``<flow>/<the recipe's name>``, run on the schedule ``cron`` if there is one."""
    parameters = {"recipe": str(recipe.resolve()), **_parameters(workers, runner, builds)}
    schedule = Cron(cron, timezone=timezone) if cron else None
    return _deployment(flow, open_build(recipe, builds).recipe.name, parameters, version(str(recipe)), schedule)


def _deployment(
    flow: str, name: str, parameters: dict[str, Any], versions: dict[str, str], schedule: Any = None
) -> RunnerDeployment:
    made: Any = FLOWS[flow].to_deployment(
        name=name,
        schedule=schedule,
        parameters=parameters,
        description=FLOWS[flow].description,
        tags=["corpusmill", flow],
        version=versions["version"],
        entrypoint_type=EntrypointType.MODULE_PATH,
    )
    return made


def _parameters(workers: int | None, runner: Where, builds: str | Path) -> dict[str, Any]:
    return {"workers": workers, "runner": runner, "builds": files.url_of(files.here(os.fspath(builds)))}


def serve(deployments: list[RunnerDeployment], limit: int, on_sigterm: Callable[..., None]) -> None:
    """Register ``deployments`` and run what is asked of them here, ``limit`` at a time, until stopped.

    Ctrl-C and SIGTERM end what is at work, too: a flow's process ends with this one.
    """
    asyncio.run(_serve(deployments, limit, on_sigterm))


async def _serve(deployments: list[RunnerDeployment], limit: int, on_sigterm: Callable[..., None]) -> None:
    runner = Runner(limit=limit, pause_on_shutdown=False, heartbeat_seconds=HEARTBEAT_SECONDS)
    runner.handle_sigterm = on_sigterm  # Prefect's own leaves the loop with a traceback
    for deployment in deployments:
        await runner.aadd_deployment(deployment)
    await runner.start()
