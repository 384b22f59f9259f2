"""What steps cost, measured: processor time, memory, disk and opened files; and what that comes to for other sizes.

The one model of costs. Processor time of a step is ``fixed + rate * bytes of text``, from two runs over samples of
different sizes; beside it each worker process pays once for its start (imports, kernels, models). Opened files and
memory follow formulas (docs/scale.md), as they depend on shards and partitions, not on the text alone.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import psutil

from pipeline.build.build import Build, Outcome, Step
from pipeline.store import files, opens

_LOOK_SECONDS = 0.01


class StepCost(NamedTuple):
    """What one step took: ``processor`` and ``clock`` seconds, ``memory`` the most bytes that one process held (without
    the pages of mapped files), ``written`` the bytes by which the build grew, ``opened`` the files that were opened.
    ``longest``: processor seconds of the longest item, below which no number of workers brings the step.
    """

    step: str
    items: int
    processor: float
    clock: float
    longest: float
    memory: int
    written: int
    opened: int


def carry_out(build: Build, steps: Sequence[Step], pool: ProcessPoolExecutor) -> Iterator[StepCost]:
    """Carry out ``steps`` on the processes of ``pool``, an item at a time; yields what each took as it ends."""
    size = _size(build.root)
    for step in steps:
        before, began, here = opens.counted.total(), time.perf_counter(), time.process_time()
        items = list(step.items(build))
        planning = time.process_time() - here, opens.counted.total() - before
        count = len(items)
        done = list(pool.map(_work, [build] * count, [step.work] * count, items))
        clock, grown = time.perf_counter() - began, _size(build.root)
        yield StepCost(
            step.name,
            count,
            planning[0] + sum(one.processor for one in done),
            clock,
            max((one.processor for one in done), default=0.0),
            max((one.memory for one in done), default=0),
            grown - size,
            planning[1] + sum(one.opened for one in done),
        )
        size = grown


@contextmanager
def processes(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Fresh processes for ``carry_out``, in which libraries use one thread each."""
    threads = "NUMBA_NUM_THREADS"
    before = os.environ.get(threads)
    os.environ[threads] = "1"
    try:
        with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
            yield pool
    finally:
        if before is None:
            del os.environ[threads]
        else:
            os.environ[threads] = before


class _Item(NamedTuple):
    processor: float
    memory: int
    opened: int


def _work(build: Build, work: Callable[[Build, str], Outcome], item: str) -> _Item:
    before, began = opens.counted.total(), time.process_time()
    with _watching() as most:
        work(build, item)
    return _Item(time.process_time() - began, most[0], opens.counted.total() - before)


@contextmanager
def _watching() -> Iterator[list[int]]:
    """Holds, once the block has ended, the most memory that this process held during it."""
    most, ended = [memory_now()], threading.Event()

    def look() -> None:
        while not ended.wait(_LOOK_SECONDS):
            most[0] = max(most[0], memory_now())

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield most
    finally:
        ended.set()
        watcher.join()
        most[0] = max(most[0], memory_now())


def memory_now() -> int:
    """Bytes of memory that this process holds itself, without the pages of mapped files where the system tells."""
    status = Path("/proc/self/status")
    anonymous = re.search(r"RssAnon:\s+(\d+)", status.read_text()) if status.exists() else None
    return int(anonymous[1]) * 1024 if anonymous else psutil.Process().memory_info().rss


def _size(root: str) -> int:
    """Bytes of the files below ``root``."""
    total = 0
    for folder, _, names in os.walk(files.local_name(root)):
        for name in names:
            total += Path(folder, name).lstat().st_size
    return total
