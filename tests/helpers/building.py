"""Carry out a recipe's steps without a flow runner; run as a program, it can be killed at a chosen write.

    python -m tests.helpers.building RECIPE ROOT [STEP:WRITE ...]

Prints the name of the running step at each write, one a line. For each STEP:WRITE in turn a run on what the one
before left is killed (SIGKILL) when it is about to make the WRITE-th file of that step visible: all bytes and their
checksum are written, the rename has not happened. A line of JSON tells how it ended and which files are finished then.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import json
import os
import random
import signal
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pyarrow as pa

from pipeline.build.build import Build, Outcome, Step
from pipeline.build.stage import Scorer
from pipeline.curation import recipe as recipes
from pipeline.curation import steps as curate
from pipeline.store import checksums, files, shards
from pipeline.text import sentences
from pipeline.tokenization import steps as tokenization


def steps(build: Build) -> list[Step]:
    chosen = curate.steps(build.recipe)
    return chosen + (tokenization.steps() if build.recipe.tokenizers else [])


def make(
    recipe: recipes.Recipe, root: Path, workers: int = 1, scorer: Scorer | None = None
) -> tuple[Build, dict[str, list[Outcome]]]:
    """Build ``recipe`` in ``root``; the items of each step in a shuffled order, or over worker processes."""
    build = Build(str(root), recipe, scorer)
    outcomes: dict[str, list[Outcome]] = {}
    with contextlib.ExitStack() as stack:
        pool = None
        if workers > 1:
            pool = stack.enter_context(ProcessPoolExecutor(workers, mp_context=get_context("spawn")))
        for step in steps(build):
            items = list(step.items(build))
            random.Random(workers).shuffle(items)
            if pool is None:
                outcomes[step.name] = [step.work(build, item) for item in items]
            else:
                outcomes[step.name] = list(pool.map(step.work, [build] * len(items), items))
    return build, outcomes


def curated(build: Build) -> dict[str, tuple[str, str, int]]:
    """Every document of the curated corpus: id -> (text, domain, repeats)."""
    names = files.read_json(build.path("corpus", "manifest.json"))["shards"]
    rows = [row for name in names for row in shards.read_table(build.path("corpus", name)).to_pylist()]
    found = {row["id"]: (row["text"], row["domain"], row["repeats"]) for row in rows}
    assert len(found) == len(rows), "an id stands in the corpus twice"
    return found


def outputs(root: Path) -> dict[str, tuple[int, int]]:
    """Every finished file of a build: its path, and what changes when it is written again."""
    return {
        str(path.relative_to(root)): (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in root.rglob("*")
        if path.is_file() and not path.name.startswith(".") and path.parent.name != checksums.FOLDER
    }


def contents(root: Path) -> dict[str, str]:
    """Every finished file of a build and the SHA-256 of its bytes."""
    return {name: hashlib.sha256((root / name).read_bytes()).hexdigest() for name in outputs(root)}


def forked(work: Callable[[], None]) -> int:
    """The wait status of a child process that does ``work``; call it before a kernel has started threads."""
    gc.freeze()  # or the first collection in the child copies all that is here
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    status = 1
    with contextlib.suppress(Exception):
        work()
        status = 0
    os._exit(status)


def watched(recipe: str, root: str, at_write: Callable[[str, int], None]) -> None:
    """Build, and call ``at_write`` with the running step and the number of its write before each rename."""
    build = Build(root, recipes.load(recipe, recipes.Recipe))
    running, count = "", 0
    note = checksums.note

    def counted(path: Path, content: Path) -> None:
        nonlocal count
        note(path, content)
        at_write(running, count)
        count += 1

    checksums.note = counted
    for step in steps(build):
        running, count = step.name, 0
        for item in step.items(build):
            step.work(build, item)


def killed_at(recipe: str, root: str, moment: str) -> None:
    step, _, write = moment.rpartition(":")

    def kill(running: str, count: int) -> None:
        if (running, count) == (step, int(write)):
            os.kill(os.getpid(), signal.SIGKILL)

    watched(recipe, root, kill)


def main(recipe: str, root: str, *moments: str) -> None:
    if not moments:
        watched(recipe, root, lambda running, _: print(running, flush=True))
    steps(Build(root, recipes.load(recipe, recipes.Recipe)))  # its modules, and numba: once, and not in each fork
    sentences.starts(pa.array(["One. Two."]))
    for moment in moments:
        status = forked(lambda moment=moment: killed_at(recipe, root, moment))
        finished = {name: list(state) for name, state in outputs(Path(root)).items()}
        print(json.dumps({"moment": moment, "status": status, "finished": finished}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
