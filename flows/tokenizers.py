"""From the curated corpus to tokenizers and packed tokens."""

from __future__ import annotations

from pathlib import Path

from prefect import flow

from flows import artifacts
from flows.execution import run_steps
from flows.opening import open_build
from pipeline.tokenization import steps as tokenization


@flow(name="tokenize", flow_run_name="tokenize {recipe.stem}", validate_parameters=False)
def tokenize(recipe: Path, builds: Path, workers: int) -> None:
    """Train the recipe's tokenizers, compare them on held-out documents, and pack the corpus with each."""
    build = open_build(recipe, builds)
    run_steps(build, tokenization.steps(), workers)
    artifacts.publish_tokenizers(build)
