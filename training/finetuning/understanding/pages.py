"""The pages on what a fine-tuning's base knows and what became of it, added to the summary of the published model.

Each is made once: it carries what it was made by, and is made again only where the model is another.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pipeline.store import files
from training.finetuning.job import Job
from training.finetuning.understanding import bound, heads, pooling, probes, states
from training.recipe.finetuning import FinetuneConfig

#: Raised when a page would say something else of the same model.
VERSION = 1


def lacking(config: FinetuneConfig, summary: dict[str, Any]) -> list[str]:
    """The pages that are asked for and that ``summary`` has not."""
    pages = summary.get("understanding", {})
    return [page for page in config.understand if pages.get(page, {}).get("made_by") != _made_by(summary)]


def add(job: Job, summary: dict[str, Any]) -> dict[str, Any]:
    """``summary`` of the published model of ``job`` with the pages that are asked for; those made now are written."""
    for page in lacking(job.config, summary):
        content = _MAKERS[page](job, summary)
        pages = {**summary.get("understanding", {}), page: {"made_by": _made_by(summary), **content}}
        summary = {**summary, "understanding": pages}
        files.write_json(files.join(job.result, "summary.json"), summary)
    return summary


def _made_by(summary: dict[str, Any]) -> str:
    return files.fingerprint("understanding", VERSION, states.VERSION, summary["fingerprint"])


def _probes(job: Job, _summary: dict[str, Any]) -> dict[str, Any]:
    return probes.run(states.vectors(job), len(job.rows.labels), job.seed)


def _pooling(job: Job, _summary: dict[str, Any]) -> dict[str, Any]:
    return pooling.run(states.vectors(job), len(job.rows.labels))


_MAKERS: dict[str, Callable[[Job, dict[str, Any]], dict[str, Any]]] = {
    "probes": _probes,
    "attention": lambda job, _summary: heads.run(job),
    "pooling": _pooling,
    "bound": bound.run,
}
