"""The machine that a build runs on, and its processes."""

from __future__ import annotations

import os

#: How long a step may take in the first process before worker processes, which take longer to start, are worth it.
HERE_SECONDS = 1


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def is_running(process: int) -> bool:
    """Whether this machine has a process of that number, whoever's it is."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
