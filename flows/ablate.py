"""The ablation as a flow: equal models on raw text, curated text, and with each stage left out."""

# No `from __future__ import annotations` here: Prefect checks a deployment's parameters by the types themselves.

from pathlib import Path
from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run

from flows import artifacts
from flows.build import Workers, build, cores
from flows.execution import Runner, run_steps, task_runner
from flows.opening import BUILDS, on_record, open_build
from flows.pretrain import pretrain_model
from flows.progress import reporter
from pipeline import ablation as variants_of
from pipeline.build import Build
from training import ablate as ablations
from training.recipe import BuildRecipe


@flow(name="ablate", flow_run_name="ablate {recipe.stem}")
def ablate(
    recipe: Path, workers: Workers | None = None, runner: Runner = "processes", builds: Path = BUILDS
) -> dict[str, Any]:
    """Train the models of the recipe's `ablation` section, compare them on held-out text, and return what was found.

    The build is brought up to date first; variants and models that are current are not made again.
    """
    opened = open_build(recipe, builds)
    config, count = ablations.ablation_config(opened), workers or cores()
    recipes, kept = variants_of.variants(opened.recipe, config.leave_out)
    build(recipe, until="tokenize", workers=count, runner=runner, builds=builds)
    with on_record(opened, recipe, flow_run.ui_url, reporter().seconds):
        made = {
            name: variants_of.open_variant(opened, name, entry, config.tokenizer) for name, entry in recipes.items()
        }
        folders = dict(made)
        if config.neutral:
            folders[variants_of.NEUTRAL] = variants_of.open_neutral(opened, config.neutral, config.tokenizer)
        for name, folder in folders.items():
            told = make_variant.with_options(flow_run_name=f"variant {name}", task_runner=task_runner(runner, count))
            told(folder, count)
        trials = ablations.trials(opened, list(made))
        done = []
        for trial in trials:
            configs = [entry.config for entry in trials if entry.variant == trial.variant]
            variant = ablations.with_trials(made[trial.variant], configs)
            name = trial.config.name
            summary = pretrain_model.with_options(task_run_name=f"Train {name}")(variant, name)
            done.append((trial, summary, measure.with_options(task_run_name=f"Measure {name}")(opened, trial)))
        found = ablations.summarise(opened, done, kept)
        artifacts.publish_ablation(opened)
    return found


@flow(name="variant", validate_parameters=False)
def make_variant(variant: Build[BuildRecipe], workers: int) -> None:
    """Curate and pack the documents with other stages than the build's."""
    run_steps(variant, variants_of.steps(variant), workers)


@task(name="Measure", cache_policy=NO_CACHE, persist_result=False)
def measure(build: Build[BuildRecipe], trial: ablations.Trial) -> dict[str, float]:
    return ablations.measure(build, trial)
