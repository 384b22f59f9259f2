"""From pretrained models to models for a task."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from flows import artifacts
from flows.opening import open_build
from flows.progress import reporter
from pipeline.build import Build
from training import finetune as finetuning
from training.recipe import BuildRecipe


@flow(name="finetune", flow_run_name="finetune {recipe.stem}", validate_parameters=False)
def finetune(recipe: Path, builds: Path) -> None:
    """Fine-tune each model of the recipe's `finetune` section and set it beside its baselines."""
    build = open_build(recipe, builds)
    for config in build.recipe.finetune:
        finetune_model.with_options(task_run_name=f"Fine-tune {config.name}")(build, config.name)
    artifacts.publish_training(build)


@task(name="Fine-tune", cache_policy=NO_CACHE, persist_result=False)
def finetune_model(build: Build[BuildRecipe], name: str) -> dict[str, Any]:
    with reporter().training(f"finetune.{name}", f"Fine-tune {name}") as progress:
        return finetuning.finetune(build, name, progress)
