"""What Prefect costs a build: curation reported to a server and one that is not, and a rebuild with nothing new.

    python -m benchmarks.orchestration [--megabytes 1000] [--shard-megabytes 64] [--rounds 2]

Rounds take turns; times are by the clock, since the server and the workers are other processes of this machine. A build
with nothing to do is timed after its imports. At last a step of 5,000 items that do nothing is carried out under the
server: what a build of that many shards would add.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.dedup import rotated_prose
from flows import build as builds
from flows.execution import progress, server, tracking
from flows.execution.open_build import open_build
from flows.execution.run_steps import Pool, run_step
from pipeline.build.build import Build, Outcome, Step
from pipeline.store import files, model_files

OVERHEAD, NOTHING_NEW, ITEMS = 0.05, 5.0, 5_000
FILES = 16
RECIPE = """
name: orchestration
shard_bytes: {shard_megabytes}MB
sources: [{{name: prose, kind: jsonl, path: "{folder}/*.jsonl", domain: web}}]
language: {{keep: {{"*": 0}}}}
heuristics: {{}}
exact: {{}}
minhash: {{}}
balance: {{}}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--shard-megabytes", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    model_files.pull(["lid.176"])
    os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"
    with tempfile.TemporaryDirectory() as folder, _server(Path(folder)) as url:
        recipe = _write(Path(folder), options.megabytes, options.shard_megabytes)
        seconds: dict[str | None, list[float]] = {None: [], url: []}
        for number in range(options.rounds + 1):
            for to in seconds:
                took = _curate(recipe, Path(folder, "builds"), to)
                if number:  # the first round compiles kernels and fills the page cache
                    seconds[to].append(took)
                again = _curate(recipe, Path(folder, "builds"), url) if to else 0.0
                shutil.rmtree(Path(folder, "builds"))
        items = _many(open_build(recipe, Path(folder, "many")), url)
    alone, shown = (statistics.median(seconds[to]) for to in (None, url))
    print(f"curation of {options.megabytes} MB: {alone:.1f} s without a server, {shown:.1f} s reported to one")
    print(f"a step of {ITEMS:,} items that do nothing, reported: {items:.1f} s, {items / ITEMS * 1e3:.2f} ms an item")
    share, most = shown / alone - 1, OVERHEAD
    print(f"{'PASS ' if share < most else 'SHORT'} Prefect's overhead: {share:.1%} (claimed: below {most:.0%})")
    print(
        f"{'PASS ' if again < NOTHING_NEW else 'SHORT'} nothing new: {again:.2f} s (claimed: below {NOTHING_NEW:g} s)"
    )


@contextlib.contextmanager
def _server(folder: Path) -> Iterator[str]:
    os.environ["PREFECT_HOME"] = str(folder / "prefect")
    port = server.free_port()
    process = server.start(port)
    try:
        yield f"http://{server.HOST}:{port}/api"
    finally:
        server.stop(process)


def _write(folder: Path, megabytes: int, shard_megabytes: int) -> Path:
    handles = [(folder / f"{number:02d}.jsonl").open("w", encoding="utf-8") for number in range(FILES)]
    for number, text in enumerate(text for part in rotated_prose(megabytes) for text in part.to_pylist()):
        handles[number % FILES].write(json.dumps({"text": text}) + "\n")
    for handle in handles:
        handle.close()
    path = folder / "orchestration.yaml"
    path.write_text(RECIPE.format(folder=folder, shard_megabytes=shard_megabytes), "utf-8")
    return path


def _curate(recipe: Path, folder: Path, url: str | None) -> float:
    """Seconds by the clock, for a build that is reported to ``url``, if that is not None."""
    began = time.perf_counter()
    with contextlib.ExitStack() as stack:
        stack.enter_context(progress.reporting(progress.Reporter()))
        if url is not None:
            stack.enter_context(tracking.tracking(url, print))
            stack.enter_context(tracking.flow("build", "build orchestration"))
        builds.build(recipe, "curate", None, "processes", folder)
    return time.perf_counter() - began


def _nothing(build: Build, item: str) -> Outcome:
    files.current(files.exists(build.path("never")))
    return Outcome(documents=int(item))


def _many(build: Build, url: str) -> float:
    step = Step("nothing", "Nothing", lambda _build: [str(number) for number in range(ITEMS)], _nothing)
    began = time.perf_counter()
    with (
        progress.reporting(progress.Reporter()),
        tracking.tracking(url, print),
        tracking.flow("build", "build many"),
        Pool("threads", 2) as pool,
    ):
        run_step(build, step, pool)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
