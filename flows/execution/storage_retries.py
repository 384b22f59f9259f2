"""An item's work, done once more after a while where the storage did not answer, and for no other reason."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from pipeline.store.retries import passing

WAITS = (1.0, 4.0, 16.0)
"""Seconds before each further attempt."""

T = TypeVar("T")


def persistent(
    work: Callable[[], T], tell: Callable[[str], object], sleep: Callable[[float], object] = time.sleep
) -> T:
    """What ``work`` returns; where the storage fails it is called again after each of WAITS, with a line to ``tell``.

    ``work`` is atomic and may be called again at any time. Raises what the last attempt raises.
    """
    for number, wait in enumerate(WAITS, 2):
        try:
            return work()
        except Exception as error:  # what is not the storage's goes on
            if not passing(error):
                raise
            tell(f"{type(error).__name__}: {error}; attempt {number} of {len(WAITS) + 1} in {wait:.0f} s")
        sleep(wait)
    return work()
