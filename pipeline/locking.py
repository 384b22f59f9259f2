"""One process at a time in a build's folder."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from pipeline import MillError
from pipeline.store import files


class BuildBusy(MillError):
    """Another process is at work in the build's folder."""


@contextlib.contextmanager
def locked(root: str) -> Iterator[None]:
    """Hold the lock of the build in ``root``, made if absent, and remove what a killed run was about to write there.

    The kernel gives the lock back when this process ends, however it ends. Raises BuildBusy, with the process that is
    at work, if another holds it.
    """
    folder = files.local(root)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise BuildBusy(
                f"{folder}: process {lock.read().strip() or 'unknown'} is at work on this build; wait for it or stop it"
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        _sweep(folder)
        yield


def _sweep(root: Path) -> None:
    for remains in root.rglob(".*.partial"):
        if remains.is_dir():
            shutil.rmtree(remains)
        else:
            remains.unlink()
