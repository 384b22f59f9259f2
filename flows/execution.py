"""How steps are carried out: one Prefect task for each group of a step's items, on the runner that was chosen.

The result never depends on anything here: items are independent and fingerprinted, so a task that is lost or run twice
costs time and nothing else. Prefect's own caching stays off for that reason.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Literal

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.futures import as_completed
from prefect.task_runners import ProcessPoolTaskRunner, TaskRunner, ThreadPoolTaskRunner

from flows.lifetime import end_with
from flows.progress import reporter
from pipeline import MillError
from pipeline.build import Build, Outcome, Step

Runner = Literal["processes", "threads", "dask", "ray"]

TASKS_PER_WORKER = 4
"""Groups a step is cut into for each worker: enough to even out, few enough to be read in the UI."""


def task_runner(runner: Runner, workers: int) -> TaskRunner[Any]:
    """The Prefect task runner of that name; raises MillError with the package to install where it is absent."""
    if runner == "processes":
        # One process gains nothing over this one and takes seconds to start.
        return ProcessPoolTaskRunner(max_workers=workers) if workers > 1 else ThreadPoolTaskRunner(max_workers=1)
    if runner == "threads":
        return ThreadPoolTaskRunner(max_workers=workers)
    if runner == "dask":
        try:
            from prefect_dask.task_runners import DaskTaskRunner
        except ImportError as error:
            raise MillError("the dask runner needs prefect-dask: pip install 'corpusmill[dask]'") from error
        return DaskTaskRunner(cluster_kwargs={"n_workers": workers, "threads_per_worker": 1, "dashboard_address": None})
    try:
        from prefect_ray.task_runners import RayTaskRunner
    except ImportError as error:
        raise MillError("the ray runner needs prefect-ray: pip install 'corpusmill[ray]'") from error
    return RayTaskRunner(init_kwargs={"num_cpus": workers, "include_dashboard": False})


def run_steps(build: Build, steps: Sequence[Step], workers: int) -> None:
    """Carry out ``steps`` one after the other inside the running flow; the first error of a step ends it."""
    for step in steps:
        run_step(build, step, workers)


def run_step(build: Build, step: Step, workers: int) -> None:
    """Carry out one step inside the running flow."""
    items = list(step.items(build))
    groups = grouped(items, workers * TASKS_PER_WORKER)
    parent = (socket.gethostname(), os.getpid())
    named = work_on.with_options(name=step.title)
    began = time.monotonic()
    size, done, reused = 0, 0, 0
    with reporter().step(step.name, step.title, len(items)) as advance:
        futures = [
            named.with_options(task_run_name=_run_name(step, group)).submit(build, step.work, group, parent)
            for group in groups
        ]
        for future in as_completed(futures):
            for outcome in future.result():
                done, size, reused = done + 1, size + outcome.bytes, reused + outcome.reused
            rate = f"{size / 1e6 / (time.monotonic() - began):.1f} MB/s" if size else ""
            advance(done, "reused" if reused == done else rate)


def grouped(items: Sequence[str], groups: int) -> list[Sequence[str]]:
    """``items`` in order, cut into at most ``groups`` runs of nearly equal length."""
    count = min(len(items), groups)
    if not count:
        return []
    edges = [len(items) * index // count for index in range(count + 1)]
    return [items[low:high] for low, high in pairwise(edges)]


def _run_name(step: Step, group: Sequence[str]) -> str:
    name = f"{step.title}: {group[0]}"
    return name if len(group) == 1 else f"{name} and {len(group) - 1} more"


@task(cache_policy=NO_CACHE, persist_result=False)
def work_on(
    build: Build, work: Callable[[Build, str], Outcome], items: Sequence[str], parent: tuple[str, int]
) -> list[Outcome]:
    """One task: the step's work on each of ``items``. ``parent`` is the host and process that asked for it."""
    host, process = parent
    if host == socket.gethostname() and process != os.getpid():
        end_with(process)
    return [work(build, item) for item in items]
