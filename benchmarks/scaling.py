"""What two processes gain over one: a whole curation, carried out step by step.

    python -m benchmarks.scaling [--megabytes 200] [--clock]

Each step's items are first carried out in one process. What two would gain at best follows from the items' processor
times: all of them, over the longer of the two sums when each process takes the next group of items as it is free. That
holds on a busy machine, too. ``--clock`` carries all out once more in two processes, and takes both times by the clock:
on a machine that has nothing else to do, this is what counts. Beside it stands what the machine has to give: two
processes that share nothing, each with the whole work of one. Two virtual processors often are not worth two real ones.
"""

from __future__ import annotations

import argparse
import heapq
import json
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from benchmarks.curation import claim
from benchmarks.dedup import rotated_prose
from flows.execution.run_steps import TASKS_PER_WORKER, grouped
from pipeline.build.build import Build, Outcome, Step
from pipeline.curation import recipe, steps
from pipeline.store import model_files

WORKERS = 2
GAIN = 1.8
FILES = 8
RECIPE = """
name: scaling
shard_bytes: 4000000
sources: [{{name: prose, kind: jsonl, path: "{folder}/*.jsonl", domain: web}}]
language: {{keep: {{"*": 0}}}}
heuristics: {{}}
perplexity: {{}}
pii: {{}}
exact: {{}}
minhash: {{}}
substring: {{}}
balance: {{}}
"""


@dataclass(frozen=True)
class Timed:
    """``groups``: of each group of items, as a build hands them out for two workers, the processor seconds."""

    name: str
    groups: list[float]
    clock: float

    @property
    def alone(self) -> float:
        return sum(self.groups)

    @property
    def shared(self) -> float:
        """Seconds until both processes are done, each taking the next group as it is free."""
        free = [0.0] * WORKERS
        for seconds in self.groups:
            heapq.heapreplace(free, free[0] + seconds)
        return max(free)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=200)
    parser.add_argument("--clock", action="store_true")
    options = parser.parse_args()
    os.environ["NUMBA_NUM_THREADS"] = "1"
    model_files.pull(["lid.176"])
    with tempfile.TemporaryDirectory() as folder:
        build, small = (
            open_build(Path(folder, name), size) for name, size in (("all", options.megabytes), ("small", 4))
        )
        one = carry_out(build, small, 1)
        two = carry_out(_another(build, "shared"), small, WORKERS) if options.clock else []
        beside = _beside_each_other(build, small) if options.clock else 0.0
    print(f"{'step':26} {'groups':>7} {'one, s':>8} {'two, s':>8} {'gain':>6}" + "   by the clock" * bool(two))
    for k, step in enumerate(one):
        gain = step.alone / step.shared if step.shared else 1.0
        clock = f" {step.clock:8.1f} {two[k].clock:8.1f}" if two else ""
        print(f"{step.name:26} {len(step.groups):7} {step.alone:8.2f} {step.shared:8.2f} {gain:6.2f}{clock}")
    alone, shared = sum(step.alone for step in one), sum(step.shared for step in one)
    print(f"{'all':26} {'':7} {alone:8.2f} {shared:8.2f}\n")
    claim(f"two processes: {alone / shared:.2f} times one, by processor time", alone / shared, GAIN, "times")
    if two:
        alone = sum(step.clock for step in one)
        gain, most = alone / sum(step.clock for step in two), WORKERS * alone / beside
        claim(f"two processes: {gain:.2f} times one, by the clock", gain, GAIN, "times")
        print(
            f"      two builds that share nothing, beside each other: {most:.2f} times one, so {gain / most:.0%} of it"
        )


def open_build(folder: Path, megabytes: int) -> Build:
    """A build of the prose in FILES files of JSON lines, and as much of it with its letters rotated as is needed."""
    folder.mkdir()
    texts = [text for part in rotated_prose(megabytes) for text in part.to_pylist()]
    for number in range(FILES):
        with (folder / f"{number}.jsonl").open("w", encoding="utf-8", newline="\n") as handle:
            handle.writelines(json.dumps({"text": text}) + "\n" for text in texts[number::FILES])
    return Build(f"{folder}/build", recipe.parse(RECIPE.format(folder=folder), recipe.Recipe))


def carry_out(build: Build, small: Build, workers: int) -> list[Timed]:
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        list(pool.map(_warm_up, [small] * workers))
        return [_step(pool, build, step) for step in steps.steps(build.recipe)]


def _another(build: Build, name: str) -> Build:
    return Build(f"{build.root}-{name}", build.recipe)


def _beside_each_other(build: Build, small: Build) -> float:
    """Seconds by the clock of the longer of two builds, each in a process of its own, at the same time."""
    copies = [_another(build, f"beside-{number}") for number in range(WORKERS)]
    with ThreadPoolExecutor(WORKERS) as pool:
        runs = list(pool.map(lambda copy: carry_out(copy, small, 1), copies))
    return max(sum(step.clock for step in run) for run in runs)


def _warm_up(small: Build) -> None:
    """Load or compile all kernels, which is not what is measured."""
    own = Build(f"{small.root}-{os.getpid()}", small.recipe)
    for step in steps.steps(own.recipe):
        for item in step.items(own):
            step.work(own, item)


def _step(pool: ProcessPoolExecutor, build: Build, step: Step) -> Timed:
    began = time.perf_counter()
    groups = grouped(list(step.items(build)), WORKERS * TASKS_PER_WORKER)
    seconds = list(pool.map(_work, [build] * len(groups), [step.work] * len(groups), groups))
    return Timed(step.name, seconds, time.perf_counter() - began)


def _work(build: Build, work: Callable[[Build, str], Outcome], items: Sequence[str]) -> float:
    began = time.process_time()
    for item in items:
        work(build, item)
    return time.process_time() - began


if __name__ == "__main__":
    main()
