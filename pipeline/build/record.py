"""The record of a build's runs, build.json: written while a run is at work, and read."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.build import lock_object, machine
from pipeline.build.build import Build
from pipeline.store import files


@dataclass(frozen=True)
class BuildRow:
    """A build in a folder of builds and how its latest run went. Sizes are None until the funnel is closed."""

    name: str
    root: str
    recipe: str
    state: str
    runs: int
    started: datetime | None
    seconds: float | None
    error: str | None
    documents: int | None
    bytes: int | None
    kept_documents: int | None
    kept_bytes: int | None


def runs(builds: str) -> list[BuildRow]:
    """The builds in the folder ``builds``, the one that ran last first; [] if there is none."""
    rows = [_build_row(root) for root in roots(builds)]
    return sorted(rows, key=lambda row: (row.started.timestamp() if row.started else 0.0, row.name), reverse=True)


def roots(builds: str) -> list[str]:
    """The local folders that are, or stand for, the builds in the folder ``builds``, by name."""
    folder = files.here(builds)
    folders = [files.join(folder, name) for name in files.list_folders(folder)]
    return [root for root in folders if files.exists(files.join(root, "build.json"))]


def _build_row(root: str) -> BuildRow:
    record = files.read_json(files.join(root, "build.json"))
    last: dict[str, Any] = record["runs"][-1] if record["runs"] else {"state": "never run"}
    started, ended = (datetime.fromisoformat(last[key]) if last.get(key) else None for key in ("started", "ended"))
    state = last["state"]
    if state == "running" and not _is_at_work(root, last.get("process")):
        state = "killed"
    funnel = files.join(root, "funnel.json")
    stages = files.read_json(funnel)["stages"] if files.exists(funnel) else None
    first, final = (stages[0], stages[-1]) if stages else ({}, {})
    return BuildRow(
        name=files.local_name(root).name,
        root=files.url_of(root),
        recipe=record["recipe"],
        state=state,
        runs=len(record["runs"]),
        started=started,
        seconds=(ended - started).total_seconds() if started and ended and ended >= started else None,
        error=last.get("error"),
        documents=first.get("documents"),
        bytes=first.get("bytes"),
        kept_documents=final.get("documents"),
        kept_bytes=final.get("bytes"),
    )


def _is_at_work(root: str, process: int | None) -> bool:
    if files.is_mirrored(root):
        return lock_object.holder(files.url_of(root)) is not None
    return process is None or machine.is_running(process)  # nothing is known about one without a number


def runs_of(build: Build) -> list[dict[str, Any]]:
    """The runs of ``build``, the first one first; [] if there was none."""
    path = build.path("build.json")
    return files.read_json(path)["runs"] if files.exists(path) else []


def close_interrupted(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A run still marked as running, while we hold the lock, was killed."""
    return [{**run, "state": "killed"} if run["state"] == "running" else run for run in runs]


def write(build: Build, recipe: Path, runs: list[dict[str, Any]]) -> None:
    """Write build.json: the recipe's file and ``runs``."""
    files.write_json(build.path("build.json"), {"recipe": str(recipe.resolve()), "runs": runs})


def now() -> str:
    """The time in UTC, as ISO 8601 in seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds")
