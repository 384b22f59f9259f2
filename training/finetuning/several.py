"""One fine-tuning by several strategies, settings and seeds, into one table; the best on the development rows is kept.

    work/finetune/<name>/runs/<what>/   work and model of each run; those that are done are not made again

Settings, strategy and published model are chosen by the development rows. The test rows only judge what was chosen.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.report import charts, models
from pipeline.store import checksums, files
from training.finetuning.job import Job
from training.finetuning.scores import over_seeds
from training.models import publish
from training.pretraining import model_card
from training.recipe.strategies import Strategy

#: Carries out a job for one strategy, setting and seed, and gives its summary.
One = Callable[[Job], dict[str, Any]]


def run(job: Job, made_by: str, one: One) -> dict[str, Any]:
    """Carry out ``job`` by ``one`` run after the other, publish the best, named by ``made_by``; return its summary."""
    rows, grid = [], []
    best: tuple[float, Job, dict[str, Any]] | None = None
    for strategy in job.config.compare or [job.config.strategy]:
        chosen, tried = _best_setting(job, strategy, one)
        grid += tried
        seeds = range(chosen.seed, chosen.seed + job.config.seeds)
        jobs = [_part(chosen, f"seed-{seed}", seed) for seed in seeds]
        summaries = [one(part) for part in jobs]
        error = float(np.mean([summary["best_loss"] for summary in summaries]))
        rows.append({**_row(summaries), "setting": _setting(jobs[0])})
        if best is None or error < best[0]:
            best = error, jobs[0], summaries[0]
    assert best is not None
    _, winner, summary = best
    summary = {
        **summary,
        "fingerprint": made_by,
        "trained_by": job.trained_by,
        "config": job.config.model_dump(mode="json", exclude_defaults=True),
        "strategies": rows,
        "grid": grid,
    }
    keep(job, winner, summary)
    return summary


def keep(job: Job, winner: Job, summary: dict[str, Any]) -> None:
    """Publish the model of ``winner`` as that of ``job``, with ``summary``, and remove the models of all runs."""
    with files.replacing_folder(job.result) as aside:
        leave = shutil.ignore_patterns("summary.json", "README.md", checksums.FOLDER)
        shutil.copytree(files.local(winner.result), aside, ignore=leave, dirs_exist_ok=True)
        if (chart := models.strategies_chart(summary)) is not None:
            (aside / model_card.STRATEGIES).write_text(charts.alone(chart["svg"]), "utf-8")
        publish.write_summary(Path(aside), summary)
        (aside / "README.md").write_text(model_card.finetuned(summary), encoding="utf-8")
    files.remove_folder(files.join(job.work, "runs"))


def _best_setting(job: Job, strategy: Strategy, one: One) -> tuple[Job, list[dict[str, Any]]]:
    """The job of ``strategy`` whose setting does best on the development rows, and what was tried."""
    name = f"{strategy.kind}-{files.fingerprint(strategy)[:8]}"
    plain = job.config.model_copy(update={"strategy": strategy, "compare": [], "grid": None, "seeds": 1})
    base = replace(job, config=plain, work=files.join(job.work, "runs", name), features=job.work)
    if job.config.grid is None:
        return base, []
    settings = job.config.grid
    tried: list[tuple[float, Job]] = []
    for rate, size, epochs in itertools.product(settings.learning_rate, settings.batch_size, settings.epochs):
        optimiser = plain.optimiser.model_copy(update={"learning_rate": rate})
        config = plain.model_copy(update={"optimiser": optimiser, "batch_size": size, "epochs": epochs})
        at = replace(base, config=config, work=files.join(base.work, f"{rate:g}-{size}-{epochs}"))
        tried.append((one(_part(at, f"seed-{at.seed}", at.seed))["best_loss"], at))
    rows = [{"strategy": strategy.kind, **_setting(at), "error": error} for error, at in tried]
    return min(tried, key=lambda row: row[0])[1], rows


def _part(job: Job, name: str, seed: int) -> Job:
    work = files.join(job.work, name)
    return replace(job, seed=seed, work=work, result=files.join(work, "model"))


def _setting(job: Job) -> dict[str, Any]:
    config = job.config
    return {
        "learning_rate": config.optimiser.learning_rate,
        "batch_size": config.batch_size,
        "epochs": config.epochs,
    }


def _row(summaries: list[dict[str, Any]]) -> dict[str, Any]:
    """The row of a strategy, of its first seed; with several, mean and deviation of its score over them."""
    row = dict(summaries[0]["strategies"][0])
    if len(summaries) > 1:
        values = [summary["strategies"][0]["score"]["value"] for summary in summaries]
        row["over_seeds"] = vars(over_seeds(values))
    return row
