"""A program that the tests stop: native code in the main thread, worker processes that never end, or `mill` held there.

python -m tests.helpers.stopped {native,workers} FOLDER
python -m tests.helpers.stopped mill FOLDER ARGUMENTS...
"""

from __future__ import annotations

import os
import sys
import threading
from dataclasses import dataclass, replace
from pathlib import Path

from numba import njit

from flows.execution import run_steps, stopping
from flows.execution.open_build import on_record
from flows.execution.run_steps import Pool, run_step
from pipeline.build.build import Build, Outcome, Step
from pipeline.store import files
from tests.helpers.small_build import open_small


@njit(nogil=True)
def _spin(rounds):
    found = 0
    for number in range(rounds):
        found ^= found * 31 + number
    return found


def native(build: Build, item: str) -> Outcome:
    """Minutes in one native call, in which no signal handler of Python runs; the first item takes no time."""
    if not files.current(files.exists(build.path("never"))) and item != "first":
        Path(build.path("at", item)).touch()
        _spin(10**13)
    return Outcome()


@dataclass(frozen=True)
class Held:
    """The work of a step that never ends once it has made one item; it notes that it is there in ``folder``."""

    work: run_steps.Work
    folder: Path

    def __call__(self, build: Build, item: str) -> Outcome:
        outcome = self.work(build, item)
        if not outcome.reused:
            Path(self.folder, str(os.getpid())).touch()
            threading.Event().wait()
        return outcome


def held_mill(folder: str, *arguments: str) -> None:
    """`mill` whose build is held in the step of the MinHash signatures, by whatever carries that out."""
    from flows import cli

    def run(build: Build, step: Step, pool: Pool) -> None:
        is_held = step.name == "minhash.signatures"
        run_step(build, replace(step, work=Held(step.work, Path(folder))) if is_held else step, pool)

    run_steps.HERE_SECONDS = -1
    run_steps.run_step = run
    sys.argv = ["mill", *arguments]
    cli.main()


def main(kind: str, folder: str) -> None:
    run_steps.HERE_SECONDS = -1
    build = open_small(Path(folder))
    Path(build.path("at")).mkdir(parents=True)
    step = Step("native", "Native code", lambda _build: ["first", "a", "b"], native)
    with (
        stopping.stoppable(lambda line: print(line, flush=True)),
        on_record(build, Path(folder, "recipe.yaml"), lambda: None, {}),
        Pool("processes", 1 if kind == "native" else 2) as pool,
    ):
        run_step(build, step, pool)


if __name__ == "__main__":
    (held_mill if sys.argv[1] == "mill" else main)(*sys.argv[1 + (sys.argv[1] == "mill") :])
