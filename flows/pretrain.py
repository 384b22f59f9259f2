"""From packed tokens to pretrained models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from flows import artifacts
from flows.opening import open_build
from flows.progress import reporter
from pipeline.build import Build
from training import budget
from training import pretrain as pretraining
from training.embeddings import embed as embedding
from training.recipe import BuildRecipe


@flow(name="pretrain", flow_run_name="pretrain {recipe.stem}", validate_parameters=False)
def pretrain(recipe: Path, builds: Path) -> None:
    """Train what the recipe's `embeddings` and `pretrain` name; a killed run goes on from its last checkpoint."""
    build = open_build(recipe, builds)
    for config in build.recipe.embeddings:
        embed_words.with_options(task_run_name=f"Embed {config.name}")(build, config.name)
    for config in build.recipe.pretrain:
        pretrain_model.with_options(task_run_name=f"Pretrain {config.name}")(build, config.name)
    artifacts.publish_training(build)
    artifacts.publish_budget(build, budget.of_build(build))


@task(name="Pretrain", cache_policy=NO_CACHE, persist_result=False)
def pretrain_model(build: Build[BuildRecipe], name: str) -> dict[str, Any]:
    with reporter().training(f"pretrain.{name}", f"Pretrain {name}") as progress:
        return pretraining.pretrain(build, name, progress)


@task(name="Embed", cache_policy=NO_CACHE, persist_result=False)
def embed_words(build: Build[BuildRecipe], name: str) -> dict[str, Any]:
    with reporter().training(f"embeddings.{name}", f"Embed {name}") as progress:
        return embedding.embed(build, name, progress)
