"""What two workers of Dask and of Ray gain over one: a whole curation by real worker processes, to equal bytes.

    python -m benchmarks engines [--megabytes 300] [--engines dask ray]

Processor time counts, so that other work on the machine distorts little: the gain is what one worker takes for all over
what the longer of two takes. Start-up (imports and kernels, which each worker loads once) is included, and what a
worker takes for a corpus of one megabyte says how long it is. By steps: each step ends when the longer of its workers
does, which on a busy machine also counts who was held up. The bytes of all builds are compared.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import psutil

from benchmarks.curation import claim
from benchmarks.scaling import open_build
from flows.execution import progress
from flows.execution.run_steps import Pool, Runner, run_step
from pipeline.build.build import Build, Outcome
from pipeline.curation import steps
from pipeline.store import model_files

ENGINES = "dask", "ray"
GAIN = 1.7
ENVIRONMENT = {"NUMBA_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"}


@dataclass(frozen=True)
class Run:
    """Processor seconds: of each worker in all, of the longest worker of each step, and of the engine beside them, this
    process included; and seconds by the clock.
    """

    workers: list[float]
    longest: list[float]
    beside: float
    clock: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=300)
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=ENGINES)
    options = parser.parse_args()
    os.environ.update(ENVIRONMENT)
    model_files.pull(["lid.176"])
    with tempfile.TemporaryDirectory() as name, progress.reporting(progress.Reporter()):
        folder = Path(name)
        small, large = (
            open_build(folder / size, megabytes) for size, megabytes in (("small", 1), ("large", options.megabytes))
        )
        carry_out("processes", 1, small, folder)  # compiles the kernels that are not compiled yet
        digests = set()
        for engine in options.engines:
            (start,) = carry_out(engine, 1, small, folder)[0].workers
            (one, alone), (two, shared) = (carry_out(engine, workers, large, folder) for workers in (1, 2))
            digests |= {alone, shared}
            show(engine, start, one, two)
    claim(f"{len(digests)} different corpora of {2 * len(options.engines)} builds", 1 / len(digests), 1, "alike")


def show(engine: str, start: float, one: Run, two: Run) -> None:
    alone, shared = sum(one.workers), max(two.workers)
    print(f"{engine}: seconds of processor time, {start:.1f} of each worker's for its start")
    for run, workers in ((one, "one worker "), (two, "two workers")):
        each = " and ".join(f"{seconds:.1f}" for seconds in run.workers)
        print(f"  {workers} {each}, the engine beside them {run.beside:.1f}; {run.clock:.1f} s by the clock")
    print(f"  without start {(alone - start) / (shared - start):.2f} times, by steps {alone / sum(two.longest):.2f}")
    claim(f"two workers of {engine}: {alone / shared:.2f} times one, by processor time", alone / shared, GAIN, "times")


def carry_out(engine: Runner, workers: int, build: Build, folder: Path) -> tuple[Run, bytes]:
    """Curate a copy of ``build`` on fresh workers; with the digest of all files that come of it."""
    own, notes = Build(f"{build.root}-{engine}-{workers}", build.recipe), Path(tempfile.mkdtemp(dir=folder))
    began, used, longest = time.perf_counter(), time.process_time(), []
    last: dict[int, float] = {}
    with Pool(engine, workers) as pool:
        for step in steps.steps(own.recipe):
            run_step(own, replace(step, work=partial(noted, str(notes), step.work)), pool)
            at_work = {int(note.name) for note in notes.iterdir()} - {os.getpid()}
            now = {**last, **dict(seconds(at_work))}
            longest.append(max((now[process] - last.get(process, 0.0) for process in now), default=0.0))
            last = now
        clock = time.perf_counter() - began
        others = {child.pid for child in psutil.Process().children(recursive=True)} - last.keys()
        beside = time.process_time() - used + sum(value for _, value in seconds(others))
    made = digest(Path(own.root))
    shutil.rmtree(own.root)
    return Run(sorted(last.values()), longest, beside, clock), made


def noted(notes: str, work: Callable[[Build, str], Outcome], build: Build, item: str) -> Outcome:
    """The work, and in the folder ``notes`` which process did it; this one does what says only then that it is done."""
    outcome = work(build, item)
    Path(notes, str(os.getpid())).touch()
    return outcome


def seconds(processes: Iterable[int]) -> Iterator[tuple[int, float]]:
    """Processor time of each of ``processes`` that is there yet, with the children that it has waited for."""
    for process in processes:
        with contextlib.suppress(psutil.Error):
            times = psutil.Process(process).cpu_times()
            yield process, times.user + times.system + times.children_user + times.children_system


def digest(root: Path) -> bytes:
    """Of the names and contents of all files below ``root``."""
    total = hashlib.blake2b()
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        total.update(f"{path.relative_to(root)}\0{path.stat().st_size}\0".encode())
        with path.open("rb") as handle:
            total.update(hashlib.file_digest(handle, "blake2b").digest())
    return total.digest()


if __name__ == "__main__":
    main()
