"""A moment by which work must be done. Loops that may run for minutes ask between two steps whether it has passed."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar

_MOMENT = ContextVar("deadline", default=math.inf)


class OutOfTime(Exception):
    """The deadline passed in the middle of the work; whoever set it says what is left out."""


@contextlib.contextmanager
def until(moment: float) -> Iterator[None]:
    """Within it, ``check`` raises OutOfTime from ``moment`` on, in seconds of ``time.perf_counter``."""
    before = _MOMENT.set(moment)
    try:
        yield
    finally:
        _MOMENT.reset(before)


def check() -> None:
    """Raise OutOfTime if the moment has passed; without one, never."""
    checker()()


def checker() -> Callable[[], None]:
    """``check`` by the moment of now, for another thread."""
    moment = _MOMENT.get()

    def check() -> None:
        if time.perf_counter() > moment:
            raise OutOfTime

    return check
