"""From the sources to the curated corpus."""

from __future__ import annotations

from pathlib import Path

from prefect import flow

from flows import artifacts
from flows.execution import run_steps
from flows.opening import open_build
from pipeline import curate as curation


@flow(name="curate", flow_run_name="curate {recipe.stem}", validate_parameters=False)
def curate(recipe: Path, builds: Path, workers: int) -> None:
    """Ingest, measure, judge, deduplicate, balance and write the corpus; each step a task over shards."""
    build = open_build(recipe, builds)
    run_steps(build, curation.steps(build.recipe), workers)
    artifacts.publish_curation(build)
