"""How steps are carried out: groups of a step's items, on the runner that was chosen.

What is current is found here first, so that a run with nothing to do starts no process. The result never depends on
anything here: items are independent and fingerprinted; a group that is lost or run twice costs time and nothing else.
"""

from __future__ import annotations

import contextlib
import logging
import math
import multiprocessing
import os
import signal
import socket
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    CancelledError,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    wait,
)
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, Protocol

import psutil

from flows.execution import heard, tracking
from flows.execution.end_with_parent import end_with
from flows.execution.progress import reporter
from flows.execution.storage_retries import persistent
from pipeline import MillError
from pipeline.build.build import Build, Outcome, Step
from pipeline.store import files, messages

Runner = Literal["processes", "threads", "dask", "ray"]
Work = Callable[[Build, str], Outcome]

TASKS_PER_WORKER = 4
"""Groups a step is cut into for each worker: enough to even out, few enough to be read in the UI."""


HERE_SECONDS = 1
"""How long a step may take in this process before worker processes, which take longer to start, are worth it."""


class WorkerKilled(MillError):
    """Worker processes ended in mid work, twice."""


class NoRunner(MillError):
    """The runner's package is not installed."""


Group = tuple[list[Outcome], list[str]]
"""What came of a group of items, and what its worker said meanwhile, where it is not this process."""


class Executor(Protocol):
    def submit(self, work: Callable[..., Group], /, *arguments: Any) -> Future[Group]: ...


def run_steps(build: Build, steps: Sequence[Step], pool: Pool) -> None:
    """Carry out ``steps`` one after the other; the first error of a step ends it."""
    for step in steps:
        run_step(build, step, pool)


def run_step(build: Build, step: Step, pool: Pool) -> None:
    """Carry out one step: what is current is found in this process, the rest is for the pool."""
    items = list(step.items(build))
    if not items:
        return
    began = time.monotonic()
    with reporter().step(step.name, step.title, len(items)) as advance:
        used = processor_seconds()
        kept = current(build, step.work, items)
        done, size, made = len(kept), sum(outcome.bytes for outcome in kept), not all(o.reused for o in kept)
        whole = not any(outcome.reused for outcome in kept)
        if kept:
            tracking.reused(step.title, f"{step.title}: {done} of {len(items)} up to date")
        if done < len(items):
            reporter().made += 1
        for outcomes in pool.run(build, step, items[done:]):
            done, size = done + len(outcomes), size + sum(outcome.bytes for outcome in outcomes)
            made = made or not all(outcome.reused for outcome in outcomes)
            whole = whole and not any(outcome.reused for outcome in outcomes)
            advance(done, f"{size / 1e6 / (time.monotonic() - began):.1f} MB/s" if size else "")
        reporter().note(bytes=size, reused=done == len(kept), dropped=lambda: dropped(build, step.name))
        if not made:
            advance(done, "reused")
        elif done == len(kept):
            advance(done, "")
        if made and whole:
            reporter().whole.add(step.name)
            reporter().processor[step.name] = processor_seconds() - used


def processor_seconds() -> float:
    """Processor time of this process and of those it started and has not ended."""
    total = time.process_time()
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            times = child.cpu_times()
            total += times.user + times.system
    return total


def dropped(build: Build, stage: str) -> int | None:
    """Documents that the rules of ``stage`` drop; None where that is the name of another step."""
    if stage not in build.stages:
        return None
    ledgers = (build.ledger(stage, shard)["dropped_by"] for shard in build.shards())
    return sum(len(column) - column.null_count for column in ledgers)


def current(build: Build, work: Work, items: Sequence[str]) -> list[Outcome]:
    """What ``work`` comes to for the items before the first that has to be made; or with it, if it did not ask."""
    outcomes: list[Outcome] = []
    with files.looking(), contextlib.suppress(files.NotCurrent):
        for item in items:
            outcomes.append(work(build, item))
            if not outcomes[-1].reused:
                break
    return outcomes


def grouped(items: Sequence[str], groups: int) -> list[Sequence[str]]:
    """``items`` in order, cut into at most ``groups`` runs of nearly equal length."""
    count = min(len(items), groups)
    if not count:
        return []
    edges = [len(items) * index // count for index in range(count + 1)]
    return [items[low:high] for low, high in pairwise(edges)]


class Pool:
    """``workers`` workers of ``runner``, started when there is work for them; the end of the block ends them."""

    def __init__(self, runner: Runner, workers: int) -> None:
        self.runner, self.workers = runner, workers
        self._executor: Executor | None = None
        self._opened = contextlib.ExitStack()
        self._notes: Path | None = None
        self._processes: dict[int, Any] = {}

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:  # nobody waits for what the others are at
            for child in multiprocessing.active_children():
                child.kill()
        self._close()

    def run(self, build: Build, step: Step, items: Sequence[str]) -> Iterator[list[Outcome]]:
        """Carry out the step's work on ``items``, in groups; yields what each comes to, in the order of their ends.

        Where a worker process is killed, what it was at is tried once more with half as many. Raises WorkerKilled.
        """
        if self.runner == "processes" and self._executor is None:
            seconds = HERE_SECONDS if self.workers > 1 else math.inf
            for outcome in _run_here(build, step, items, seconds):
                items = items[1:]
                yield [outcome]
        waiting = deque(grouped(items, self.workers * TASKS_PER_WORKER))
        running: dict[Future[Group], tuple[Sequence[str], tracking.Run | None]] = {}
        again = False
        try:
            while waiting or running:
                try:
                    while waiting and len(running) < self.workers:
                        future = self._submit(build, step, waiting[0])
                        running[future] = waiting[0], tracking.begin(step.title, _run_name(step, waiting.popleft()))
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        if (error := future.exception()) and not isinstance(error, BrokenExecutor):
                            shown = running.pop(future)[1]
                            _log(heard.before(error), shown)
                            tracking.end(shown, "FAILED", messages.in_short(error))
                        outcomes, said = future.result()
                        shown = running.pop(future)[1]
                        _log(said, shown)
                        tracking.end(shown, "COMPLETED", _summary(outcomes))
                        yield outcomes
                except BrokenExecutor:
                    groups = [group for group, _ in running.values()]
                    where = self._lost(groups)
                    for _, shown in running.values():
                        tracking.end(shown, "CRASHED", where)
                    running.clear()
                    if again:
                        raise WorkerKilled(
                            f"{step.title}: {where}, for the second time. Memory that ran out is the usual cause: "
                            "use fewer --workers or a smaller `shard_bytes` in the recipe; the same command goes on "
                            "from here."
                        ) from None
                    again = True
                    waiting.extendleft(reversed(groups))
                    self.workers = max(1, self.workers // 2)
                    reporter().tell(f"{step.title}: {where}; trying once more with {self.workers} at a time")
        finally:
            for _, shown in running.values():
                tracking.end(shown, "CANCELLED", "an error elsewhere ended the step")

    def _submit(self, build: Build, step: Step, group: Sequence[str]) -> Future[Group]:
        if self._executor is None:
            self._executor = self._opened.enter_context(self._open())
        # A worker is not to hear of Ctrl-C, not even while it starts: it inherits what this thread does not take.
        taken = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            parent = (socket.gethostname(), os.getpid())
            future = self._executor.submit(work_on, build, step.title, step.work, group, parent, self._notes)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, taken)
        if self.runner == "processes":
            self._processes |= {child.pid or 0: child for child in multiprocessing.active_children()}
        return future

    def _open(self) -> contextlib.AbstractContextManager[Executor]:
        if self.runner == "processes":
            self._notes = Path(self._opened.enter_context(tempfile.TemporaryDirectory(prefix="corpusmill-")))
            return ProcessPoolExecutor(self.workers, multiprocessing.get_context("spawn"))
        if self.runner == "threads":
            return ThreadPoolExecutor(self.workers)
        return _dask(self.workers) if self.runner == "dask" else _ray(self.workers)

    def _lost(self, groups: Sequence[Sequence[str]]) -> str:
        """Close the broken executor; says which worker was killed, and at which item."""
        if isinstance(self._executor, ProcessPoolExecutor):
            self._executor.shutdown(wait=True)
        ended = {pid: child.exitcode for pid, child in self._processes.items()}
        noted = {pid: note.read_text() for pid in ended if self._notes and (note := self._notes / str(pid)).exists()}
        # when one is gone the others are ended by SIGTERM
        killed = [pid for pid in noted if ended[pid] not in (0, None, -signal.SIGTERM)]
        self._close()
        if not killed:
            return f"a worker process ended while at one of {', '.join(item for group in groups for item in group)}"
        code = ended[killed[0]] or 0
        how = f"was killed ({signal.Signals(-code).name})" if code < 0 else f"ended with exit code {code}"
        return f"the worker process at {' and '.join(noted[pid] for pid in killed)} {how}"

    def _close(self) -> None:
        self._opened.close()
        self._executor, self._notes, self._processes = None, None, {}


def _run_here(build: Build, step: Step, items: Sequence[str], seconds: float) -> Iterator[Outcome]:
    """The work on ``items`` in this process, until ``seconds`` have passed."""
    if not items:
        return
    began = time.monotonic()
    with tracking.task(step.title, _run_name(step, items)) as begin:
        begin()
        for item in items:
            yield _done(build, step.title, step.work, item, reporter().tell)
            if time.monotonic() - began > seconds:
                return


def _run_name(step: Step, group: Sequence[str]) -> str:
    name = f"{step.title}: {group[0]}"
    return name if len(group) == 1 else f"{name} to {group[-1]} ({len(group)})"


def _log(said: Sequence[str], task: tracking.Run | None) -> None:
    for line in said:
        tracking.log(line, logging.WARNING, task)


def _summary(outcomes: Sequence[Outcome]) -> str:
    reused = sum(outcome.reused for outcome in outcomes)
    return f"{len(outcomes) - reused} made, {reused} up to date"


def work_on(
    build: Build, title: str, work: Work, items: Sequence[str], parent: tuple[str, int], notes: Path | None
) -> Group:
    """The work of the step called ``title`` on each of ``items``. ``parent`` is the host and process that asked for
    it; in the folder ``notes`` each worker says which item it is at.
    """
    if parent == (socket.gethostname(), os.getpid()):
        return [_done(build, title, work, item, reporter().tell) for item in items], []
    if parent[0] == socket.gethostname():
        end_with(parent[1])
    outcomes = []
    with heard.listening() as here:
        for item in items:
            if notes is not None:
                (notes / str(os.getpid())).write_text(item)
            outcomes.append(_done(build, title, work, item, here.tell))
        return outcomes, here.lines()


def _done(build: Build, title: str, work: Work, item: str, tell: Callable[[str], object]) -> Outcome:
    """The work on one item, again where the storage fails, with a line to ``tell``; an error notes the step and the
    item.
    """
    place = f"{title}: {item}"
    try:
        return persistent(lambda: work(build, item), lambda line: tell(f"{place}: {line}"))
    except Exception as error:
        error.add_note(place)
        raise


@contextlib.contextmanager
def _dask(workers: int) -> Iterator[Executor]:
    """Dask's workers: those of the scheduler that Dask's settings name, or processes of this machine."""
    try:
        from dask.config import get as setting
        from distributed import Client
    except ImportError as error:
        raise NoRunner("the dask runner needs Dask: pip install 'corpusmill[dask]'") from error
    address = setting("scheduler-address", None)
    local: dict[str, Any] = {"n_workers": workers, "threads_per_worker": 1, "dashboard_address": None}
    with Client(address) if address else Client(**local) as client:
        yield Translated(client.get_executor(pure=False), _of_dask)


@contextlib.contextmanager
def _ray(workers: int) -> Iterator[Executor]:
    """Ray's workers: those of the cluster that RAY_ADDRESS names, or processes of this machine."""
    try:
        import ray
    except ImportError as error:
        raise NoRunner("the ray runner needs Ray: pip install 'corpusmill[ray]'") from error
    local: dict[str, Any] = {} if os.environ.get("RAY_ADDRESS") else {"num_cpus": workers}
    ray.init(include_dashboard=False, **local)
    remote = ray.remote(work_on)

    class Tasks:
        def submit(self, _work: Callable[..., Group], /, *arguments: Any) -> Future[Group]:
            return remote.remote(*arguments).future()

    try:
        yield Translated(Tasks(), _of_ray)
    finally:
        ray.shutdown()


class Translated:
    """The executor ``within``, whose errors are put in our words by ``translate``."""

    def __init__(self, within: Executor, translate: Callable[[BaseException], BaseException]) -> None:
        self._within, self._translate = within, translate

    def submit(self, work: Callable[..., Group], /, *arguments: Any) -> Future[Group]:
        own: Future[Group] = Future()

        def done(theirs: Future[Group]) -> None:
            error = CancelledError("the runner gave it up") if theirs.cancelled() else theirs.exception()
            if error is None:
                own.set_result(theirs.result())
            else:
                own.set_exception(self._translate(error))

        self._within.submit(work, *arguments).add_done_callback(done)
        return own


def _of_dask(error: BaseException) -> BaseException:
    from distributed.scheduler import KilledWorker

    return BrokenExecutor(str(error)) if isinstance(error, KilledWorker) else error


def _of_ray(error: BaseException) -> BaseException:
    """What the worker raised, without what Ray wraps it in."""
    from ray.exceptions import NodeDiedError, OutOfMemoryError, RayTaskError, WorkerCrashedError

    if isinstance(error, WorkerCrashedError | OutOfMemoryError | NodeDiedError):
        return BrokenExecutor(str(error))
    if not isinstance(error, RayTaskError) or not isinstance(error.cause, Exception):
        return error
    error.cause.__cause__ = error  # it has the worker's traceback
    return error.cause
