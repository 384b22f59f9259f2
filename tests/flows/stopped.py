"""A program that the tests stop: native code in the main thread, or worker processes that never end.

python -m tests.flows.stopped {native,workers} FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

from numba import njit

from flows import execution, stopping
from flows.execution import Pool, run_step
from flows.opening import on_record
from pipeline.build import Build, Outcome, Step
from pipeline.store import files
from tests.pipeline.small_build import open_small


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


def main(kind: str, folder: str) -> None:
    execution.HERE_SECONDS = -1
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
    main(*sys.argv[1:])
