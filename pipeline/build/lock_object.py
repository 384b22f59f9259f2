"""One run at a time in a build that lies in an object store: an object ``.lock`` that only one can create.

Its owner writes it again every BEAT seconds. Who finds it unchanged for EXPIRY seconds takes it over: by a second
object, which again only one can create, so that of several only one does. Clocks are not compared. An owner of this
machine whose process is gone is followed at once.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pipeline.build import machine
from pipeline.store import mirror, objects

BEAT = 15.0
EXPIRY = 60.0
_LOOK_AGAIN = 1.0
#: What a build in a folder has in that place, which says nothing once it is copied into a store.
_OF_A_FOLDER = {"owner": "a-folder"}


@contextlib.contextmanager
def hold(url: str, busy: Callable[[str], object]) -> Iterator[None]:
    """Hold the lock of the build at ``url``.

    While another process holds it ``busy`` is called, once, with who that is: it may raise what refuses this run.
    Raises NoConditionalWrites where the store cannot keep two runs apart.
    """
    name, owner = f"{url}/.lock", uuid.uuid4().hex
    mine = {"owner": owner, "host": socket.gethostname(), "process": os.getpid(), "machine": _machine(), "beat": 0}
    while not objects.create(name, _bytes(mine)):
        _wait(name, busy, owner)
    try:
        objects.require_conditional_writes(name)
    except objects.NoConditionalWrites:
        objects.remove(name)
        raise
    stop = threading.Event()
    beating = threading.Thread(target=_beat, args=(name, mine, stop), name="lock", daemon=True)
    beating.start()
    try:
        yield
    finally:
        stop.set()
        beating.join()
        mirror.lost_lock(None)
        if (entry := _read(name)) is not None and entry.get("owner") == owner:
            objects.remove(name)


def holder(url: str) -> str | None:
    """Who holds the lock of the build at ``url``, or held it last and was killed; None if nobody does."""
    entry = _read(f"{url}/.lock")
    return None if entry is None or _is_gone(entry) else _words(entry)


def _wait(name: str, busy: Callable[[str], object], owner: str) -> None:
    """Return when the lock ``name`` is free, or has been freed of an owner that is gone."""
    entry, since, announced = _read(name), time.monotonic(), False
    while entry is not None:
        if _is_gone(entry) or time.monotonic() - since > EXPIRY:
            _free(name, entry, owner)
            return
        time.sleep(_LOOK_AGAIN)
        now = _read(name)
        if now is not None and now != entry:
            if not announced:
                busy(_words(now))
            entry, since, announced = now, time.monotonic(), True
        elif now is None:
            return


def _free(name: str, last: dict[str, Any], owner: str) -> None:
    """Remove the lock that the owner ``gone`` left, unless somebody else is at that or has it."""
    taking = f"{name}.taken-from-{last['owner']}"
    if not objects.create(taking, owner.encode()):
        time.sleep(_LOOK_AGAIN)
        return
    try:
        if (entry := _read(name)) is not None and entry == last:
            objects.remove(name)
    finally:
        objects.remove(taking)


def _beat(name: str, mine: dict[str, Any], stop: threading.Event) -> None:
    while not stop.wait(BEAT):
        try:
            entry = _read(name)
            if entry is None or entry.get("owner") != mine["owner"]:
                who = "nobody" if entry is None else _words(entry)
                mirror.lost_lock(f"{name}: this run did not answer for a while, and {who} took its lock; it stops")
                return
            mine["beat"] += 1
            objects.write(name, _bytes(mine))
        except (ValueError, OSError) as error:  # the store is away for longer: others may take the lock over
            mirror.lost_lock(f"{name}: could not be written again ({error}); this run stops")
            return


def _read(name: str) -> dict[str, Any] | None:
    try:
        content = objects.read(name)
    except FileNotFoundError:
        return None
    return json.loads(content) if content.startswith(b"{") else _OF_A_FOLDER


def _bytes(lock: dict[str, Any]) -> bytes:
    return json.dumps(lock, sort_keys=True).encode()


def _is_gone(lock: dict[str, Any]) -> bool:
    """Whether the owner was a process of this machine that is no more."""
    if lock is _OF_A_FOLDER:
        return True
    return lock["machine"] == _machine() and not machine.is_running(lock["process"])


def _machine() -> str:
    """Names this start of this machine, and the processes that are seen here: not those of another container."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    return f"{boot.read_text().strip() if boot.exists() else socket.gethostname()} {_processes()}"


def _processes() -> str:
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


def _words(lock: dict[str, Any]) -> str:
    return f"process {lock['process']} on {lock['host']}"
