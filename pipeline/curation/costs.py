"""What steps cost, measured: processor time, memory, disk and opened files; and what that comes to for other sizes.

The one model of costs. Processor time of a step is ``fixed + rate * bytes of text``, from two runs over samples of
different sizes; beside it each worker process pays once for its start (imports, kernels, models). Opened files and
memory follow formulas (docs/scale.md), as they depend on shards and partitions, not on the text alone.
"""

from __future__ import annotations

import contextlib
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

#: Between two looks at memory: of a process that does one item of a sample, and of all processes of a build.
_LOOK_SECONDS, _ALL_SECONDS = 0.02, 0.1
#: Looks after which the children of a process are listed again.
_CHILDREN_LOOKS = 10


class StepCost(NamedTuple):
    """What one step took: ``processor`` and ``clock`` seconds, ``memory`` the most bytes that one process held (without
    the pages of mapped files), ``written`` the bytes by which the build grew, ``opened`` the files that were opened.
    ``longest``: processor seconds of the longest item, below which no number of workers brings the step. ``grown``: by
    how much of ``memory`` a process grew over one item.
    """

    step: str
    items: int
    processor: float
    clock: float
    longest: float
    memory: int
    written: int
    opened: int
    grown: int = 0


def carry_out(build: Build, steps: Sequence[Step], pool: ProcessPoolExecutor) -> Iterator[StepCost]:
    """Carry out ``steps`` on the processes of ``pool``, an item at a time; yields what each took as it ends."""
    size = _size(build.root)
    for step in steps:
        before, began, here = opens.counted.total(), time.perf_counter(), time.process_time()
        items = list(step.items(build))
        opened, count = opens.counted.total() - before, len(items)
        done = list(pool.map(_work, [build] * count, [step.work] * count, items))
        own = time.process_time() - here
        clock, grown = time.perf_counter() - began, _size(build.root)
        yield StepCost(
            step.name,
            count,
            own + sum(one.processor for one in done),
            clock,
            max((one.processor for one in done), default=0.0),
            max((one.memory for one in done), default=0),
            grown - size,
            opened + sum(one.opened for one in done),
            max((one.memory - one.before for one in done), default=0),
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
    before: int
    opened: int


#: The latest build of which this process did an item, and its processor seconds then: to be handed the next one takes
#: time as well.
_done = "", 0.0


def _work(build: Build, work: Callable[[Build, str], Outcome], item: str) -> _Item:
    global _done
    memory, opened, began = memory_of(os.getpid()), opens.counted.total(), time.process_time()
    if _done[0] == build.root:
        began = _done[1]
    with watching() as most:
        work(build, item)
    _done = build.root, time.process_time()
    return _Item(_done[1] - began, most[0], memory, opens.counted.total() - opened)


@contextmanager
def watching(children: bool = False) -> Iterator[list[int]]:
    """Holds, once the block has ended, the most memory that this process held during it, or one of its children."""
    most, ended = [memory_of(os.getpid())], threading.Event()

    def look() -> None:
        processes, looks = [os.getpid()], 0
        while not ended.wait(_ALL_SECONDS if children else _LOOK_SECONDS):
            if children and looks % _CHILDREN_LOOKS == 0:
                processes = [os.getpid(), *_children()]
            looks += 1
            most[0] = max(most[0], *map(memory_of, processes))

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield most
    finally:
        ended.set()
        watcher.join()
        most[0] = max(most[0], memory_of(os.getpid()))


def _children() -> list[int]:
    """The processes that this one has started; ``psutil`` looks through all processes for them."""
    lists = list(Path("/proc/self/task").glob("*/children"))
    if not lists:
        return [child.pid for child in psutil.Process().children()]
    with contextlib.suppress(OSError):  # a thread has ended
        return [int(process) for path in lists for process in path.read_text().split()]
    return []


def memory_of(process: int) -> int:
    """Bytes of memory that ``process`` holds itself, without the pages of mapped files where the system tells; 0 where
    it has ended.
    """
    status = Path(f"/proc/{process}/status")
    try:
        if not status.exists():
            return psutil.Process(process).memory_info().rss
        anonymous = re.search(r"RssAnon:\s+(\d+)", status.read_text())
    except (psutil.Error, OSError):
        return 0
    return int(anonymous[1]) * 1024 if anonymous else 0


def _size(root: str) -> int:
    """Bytes of the files below ``root``."""
    total = 0
    for folder, _, names in os.walk(files.local_name(root)):
        for name in names:
            total += Path(folder, name).lstat().st_size
    return total
