"""The whole way: raw text to a trained model and its report."""

# No `from __future__ import annotations` here: Prefect checks a deployment's parameters by the types themselves.

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

from prefect import flow
from prefect.runtime import flow_run
from pydantic import Field

from flows.curate import curate
from flows.execution import Runner, task_runner
from flows.finetune import finetune
from flows.opening import BUILDS, on_record, open_build
from flows.pretrain import pretrain
from flows.progress import reporter
from flows.report import report
from flows.tokenizers import tokenize

Stop = Literal["curate", "tokenize", "pretrain", "finetune", "report"]
Workers = Annotated[int, Field(ge=1, le=4096, description="tasks at a time; the result is the same for any number")]


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@flow(name="build", flow_run_name="build {recipe.stem}")
def build(
    recipe: Path,
    until: Stop = "report",
    workers: Workers | None = None,
    runner: Runner = "processes",
    builds: Path = BUILDS,
) -> str:
    """Build what RECIPE describes, up to and including the part named by `until`; returns the build's folder.

    Work whose inputs, configuration and models are unchanged since an earlier run is not done again.
    """
    opened = open_build(recipe, builds)
    count = workers or cores()
    with on_record(opened, recipe, flow_run.ui_url, reporter().seconds):
        parts: dict[Stop, Callable[[], object]] = {
            "curate": lambda: curate.with_options(task_runner=task_runner(runner, count))(recipe, builds, count),
            "tokenize": lambda: tokenize.with_options(task_runner=task_runner(runner, count))(recipe, builds, count),
            "pretrain": lambda: pretrain(recipe, builds),
            "finetune": lambda: finetune(recipe, builds),
            "report": lambda: report(recipe, builds, count),
        }
        for part, run in parts.items():
            run()
            if part == until:
                break
    return opened.root
