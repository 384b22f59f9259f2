"""Processes that end with the one that started them, even when that one is killed."""

from __future__ import annotations

import os
import threading
import time

_watched: set[int] = set()


def end_with(parent: int) -> None:
    """End this process soon after the process ``parent`` is gone, so that a killed build leaves nothing behind."""
    if parent in _watched:
        return
    _watched.add(parent)

    def watch() -> None:
        while _alive(parent):
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, name="end-with-parent", daemon=True).start()


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
