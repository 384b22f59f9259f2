"""The parts of a build, from the sources to the report, as plain functions; none of them needs a Prefect server."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from flows.execution import tracking
from flows.execution.open_build import BUILDS, on_record, open_build
from flows.execution.progress import reporter
from flows.execution.run_steps import Pool, Runner, run_steps
from flows.views import artifacts, events, outcome
from pipeline import report as reporting
from pipeline.build import mend, row_numbers
from pipeline.build.build import Build
from pipeline.build.machine import cores as cores
from pipeline.curation import steps as curation
from pipeline.store import files, objects
from pipeline.store.files import DamagedFile, LostFile
from pipeline.tokenization import steps as tokenization
from training.budget import budget
from training.labelled import preflight
from training.recipe.sections import BuildRecipe

Stop = Literal["curate", "tokenize", "pretrain", "finetune", "report"]
Part: TypeAlias = Callable[[Build[BuildRecipe], Pool], object]


def build(
    recipe: Path,
    until: Stop = "report",
    workers: int | None = None,
    runner: Runner = "processes",
    builds: str | Path = BUILDS,
    with_report: bool = False,
    on_wait: Callable[[str], object] | None = None,
    settings: Sequence[str] = (),
    cluster: str | None = None,
) -> str:
    """Build what RECIPE describes, up to and including the part named by `until`; returns its folder or address.

    Work whose inputs, configuration and models are unchanged since an earlier run is not done again. ``with_report``
    writes the report of what there is then. While another process is at work on the build, it is waited for, with a
    line to ``on_wait``; without that, raises BuildBusy. ``settings``: ``field=value`` for fields of the recipe.
    ``cluster``: the address of a Dask or Ray cluster that is there already.
    """
    opened = open_build(recipe, builds, settings)
    preflight.check(opened)
    parts = {"curate": curate, "tokenize": tokenize, "pretrain": pretrain, "finetune": finetune, "report": report}
    names = get_args(Stop)
    chosen = [*names[: names.index(until) + 1], *(["report"] if with_report and until != "report" else [])]
    with (
        contextlib.ExitStack() as unlocked,
        on_record(opened, recipe, tracking.page, reporter().seconds, on_wait),
        Pool(runner, workers, cluster) as pool,
    ):
        events.started(opened, recipe)
        most: list[int] = []
        for name in chosen:
            with tracking.flow(name, f"{name} {recipe.stem}"), _noting_memory(opened, name, most):
                before = reporter().made
                carry_out(opened, pool, [parts[part] for part in chosen[: chosen.index(name) + 1]])
                if reporter().made == before:
                    tracking.conclude("Reused", "everything was up to date")
                elif name == "curate":
                    events.curated(opened)
                    unlocked.callback(events.published, opened, recipe, settings)
        if runner in ("processes", "threads"):
            _say_error_of_plan(opened, pool.workers, most)
        state, summary = outcome.conclusion(opened, bool(reporter().made))
        tracking.conclude(state, summary)
        events.finished(opened, recipe, bool(reporter().made), summary)
    return opened.address


def carry_out(build: Build[BuildRecipe], pool: Pool, parts: Sequence[Part]) -> None:
    """The last of ``parts``; the ones before it, too, where it finds that a file they made is damaged or lost.

    Such a file is set aside and made again. Found so a second time, it is the disk's fault, and raised.
    """
    mended: list[Path] = []
    chosen = parts[-1:]
    while True:
        try:
            for part in chosen:
                part(build, pool)
            break
        except (DamagedFile, LostFile) as error:
            unit = mend.damaged(build.root, error)
            if unit is None or unit in mended:
                raise
            mended.append(unit)
            reporter().tell(f"{unit}: damaged or lost; set aside, to be made again")
            chosen = parts
    mend.clear(mended)


@contextlib.contextmanager
def _noting_memory(build: Build[BuildRecipe], part: Stop, most: list[int]) -> Iterator[None]:
    """Adds to ``most`` what memory a part takes that `mill plan --measure` has planned."""
    if part not in ("curate", "tokenize") or not files.exists(build.path("plan.json")):
        yield
        return
    from pipeline.curation import costs

    with costs.watching(children=True) as memory:
        yield
    most += memory


def _say_error_of_plan(build: Build[BuildRecipe], workers: int, most: Sequence[int]) -> None:
    """After a build of which `mill plan --measure` has planned steps: how far off the plan was."""
    if not most or not reporter().processor:
        return
    from flows.views.plan import error_line
    from pipeline.curation import plan

    if (rates := plan.read(build)) is None:
        return
    text, shards = row_numbers.corpus_size(build, "bytes"), len(build.shards())
    planned = plan.of(rates, text, build.recipe.shard_bytes, workers, shards)
    if (error := plan.error(planned, reporter().processor)) is not None:
        reporter().tell(error_line(error, (planned.memory, max(most))))


def curate(build: Build[BuildRecipe], pool: Pool) -> None:
    """Ingest, measure, judge, deduplicate, balance and write the corpus."""
    run_steps(build, curation.steps(build.recipe), pool)
    artifacts.publish_curation(build, reporter().seconds, reporter().whole)


def tokenize(build: Build[BuildRecipe], pool: Pool) -> None:
    """Train the recipe's tokenizers, compare them on held-out documents, and pack the corpus with each."""
    run_steps(build, tokenization.steps(), pool)
    artifacts.publish_tokenizers(build)


def pretrain(build: Build[BuildRecipe], _pool: Pool) -> None:
    """Train what the recipe's `embeddings` and `pretrain` name; a killed run goes on from its last checkpoint."""
    _fetch_models(build)
    if build.recipe.embeddings:
        from training.embeddings.embed import embed

        for config in build.recipe.embeddings:
            with training(f"embeddings.{config.name}", "Embed", config.name) as progress:
                embed(build, config.name, progress)
    for config in build.recipe.pretrain:
        pretrain_model(build, config.name)
    artifacts.publish_training(build)
    artifacts.publish_budget(build, budget.of_build(build))


def pretrain_model(build: Build[BuildRecipe], name: str, verb: str = "Pretrain") -> dict[str, Any]:
    """One run of the recipe's `pretrain`; returns its summary."""
    from training.pretraining import pretrain as pretraining

    before = reporter().made
    with training(f"pretrain.{name}", verb, name) as progress:
        summary = pretraining.pretrain(build, name, progress)
    if reporter().made > before:
        events.trained(build, "pretrain", name)
    return summary


def finetune(build: Build[BuildRecipe], _pool: Pool) -> None:
    """Fine-tune each model of the recipe's `finetune` section beside its baselines, and climb its cost ladder."""
    _fetch_models(build)
    if build.recipe.finetune:
        from training.finetuning.finetune import finetune as finetune_model

        for config in build.recipe.finetune:
            before = reporter().made
            with training(f"finetune.{config.name}", "Fine-tune", config.name) as progress:
                finetune_model(build, config.name, progress)
            if reporter().made > before:
                events.trained(build, "finetune", config.name)
            if config.cost_ladder_minutes is not None:
                from training.finetuning import build_ladder

                with training(f"cost_ladder.{config.name}", "Compare models for", config.name) as progress:
                    build_ladder.climb(build, config.name, progress)
    artifacts.publish_training(build)


def _fetch_models(build: Build) -> None:
    """Have the tokenizers and models of a build in a store here: libraries open their folders themselves."""
    if files.is_mirrored(build.root):
        for name in ("tokenizers", "models"):
            files.local(build.path(name))


def report(build: Build[BuildRecipe], pool: Pool) -> str:
    """Write report/index.html, and return its path."""
    run_steps(build, reporting.steps(), pool)
    numbers = budget.of_build(build)
    path = reporting.render(build, numbers)
    artifacts.publish_budget(build, numbers)
    artifacts.publish_lineage(build)
    artifacts.publish_report(build, path)
    return path


def report_as_it_stands(
    recipe: Path, workers: int | None = None, builds: str | Path = BUILDS, settings: Sequence[str] = ()
) -> str:
    """Write the report of the build of RECIPE, and nothing else; returns its path."""
    opened = open_build(recipe, builds, settings)
    runner = "processes" if objects.is_shared(opened.address) else "threads"  # memory:// is of this process alone
    with Pool(runner, workers or cores()) as pool:
        path = report(opened, pool)
    tracking.conclude("Completed", outcome.summary(opened))
    return path


@contextlib.contextmanager
def training(name: str, verb: str, model: str) -> Iterator[Callable[[int, int, Mapping[str, float]], None]]:
    """What a training run calls with (step, steps, metrics): shown in the terminal and as a task in the Prefect UI."""
    title = f"{verb} {model}"
    with reporter().training(name, title) as progress, tracking.task(verb, title) as begin:

        def shown(step: int, steps: int, metrics: Mapping[str, float]) -> None:
            begin()
            progress(step, steps, metrics)

        yield shown
