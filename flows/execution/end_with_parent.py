"""Processes that end with the one that started them, even when that one is killed."""

from __future__ import annotations

import os
import threading
import time

from pipeline.build.machine import is_running

_watched: set[int] = set()


def end_with(parent: int) -> None:
    """End this process soon after the process ``parent`` is gone, so that a killed build leaves nothing behind."""
    if parent in _watched:
        return
    _watched.add(parent)

    def watch() -> None:
        while is_running(parent):
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, name="end-with-parent", daemon=True).start()
