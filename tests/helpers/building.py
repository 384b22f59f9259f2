"""Carry out a recipe's steps without a flow runner; run as a program, it can be killed at a chosen write.

    python -m tests.helpers.building RECIPE ROOT [WRITE]

With WRITE the process kills itself (SIGKILL) when it is about to make its WRITE-th file visible: all bytes and their
checksum are written, the rename has not happened. Prints the name of the running step at each write, one a line.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import signal
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from pipeline.build.build import Build, Outcome, Step
from pipeline.curation import recipe as recipes
from pipeline.curation import steps as curate
from pipeline.store import checksums, files, shards
from pipeline.tokenization import steps as tokenization


def steps(build: Build) -> list[Step]:
    chosen = curate.steps(build.recipe)
    return chosen + (tokenization.steps() if build.recipe.tokenizers else [])


def make(recipe: recipes.Recipe, root: Path, workers: int = 1) -> tuple[Build, dict[str, list[Outcome]]]:
    """Build ``recipe`` in ``root``; the items of each step in a shuffled order, or over worker processes."""
    build = Build(str(root), recipe)
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


def main(recipe: str, root: str, write: str | None = None) -> None:
    build = Build(root, recipes.load(recipe, recipes.Recipe))
    running = ""
    count = 0
    note = checksums.note

    def counted(path: Path, content: Path) -> None:
        nonlocal count
        note(path, content)
        print(running, flush=True)
        if write is not None and count == int(write):
            os.kill(os.getpid(), signal.SIGKILL)
        count += 1

    checksums.note = counted
    for step in steps(build):
        running = step.name
        for item in step.items(build):
            step.work(build, item)


if __name__ == "__main__":
    main(*sys.argv[1:])
