"""A recipe whose build holds in a stage until it is let go, so that a test can stop it there."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from flows.execution.open_build import open_build
from pipeline.store import files
from tests.flows.conftest import write_topics
from tests.helpers import building

#: A stage that never ends while a file is there, and says where it is at work.
HOLDING = """
import os, time
from pathlib import Path
import pyarrow as pa
import pyarrow.compute as pc
from corpusmill import Config, Measured, Rule, Stage

HERE = Path({folder!r})

def measure(config, batch):
    (HERE / "at" / str(os.getpid())).write_text(os.environ.get("DROP_KEY", ""))
    while (HERE / "hold").exists():
        time.sleep(0.05)
    return Measured({{"shouts": pc.count_substring(batch.texts, "!")}})

rule = Rule("holding.shouts", "shouts", maximum=2)
stage = Stage("holding", "Shouts", Config, measure=measure, signals={{"shouts": pa.int32()}}, rules=lambda _: [rule])
"""


def wait_for(happened: Callable[[], Any], seconds: float = 300) -> float:
    began = time.monotonic()
    while not happened():
        assert time.monotonic() < began + seconds, f"did not happen within {seconds} s"
        time.sleep(0.1)
    return time.monotonic() - began


class Held:
    """A recipe whose build holds while a file is there, and where it is at work. One of its records is none."""

    def __init__(self, name: str, folder: Path, builds: Path) -> None:
        self.name, self.folder, self.builds = name, folder, builds
        (self.folder / "at").mkdir(parents=True)
        (self.folder / "holding.py").write_text(HOLDING.format(folder=str(self.folder)))
        plugin = str(self.folder / "holding.py")
        sections = {"minhash": None, "canaries": False, "error_budget": 0.1}
        written = write_topics(self.folder, name=self.name, plugins=[plugin], holding={}, **sections)
        self.recipe = written.rename(self.folder.parent / f"{self.name}.yaml")
        with (self.folder / "topics.jsonl").open("a") as lines:
            lines.write("{no record\n")
        self.hold = self.folder / "hold"
        self.hold.touch()

    def at_work(self) -> list[psutil.Process]:
        """The processes that came to the stage since ``forget``."""
        return [psutil.Process(int(mark.name)) for mark in (self.folder / "at").iterdir()]

    def forget(self) -> None:
        for mark in (self.folder / "at").iterdir():
            mark.unlink()

    def last(self) -> dict[str, Any]:
        """What the build's record says of its latest run."""
        return files.read_json(str(self.builds / self.name / "build.json"))["runs"][-1]

    def documents(self) -> dict[str, tuple[str, str, int]]:
        return building.curated(open_build(self.recipe, self.builds))

    def expected(self) -> dict[str, tuple[str, str, int]]:
        """The documents of a build that nothing stopped."""
        made, _ = building.make(open_build(self.recipe, self.builds).recipe, self.folder / "expected")
        return building.curated(made)


def gone(processes: list[psutil.Process]) -> bool:
    return not any(process.is_running() and process.status() != "zombie" for process in processes)
