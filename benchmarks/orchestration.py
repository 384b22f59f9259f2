"""What Prefect costs a build: curation reported to a server and one that is not, and a rebuild with nothing new.

    python -m benchmarks.orchestration [--megabytes 1000] [--shard-megabytes 64] [--rounds 1] [--shards 5000]

The two builds take turns, after a small one that compiles kernels. Seconds are given by the clock, and as processor
time of this process, its workers and, where it is reported to, the server: the claim goes by that, since the server
takes from the workers what it uses, and other programs do not change it. Curation has the stages that `mill init`
writes: language, heuristics, exact and near-duplicates, balance.

Then a build of 5,000 shards of one document each, exact duplicates alone: what it leaves on the server, and how soon
its run's page answers.
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
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from benchmarks.dedup import rotated_prose
from benchmarks.documents import prose
from flows import build as builds
from flows.execution import progress, server, tracking
from pipeline.store import files, model_files

OVERHEAD, NOTHING_NEW, ANSWER = 0.05, 5.0, 1.0
FILES = 16
RECIPE = """
name: {name}
shard_bytes: {shard_bytes}
sources: [{{name: prose, kind: jsonl, path: "{folder}/*.jsonl", domain: web}}]
{stages}
"""
STAGES = 'language: {keep: {"*": 0}}\nheuristics: {}\nexact: {}\nminhash: {}\nbalance: {}'


@dataclass
class Server:
    url: str
    process: psutil.Process
    database: Path


@dataclass
class Spent:
    clock: float
    processor: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--shard-megabytes", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--shards", type=int, default=5000, help="Shards of the second build; 0: none.")
    options = parser.parse_args()
    model_files.pull(["lid.176"])
    os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"
    with tempfile.TemporaryDirectory() as name, _server(Path(name)) as shown:
        folder = Path(name)
        warm = _recipe(folder / "warm", "warm", f"{options.shard_megabytes}MB", prose(4).to_pylist())
        for to in (None, shown):
            _curate(warm, folder, to)
            shutil.rmtree(folder / "builds")
        if options.megabytes:
            texts = (text for part in rotated_prose(options.megabytes) for text in part.to_pylist())
            recipe = _recipe(folder / "large", "large", f"{options.shard_megabytes}MB", texts)
            _overhead(recipe, folder, shown, options)
        if options.shards:
            texts = [f"{number} {text}" for number, text in enumerate(_short(options.shards))]
            _many(_recipe(folder / "many", "many", "2KiB", texts, "exact: {}"), folder, shown)


def _overhead(recipe: Path, folder: Path, shown: Server, options: argparse.Namespace) -> None:
    alone: list[Spent] = []
    reported: list[Spent] = []
    again = Spent(0, 0)
    for _ in range(options.rounds):
        alone.append(_curate(recipe, folder, None))
        shutil.rmtree(folder / "builds")
        reported.append(_curate(recipe, folder, shown))
        again = _curate(recipe, folder, shown)
        shutil.rmtree(folder / "builds")
    print(f"curation of {options.megabytes} MB in shards of {options.shard_megabytes} MB, seconds:")
    for what, spent in (("without a server", alone), ("reported to one", reported)):
        clock, processor = (statistics.median(getattr(one, kind) for one in spent) for kind in ("clock", "processor"))
        print(f"  {what}: {clock:.1f} by the clock, {processor:.1f} of processor time")
    share = min(one.processor for one in reported) / min(one.processor for one in alone) - 1
    _claim(share < OVERHEAD, f"Prefect's overhead: {share:.1%} (claimed: below {OVERHEAD:.0%})")
    text = (
        f"nothing new: {again.clock:.2f} s, {again.processor:.2f} of processor time (claimed: below {NOTHING_NEW:g} s)"
    )
    _claim(again.clock < NOTHING_NEW, text)


def _many(recipe: Path, folder: Path, shown: Server) -> None:
    before, size = _counts(shown), _size(shown)
    spent = _curate(recipe, folder, shown)
    added = {kind: count - before[kind] for kind, count in _counts(shown).items()}
    grown = (_size(shown) - size) / 1e6
    shards = len(files.read_json(str(folder / "builds" / "many" / "documents" / "manifest.json"))["shards"])
    print(f"curation of {shards:,} shards: {spent.clock:.1f} s by the clock, {spent.processor:.1f} of processor time")
    print(
        f"  on the server: {', '.join(f'{count} {kind}' for kind, count in added.items())}, {grown:.1f} MB of database"
    )
    with httpx.Client(base_url=shown.url, timeout=60) as client:
        (run,) = client.post("/flow_runs/filter", json={"flow_runs": {"name": {"any_": ["curate many"]}}}).json()
        only = {"flow_runs": {"id": {"any_": [run["id"]]}}}
        logs = {"logs": {"flow_run_id": {"any_": [run["id"]]}}}
        calls = (("task_runs", only), ("logs", logs), ("artifacts", only))
        slowest = max(_seconds(client, "POST", f"/{kind}/filter", json=body) for kind, body in calls)
        slowest = max(slowest, _seconds(client, "GET", f"/flow_runs/{run['id']}/graph-v2"))
    _claim(slowest < ANSWER, f"the slowest call of the run's page: {slowest:.2f} s (claimed: below {ANSWER:g} s)")
    again = _curate(recipe, folder, shown)
    print(f"  again, nothing new: {again.clock:.1f} s by the clock, {again.processor:.1f} of processor time")


def _claim(holds: bool, text: str) -> None:
    print(f"{'PASS ' if holds else 'SHORT'} {text}", flush=True)


@contextlib.contextmanager
def _server(folder: Path) -> Iterator[Server]:
    os.environ["PREFECT_HOME"] = str(folder / "prefect")
    port, began = server.free_port(), time.perf_counter()
    process = server.start(port)
    seen = psutil.Process(process.pid)
    took = time.perf_counter() - began
    print(f"a server of its own: {took:.1f} s to start by the clock, {sum(seen.cpu_times()[:2]):.1f} of processor time")
    try:
        yield Server(f"http://{server.HOST}:{port}/api", seen, folder / "prefect" / "prefect.db")
    finally:
        server.stop(process)


def _recipe(folder: Path, name: str, shard_bytes: str, texts: Iterable[str], stages: str = STAGES) -> Path:
    folder.mkdir()
    handles = [(folder / f"{number:02d}.jsonl").open("w", encoding="utf-8") for number in range(FILES)]
    for number, text in enumerate(texts):
        handles[number % FILES].write(json.dumps({"text": text}) + "\n")
    for handle in handles:
        handle.close()
    path = folder / f"{name}.yaml"
    path.write_text(RECIPE.format(name=name, folder=folder, shard_bytes=shard_bytes, stages=stages), "utf-8")
    return path


def _short(count: int) -> Iterator[str]:
    """``count`` texts of 1.5 KB, of which two do not fit into a shard."""
    texts = prose(2).to_pylist()
    return (texts[number % len(texts)][:1500] for number in range(count))


def _curate(recipe: Path, folder: Path, shown: Server | None) -> Spent:
    began, used = time.perf_counter(), _processor_seconds(shown)
    with contextlib.ExitStack() as stack:
        stack.enter_context(progress.reporting(progress.Reporter()))
        if shown is not None:
            stack.enter_context(tracking.tracking(shown.url, print))
            stack.enter_context(tracking.flow("build", f"build {recipe.stem}"))
        builds.build(recipe, "curate", None, "processes", folder / "builds")
    return Spent(time.perf_counter() - began, _processor_seconds(shown) - used)


def _processor_seconds(shown: Server | None) -> float:
    """Of this process, of its workers that have ended, and of the server."""
    ours = sum(os.times()[:4])
    return ours + (sum(shown.process.cpu_times()[:2]) if shown else 0.0)


def _counts(shown: Server) -> dict[str, int]:
    counted: dict[str, Any] = {"task runs": "task_runs", "artifacts": "artifacts", "flow runs": "flow_runs"}
    with httpx.Client(base_url=shown.url, timeout=60) as client:
        counts = {title: client.post(f"/{kind}/count", json={}).json() for title, kind in counted.items()}
        events = client.post("/events/filter", json={}).json()
        return {**counts, "events": events["total"]}


def _size(shown: Server) -> int:
    return sum(path.stat().st_size for path in shown.database.parent.glob("prefect.db*"))


def _seconds(client: httpx.Client, method: str, path: str, **more: Any) -> float:
    """The best of three calls."""
    took = []
    for _ in range(3):
        began = time.perf_counter()
        client.request(method, path, **more).raise_for_status()
        took.append(time.perf_counter() - began)
    return min(took)


if __name__ == "__main__":
    main()
