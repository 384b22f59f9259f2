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
from contextvars import copy_context
from dataclasses import dataclass, replace
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
from pipeline.build.machine import HERE_SECONDS, cores
from pipeline.store import files, messages, mirror, objects
from pipeline.text import formats

Runner = Literal["processes", "threads", "dask", "ray"]
Work = Callable[[Build, str], Outcome]

TASKS_PER_WORKER = 4
"""Groups a step is cut into for each worker: enough to even out, few enough to be read in the UI."""


#: Seconds in which a cluster has to answer.
CLUSTER_SECONDS = 30


class WorkerKilled(MillError):
    """Worker processes ended in mid work, twice."""


class NoRunner(MillError):
    """The runner's package is not installed."""


class NotReached(MillError):
    """The cluster, or from one of its workers the folder of the build, is not reached."""


@dataclass(frozen=True)
class Task:
    """What a worker is sent: places and names, never data.

    ``address`` is that of a build in an object store, which each machine has a local copy of; None for a folder.
    ``epoch`` names this run of the step. ``parent`` is the host and process that asked for it, and ``ends`` whether
    the worker ends with it; in the folder ``notes`` each worker says which item it is at.
    """

    build: Build
    address: str | None
    title: str
    work: Work
    items: Sequence[str]
    epoch: str
    parent: tuple[str, int]
    ends: bool
    notes: Path | None


Group = tuple[list[Outcome], list[str], dict[str, int]]
"""What came of a group of items; what its worker said meanwhile, where it is not this process; and the requests to
object stores that were made for them."""


class Executor(Protocol):
    def submit(self, work: Callable[..., Group], /, *arguments: Any) -> Future[Group]: ...


def run_steps(build: Build, steps: Sequence[Step], pool: Pool) -> None:
    """Carry out ``steps`` one after the other; the first error of a step ends it."""
    for step in steps:
        run_step(build, step, pool)


def run_step(build: Build, step: Step, pool: Pool) -> None:
    """Carry out one step: what is current is found in this process, the rest is for the pool."""
    with mirror.step():
        _run_step(build, step, pool)


def _run_step(build: Build, step: Step, pool: Pool) -> None:
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
            advance(done, f"{formats.size(size / (time.monotonic() - began))}/s" if size else "")
        reporter().note(bytes=size, reused=done == len(kept), dropped=lambda: dropped(build, step.name))
        if not made:
            advance(done, "reused")
        elif done == len(kept):
            advance(done, "")
        if made and whole:
            reporter().whole.add(step.name)
            reporter().processor[step.name] = processor_seconds() - used


def loaded() -> float:
    """Processor time of this process, which has loaded by then what a worker loads for its first task."""
    return time.process_time()


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
    if files.is_mirrored(build.root):
        return _current_in_store(build, work, items)
    outcomes: list[Outcome] = []
    with files.looking(), contextlib.suppress(files.NotCurrent):
        for item in items:
            outcomes.append(work(build, item))
            if not outcomes[-1].reused:
                break
    return outcomes


def _current_in_store(build: Build, work: Work, items: Sequence[str]) -> list[Outcome]:
    """The same where each look is a request, which takes its time: several at once."""
    outcomes: list[Outcome] = []

    def look(item: str) -> Outcome | None:
        with files.looking(), contextlib.suppress(files.NotCurrent):
            return work(build, item)
        return None

    with ThreadPoolExecutor(objects.PARALLEL) as pool:
        for start in range(0, len(items), 4 * objects.PARALLEL):
            some = items[start : start + 4 * objects.PARALLEL]
            looked = list(pool.map(lambda pair: pair[0].run(look, pair[1]), [(copy_context(), item) for item in some]))
            for outcome in looked:
                if outcome is None:
                    return outcomes
                outcomes.append(outcome)
                if not outcome.reused:
                    return outcomes
    return outcomes


def grouped(items: Sequence[str], groups: int) -> list[Sequence[str]]:
    """``items`` in order, cut into at most ``groups`` runs of nearly equal length."""
    count = min(len(items), groups)
    if not count:
        return []
    edges = [len(items) * index // count for index in range(count + 1)]
    return [items[low:high] for low, high in pairwise(edges)]


class Pool:
    """``workers`` workers of ``runner``, started when there is work for them; the end of the block ends them.

    ``cluster`` is the address of a Dask or Ray cluster that is there already; without ``workers``, all of its are used.
    Raises MillError for a runner that knows no clusters.
    """

    def __init__(self, runner: Runner, workers: int | None = None, cluster: str | None = None) -> None:
        if cluster is not None and runner not in ("dask", "ray"):
            raise MillError(f"--cluster is the address of a Dask or Ray cluster, and --runner is {runner}")
        self.runner, self.cluster = runner, cluster
        self.workers = workers or cores()
        self._all = cluster is not None and workers is None
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
        if self.runner != "threads" and not (self.runner == "processes" and self.workers == 1):
            _require_shared(build)
        if self.runner == "processes" and self._executor is None:
            seconds = HERE_SECONDS if self.workers > 1 else math.inf
            for outcome in _run_here(build, step, items, seconds):
                items = items[1:]
                yield [outcome]
        if self.cluster is not None and items:
            self._start()
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
                        outcomes, said, requests = future.result()
                        objects.requests.add(**requests)
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
                        raise WorkerKilled(f"{step.title}: {_killed_often(f'{where}, for the second time')}") from None
                    again = True
                    waiting.extendleft(reversed(groups))
                    self.workers = max(1, self.workers // 2)
                    reporter().tell(f"{step.title}: {where}; trying once more with {self.workers} at a time")
        finally:
            for _, shown in running.values():
                tracking.end(shown, "CANCELLED", "an error elsewhere ended the step")

    def _start(self) -> Executor:
        if self._executor is None:
            self._executor = self._opened.enter_context(self._open())
        return self._executor

    def _submit(self, build: Build, step: Step, group: Sequence[str]) -> Future[Group]:
        executor = self._start()
        # A worker is not to hear of Ctrl-C, not even while it starts: it inherits what this thread does not take.
        taken = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            parent, ends = (socket.gethostname(), os.getpid()), self.cluster is None
            address = files.url_of(build.root) if files.is_mirrored(build.root) else None
            epoch = mirror.epoch()
            if self.runner != "threads":
                mirror.others_work()
            task = Task(build, address, step.title, step.work, group, epoch, parent, ends, self._notes)
            future = executor.submit(work_on, task)
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
        return self._dask() if self.runner == "dask" else self._ray()

    @contextlib.contextmanager
    def _dask(self) -> Iterator[Executor]:
        """Dask's workers: those of the scheduler at ``cluster`` or that Dask's settings name, or processes here."""
        try:
            from dask.config import get as setting
            from distributed import Client
        except ImportError as error:
            raise NoRunner("the dask runner needs Dask: pip install 'corpusmill[dask]'") from error
        address = self.cluster or setting("scheduler-address", None)
        local: dict[str, Any] = {"n_workers": self.workers, "threads_per_worker": 1, "dashboard_address": None}
        try:
            client = Client(address, timeout=CLUSTER_SECONDS) if address else Client(**local)
        except (OSError, ValueError) as error:
            raise NotReached(f"--cluster {address}: no Dask scheduler answers there ({error})") from error
        with client:
            if self._all:
                self.workers = sum(worker["nthreads"] for worker in client.scheduler_info(-1)["workers"].values())
                if not self.workers:
                    raise NotReached(
                        f"--cluster {address}: the scheduler has no workers; start some: dask worker {address}"
                    )
            yield Translated(client.get_executor(pure=False), _of_dask)

    @contextlib.contextmanager
    def _ray(self) -> Iterator[Executor]:
        """Ray's workers: those of the cluster at ``cluster`` or that RAY_ADDRESS names, or processes here."""
        try:
            import ray
        except ImportError as error:
            raise NoRunner("the ray runner needs Ray: pip install 'corpusmill[ray]'") from error
        address = self.cluster or os.environ.get("RAY_ADDRESS")
        local: dict[str, Any] = {} if address else {"num_cpus": self.workers, "include_dashboard": False}
        try:  # what workers say comes with their results
            ray.init(address=address, log_to_driver=False, logging_level=logging.WARNING, **local)
        except (ConnectionError, ImportError, RuntimeError) as error:
            raise NotReached(
                f"--cluster {address}: no Ray cluster answers there, or one that asks for a token "
                f"(set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH): {error}"
            ) from error
        try:
            if self._all:
                self.workers = max(1, int(ray.cluster_resources().get("CPU", 1)))
            yield Translated(_Tasks(ray.remote(work_on)), _of_ray)
        finally:
            ray.shutdown()

    def _lost(self, groups: Sequence[Sequence[str]]) -> str:
        """Close the broken executor; says which worker was killed, and at which item."""
        if isinstance(self._executor, ProcessPoolExecutor):
            self._executor.shutdown(wait=True)
        ended = {pid: child.exitcode for pid, child in self._processes.items()}
        noted = {pid: note.read_text() for pid in ended if self._notes and (note := self._notes / str(pid)).exists()}
        # when one is gone the others are ended by SIGTERM
        killed = [pid for pid in noted if ended[pid] not in (0, None, -signal.SIGTERM)]
        self._close()
        self._all = False  # from now on as many as the step is tried with
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


def work_on(task: Task) -> Group:
    """What ``task`` asks for, here: in a worker, or in a thread of the process that asked."""
    host, process = task.parent
    if task.parent == (socket.gethostname(), os.getpid()):
        outcomes = [_done(task.build, task.title, task.work, item, reporter().tell) for item in task.items]
        return outcomes, [], objects.requests.taken()
    if task.ends and host == socket.gethostname():
        end_with(process)
    mirror.begin(task.epoch)
    build = task.build
    if task.address is not None:
        build = replace(build, root=files.here(task.address))
    elif host != socket.gethostname():
        _require_same_folder(build, host, process)
    outcomes = []
    with heard.listening() as here:
        for item in task.items:
            if task.notes is not None:
                (task.notes / str(os.getpid())).write_text(item)
            outcomes.append(_done(build, task.title, task.work, item, here.tell))
        return outcomes, here.lines(), objects.requests.taken()


def _require_shared(build: Build) -> None:
    """Raise MillError for a build in a store that other processes do not see."""
    if not objects.is_shared(files.url_of(build.root)):
        raise MillError(f"{build.address}: lies in the memory of this process; use --runner threads")


def _require_same_folder(build: Build, host: str, process: int) -> None:
    """Raise NotReached on a machine that does not see the folder of the build that the process on ``host`` has open."""
    lock = Path(build.root, ".lock")
    if not lock.exists() or lock.read_text() != str(process):
        raise NotReached(
            f"{build.root}: {socket.gethostname()} does not see the folder that {host} builds in; use a folder that "
            "all machines share, or --builds with the address of an object store"
        )


def _killed_often(what: str) -> str:
    return (
        f"{what}. Memory that ran out is the usual cause: use fewer --workers or a smaller `shard_bytes` in the "
        "recipe; the same command goes on from here."
    )


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


class _Tasks:
    """Ray's remote function as an executor."""

    def __init__(self, remote: Any) -> None:
        self._remote = remote

    def submit(self, _work: Callable[..., Group], /, *arguments: Any) -> Future[Group]:
        return self._remote.remote(*arguments).future()


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
