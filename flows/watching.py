"""A folder in which files arrive: what is there in full is handed to a deployment, which curates it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.exceptions import ObjectNotFound

from flows.automations import NoDeployment
from pipeline import MillError

#: Names under which programs write a file that is not complete yet.
_UNFINISHED = (".part", ".partial", ".tmp", ".crdownload", ".filepart", ".swp")
_ENDINGS = ", ".join(_UNFINISHED)

LOOK_SECONDS = 2.0
"""Between two looks at the folder, and at the state of a run."""
AGAIN_SECONDS = 30.0
"""Before a run that was skipped, because another was at work, is asked for again."""


class NoFolder(MillError):
    """What is to be watched is no folder."""


Stamp = tuple[int, int]
"""A file's size and time of change (ns)."""


@dataclass
class Watched:
    """The files below ``folder``. One is complete when nothing of it has changed for ``settle`` seconds."""

    folder: Path
    settle: float
    known: dict[str, Stamp] = field(default_factory=dict)  # as they were handed over
    passed_over: set[str] = field(default_factory=set)  # at the last look: hidden, or not complete by their names
    _since: dict[str, tuple[Stamp, float]] = field(default_factory=dict)

    def changes(self, now: float) -> dict[str, Stamp | None]:
        """Complete files that are new or not as they were handed over, and those that are gone (None), at ``now``."""
        present, self.passed_over = look(self.folder)
        self._since = {
            name: entry if (entry := self._since.get(name)) and entry[0] == stamp else (stamp, now)
            for name, stamp in present.items()
        }
        changed: dict[str, Stamp | None] = {
            name: stamp
            for name, (stamp, since) in self._since.items()
            if stamp != self.known.get(name) and now - since >= self.settle
        }
        return {**changed, **{name: None for name in self.known if name not in present}}

    def hand_over(self, changes: dict[str, Stamp | None]) -> None:
        for name, stamp in changes.items():
            if stamp is None:
                self.known.pop(name, None)
            else:
                self.known[name] = stamp


def look(folder: Path) -> tuple[dict[str, Stamp], set[str]]:
    """The files below ``folder`` by their path in it, and those passed over: hidden, or not complete by their names."""
    stamped: dict[str, Stamp] = {}
    passed_over: set[str] = set()
    for path in folder.rglob("*"):
        name = path.relative_to(folder)
        try:
            status = path.stat()
        except FileNotFoundError:
            continue  # it went while we looked, or is a link that leads nowhere
        if not path.is_file():
            continue
        if any(part.startswith(".") for part in name.parts) or path.name.endswith(_UNFINISHED):
            passed_over.add(name.as_posix())
        else:
            stamped[name.as_posix()] = (status.st_size, status.st_mtime_ns)
    return stamped, passed_over


def watch(folder: Path, deployment: str, settle: float, tell: Callable[[str], object]) -> None:
    """Run ``deployment`` whenever files of ``folder`` are complete, one run at a time, until stopped.

    A file that is passed over for its name is named once. A run that was skipped while another was at work is asked
    for again. Raises NoFolder and NoDeployment.
    """
    if not folder.is_dir():
        raise NoFolder(f"{folder}: no such folder; make it, or name another")
    watched = Watched(folder, settle)
    with get_client(sync_client=True) as client:
        try:
            identifier = client.read_deployment_by_name(deployment).id
        except (ObjectNotFound, ValueError):
            raise NoDeployment(
                f"--deployment {deployment}: the server has no such deployment; `prefect deployment ls` lists "
                "<flow>/<name>, `mill serve --recipe` and `prefect deploy --all` make some"
            ) from None
        named: set[str] = set()
        while True:
            changes = watched.changes(time.monotonic())
            if new := watched.passed_over - named:
                tell(f"{listed(sorted(new))}: passed over, hidden or by the ending not complete ({_ENDINGS})")
            named = watched.passed_over
            if changes:
                tell(f"{in_words(changes)}: runs {deployment}")
                if _run(client, identifier, in_words(changes), tell):
                    watched.hand_over(changes)
                else:
                    time.sleep(AGAIN_SECONDS)
            time.sleep(LOOK_SECONDS)


def _run(client: SyncPrefectClient, deployment: Any, why: str, tell: Callable[[str], object]) -> bool:
    """Run the deployment and wait for its end; False if it was skipped."""
    run = client.create_flow_run_from_deployment(deployment, tags=["corpusmill", "arrival"])
    while not (run.state and run.state.is_final()):
        time.sleep(LOOK_SECONDS)
        run = client.read_flow_run(run.id)
    tell(f"{run.name}: {run.state.name}{': ' if run.state.message else ''}{run.state.message or ''}")
    if run.state.name == "Skipped":
        tell(f"{why}: again in {AGAIN_SECONDS:.0f} s")
        return False
    return True


def in_words(changes: Mapping[str, Stamp | None]) -> str:
    """``a.jsonl, b.jsonl and 3 more``; files that are gone are marked."""
    return listed([name if stamp else f"{name} (removed)" for name, stamp in sorted(changes.items())])


def listed(names: list[str]) -> str:
    """The first three of ``names``, and how many more there are."""
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"
