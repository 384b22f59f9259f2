"""The report: one HTML page and the artifacts of the run."""

from __future__ import annotations

from pathlib import Path

from prefect import flow

from flows import artifacts
from flows.execution import run_steps
from flows.opening import open_build
from pipeline import report as reporting
from training import budget


@flow(name="report", flow_run_name="report {recipe.stem}", validate_parameters=False)
def report(recipe: Path, builds: Path, workers: int) -> str:
    """Write report/index.html of the build and return its path."""
    build = open_build(recipe, builds)
    run_steps(build, reporting.steps(), workers)
    numbers = budget.of_build(build)
    path = reporting.render(build, numbers)
    artifacts.publish_budget(build, numbers)
    artifacts.publish_report(build, path)
    return path
