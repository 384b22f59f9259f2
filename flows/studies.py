"""Studies beside a build: the scaling ladder, what each stage of curation is worth, and single language models."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flows import build
from flows.execution import tracking
from flows.execution.open_build import BUILDS, on_record, open_build
from flows.execution.progress import reporter
from flows.execution.run_steps import Pool, Runner, run_steps
from flows.views import artifacts
from flows.views.artifacts import plain_key
from pipeline import MillError
from pipeline.curation.ablation_variants import NEUTRAL, open_neutral, open_variant, steps, variants
from pipeline.stages.perplexity import from_files
from pipeline.store import files
from pipeline.text import formats
from training.studies import ablation
from training.studies.ladder import ladder_config, plan, summarise, with_rungs


def ladder(
    recipe: Path,
    workers: int | None = None,
    runner: Runner = "processes",
    builds: str | Path = BUILDS,
    settings: Sequence[str] = (),
) -> dict[str, Any]:
    """Train the models of the recipe's `ladder` section on its corpus, fit the laws, and return what was found.

    The corpus and the tokens are brought up to date first; runs that are done are not trained again.
    """
    opened = open_build(recipe, builds, settings)
    ladder_config(opened)
    with tracking.flow("build", f"build {recipe.stem}"):
        build.build(recipe, "tokenize", workers, runner, builds, settings=settings)
    with on_record(opened, recipe, tracking.page, reporter().seconds):
        planned = plan(opened)
        climbing = with_rungs(opened, planned.rungs)
        names = [rung.config.name for rung in planned.rungs]
        summaries = [build.pretrain_model(climbing, name, "Train") for name in names]
        result = summarise(opened, planned, summaries)
        artifacts.publish_ladder(opened)
    return result


def ablate(
    recipe: Path,
    workers: int | None = None,
    runner: Runner = "processes",
    builds: str | Path = BUILDS,
    settings: Sequence[str] = (),
) -> dict[str, Any]:
    """Train the models of the recipe's `ablation` section, compare them on held-out text, and return what was found.

    The build is brought up to date first; variants and models that are current are not made again.
    """
    opened = open_build(recipe, builds, settings)
    if files.is_mirrored(opened.root):
        raise MillError(
            f"{opened.address}: the variants of an ablation are folders of links; use --builds with a folder"
        )
    config, count = ablation.ablation_config(opened), workers or build.cores()
    recipes, kept = variants(opened.recipe, config.leave_out)
    with tracking.flow("build", f"build {recipe.stem}"):
        build.build(recipe, "tokenize", count, runner, builds, settings=settings)
    with on_record(opened, recipe, tracking.page, reporter().seconds):
        made = {name: open_variant(opened, name, entry, config.tokenizer) for name, entry in recipes.items()}
        folders = dict(made)
        if config.neutral:
            folders[NEUTRAL] = open_neutral(opened, config.neutral, config.tokenizer)
        with Pool(runner, count) as pool:
            for name, variant in folders.items():
                with tracking.flow("variant", f"variant {name}"):
                    run_steps(variant, steps(variant), pool)
        trials = ablation.trials(opened, list(made))
        done = []
        for trial in trials:
            configs = [entry.config for entry in trials if entry.variant == trial.variant]
            name = trial.config.name
            summary = build.pretrain_model(ablation.with_trials(made[trial.variant], configs), name, "Train")
            with tracking.task("Measure", f"Measure {name}") as begin:
                begin()
                done.append((trial, summary, ablation.measure(opened, trial)))
        result = ablation.summarise(opened, done, kept)
        artifacts.publish_ablation(opened)
    return result


def language_model(config: from_files.Config, output: Path) -> dict[str, Any]:
    """Train the n-gram model that CONFIG describes into the ARPA file OUTPUT, unless OUTPUT was made from the same."""
    with tracking.flow("language-model", f"language-model {output.name}", output=output):
        with tracking.task("Train the language model", f"Train {output.name}") as begin:
            begin()
            facts = from_files.train(config, str(output))
        tracking.artifact(
            "table", plain_key(f"language-model-{output.name}"), f"Language model {output.name}", rows(facts)
        )
    return facts


def rows(facts: dict[str, Any]) -> list[dict[str, str]]:
    """What is known of the n-gram model, one row a fact."""
    values = {
        "documents": formats.count(facts["documents"]),
        "text": formats.size(facts["bytes"]),
        "sentences": formats.count(facts["sentences"]),
        **{f"{order}-grams": formats.count(count) for order, count in enumerate(facts["ngrams"], 1)},
        "SHA-256": facts["sha256"],
    }
    return [{"": name, "value": value} for name, value in values.items()]
