"""The ablation: equal models on raw text, curated text, and with each stage left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flows import parts
from flows.execution import tracking
from flows.execution.open_build import BUILDS, on_record, open_build
from flows.execution.progress import reporter
from flows.execution.run_steps import Pool, Runner, run_steps
from flows.views import artifacts
from pipeline.curation import ablation_variants as variants_of
from training.studies import ablation as ablations


def ablate(
    recipe: Path, workers: int | None = None, runner: Runner = "processes", builds: Path = BUILDS
) -> dict[str, Any]:
    """Train the models of the recipe's `ablation` section, compare them on held-out text, and return what was found.

    The build is brought up to date first; variants and models that are current are not made again.
    """
    opened = open_build(recipe, builds)
    config, count = ablations.ablation_config(opened), workers or parts.cores()
    recipes, kept = variants_of.variants(opened.recipe, config.leave_out)
    with tracking.flow("build", f"build {recipe.stem}"):
        parts.build(recipe, "tokenize", count, runner, builds)
    with on_record(opened, recipe, tracking.page, reporter().seconds):
        made = {
            name: variants_of.open_variant(opened, name, entry, config.tokenizer) for name, entry in recipes.items()
        }
        folders = dict(made)
        if config.neutral:
            folders[variants_of.NEUTRAL] = variants_of.open_neutral(opened, config.neutral, config.tokenizer)
        with Pool(runner, count) as pool:
            for name, variant in folders.items():
                with tracking.flow("variant", f"variant {name}"):
                    run_steps(variant, variants_of.steps(variant), pool)
        trials = ablations.trials(opened, list(made))
        done = []
        for trial in trials:
            configs = [entry.config for entry in trials if entry.variant == trial.variant]
            name = trial.config.name
            summary = parts.pretrain_model(ablations.with_trials(made[trial.variant], configs), name, "Train")
            with tracking.task("Measure", f"Measure {name}") as begin:
                begin()
                done.append((trial, summary, ablations.measure(opened, trial)))
        found = ablations.summarise(opened, done, kept)
        artifacts.publish_ablation(opened)
    return found
