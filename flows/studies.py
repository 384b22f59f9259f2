"""The scaling ladder: small models on the recipe's own corpus, and the laws that fit them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flows import build
from flows.execution import tracking
from flows.execution.open_build import BUILDS, on_record, open_build
from flows.execution.progress import reporter
from flows.execution.run_steps import Pool, Runner, run_steps
from flows.views import artifacts
from flows.views.artifacts import plain_key
from pipeline.curation import ablation_variants as variants_of
from pipeline.stages.perplexity import from_files
from pipeline.text import formats
from training.studies import ablation as ablations
from training.studies import ladder as ladders


def ladder(
    recipe: Path, workers: int | None = None, runner: Runner = "processes", builds: Path = BUILDS
) -> dict[str, Any]:
    """Train the models of the recipe's `ladder` section on its corpus, fit the laws, and return what was found.

    The corpus and the tokens are brought up to date first; runs that are done are not trained again.
    """
    opened = open_build(recipe, builds)
    ladders.ladder_config(opened)
    with tracking.flow("build", f"build {recipe.stem}"):
        build.build(recipe, "tokenize", workers, runner, builds)
    with on_record(opened, recipe, tracking.page, reporter().seconds):
        planned = ladders.plan(opened)
        climbing = ladders.with_rungs(opened, planned.rungs)
        names = [rung.config.name for rung in planned.rungs]
        summaries = [build.pretrain_model(climbing, name, "Train") for name in names]
        found = ladders.summarise(opened, planned, summaries)
        artifacts.publish_ladder(opened)
    return found


def ablate(
    recipe: Path, workers: int | None = None, runner: Runner = "processes", builds: Path = BUILDS
) -> dict[str, Any]:
    """Train the models of the recipe's `ablation` section, compare them on held-out text, and return what was found.

    The build is brought up to date first; variants and models that are current are not made again.
    """
    opened = open_build(recipe, builds)
    config, count = ablations.ablation_config(opened), workers or build.cores()
    recipes, kept = variants_of.variants(opened.recipe, config.leave_out)
    with tracking.flow("build", f"build {recipe.stem}"):
        build.build(recipe, "tokenize", count, runner, builds)
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
            summary = build.pretrain_model(ablations.with_trials(made[trial.variant], configs), name, "Train")
            with tracking.task("Measure", f"Measure {name}") as begin:
                begin()
                done.append((trial, summary, ablations.measure(opened, trial)))
        found = ablations.summarise(opened, done, kept)
        artifacts.publish_ablation(opened)
    return found


def language_model(config: from_files.Config, output: Path) -> dict[str, Any]:
    """Train the n-gram model that CONFIG describes into the ARPA file OUTPUT, unless it is there, made by just this."""
    with tracking.flow("language-model", f"language-model {output.name}", output=output):
        with tracking.task("Train the language model", f"Train {output.name}") as begin:
            begin()
            facts = from_files.train(config, str(output))
        tracking.artifact(
            "table", plain_key(f"language-model-{output.name}"), f"Language model {output.name}", rows(facts)
        )
    return facts


def rows(facts: dict[str, Any]) -> list[dict[str, str]]:
    """What there is to say of the model, one row a fact."""
    found = {
        "documents": formats.count(facts["documents"]),
        "text": formats.size(facts["bytes"]),
        "sentences": formats.count(facts["sentences"]),
        **{f"{order}-grams": formats.count(count) for order, count in enumerate(facts["ngrams"], 1)},
        "SHA-256": facts["sha256"],
    }
    return [{"": name, "value": value} for name, value in found.items()]
