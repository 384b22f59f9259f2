"""Work for the tests of runners, by name: worker processes import it."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from pipeline.build.build import Build, Outcome
from pipeline.store import files


def who(build: Build, item: str) -> Outcome:
    """Half a second's work; notes the process it is done by."""
    if files.current(files.exists(build.path("done", item))):
        return Outcome(reused=True)
    time.sleep(0.5)
    files.write_json(build.path("done", item), os.getpid())
    return Outcome(bytes=1)


def killed_once(build: Build, item: str) -> Outcome:
    """The item ``c`` kills its process, the first time."""
    mark = Path(build.path("killed"))
    if item == "c" and not files.current(mark.exists()):
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return who(build, item)


def killed(build: Build, item: str) -> Outcome:
    """The item ``c`` always kills its process."""
    if item == "c" and not files.current(False):
        os.kill(os.getpid(), signal.SIGKILL)
    return who(build, item)


def fails(build: Build, item: str) -> Outcome:
    if item == "c" and not files.current(False):
        raise ValueError(f"{item}: broken")
    return who(build, item)
