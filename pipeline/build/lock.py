"""One process at a time in a build's folder."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from pipeline import MillError
from pipeline.build import lock_object
from pipeline.store import checksums, files, mirror

#: Seconds between two looks whether a build that is waited for is free.
_LOOK_AGAIN = 0.2


class BuildBusy(MillError):
    """Another process is at work in the build's folder."""


@contextlib.contextmanager
def locked(root: str, on_wait: Callable[[str], object] | None = None) -> Iterator[None]:
    """Hold the lock of the build in ``root``, made if absent, and remove what a killed run was about to write there.

    The kernel gives the lock back when this process ends, however it ends. If another holds it: raises BuildBusy, with
    the process that is at work; or, given ``on_wait``, calls that with one line about it and waits.
    """
    folder = files.local_name(root)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a+") as lock:
        if not _taken(lock):
            lock.seek(0)
            _busy(files.url_of(root), f"process {lock.read().strip() or 'unknown'}", on_wait)
            while not _taken(lock):
                time.sleep(_LOOK_AGAIN)
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        if not files.is_mirrored(root):
            _sweep(folder)
            yield
            return
        url = files.url_of(root)
        with lock_object.hold(url, lambda who: _busy(url, who, on_wait)), mirror.locked():
            yield


def _busy(place: str, who: str, on_wait: Callable[[str], object] | None) -> None:
    line = f"{place}: {who} is at work on this build"
    if on_wait is None:
        raise BuildBusy(f"{line}; wait for it or stop it")
    on_wait(f"{line}; waiting for it")


def _taken(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _sweep(root: Path) -> None:
    for remains in root.rglob(".*.partial"):
        target = remains.with_name(remains.name[1:].rsplit(".", 2)[0])
        if not target.exists():  # a first write, killed before the rename: nothing was lost
            checksums.sidecar(target).unlink(missing_ok=True)
        if remains.is_dir():
            shutil.rmtree(remains)
        else:
            remains.unlink()
    checksums.sweep(root)
