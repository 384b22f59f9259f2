"""A moment by which work must be done. Loops that may run for minutes ask between two steps whether it has passed."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from typing import TypeVar

_MOMENT = ContextVar("deadline", default=math.inf)
_Piece = TypeVar("_Piece")


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


def check(needed: float = 0.0) -> None:
    """Raise OutOfTime if ``needed`` seconds from now the moment will have passed; without one, never."""
    checker()(needed)


def checker() -> Callable[..., None]:
    """``check`` by the moment of now, for another thread."""
    moment = _MOMENT.get()

    def check(needed: float = 0.0) -> None:
        if time.perf_counter() + needed > moment:
            raise OutOfTime

    return check


def paced(pieces: Iterable[_Piece], first: float = 0.0) -> Iterator[_Piece]:
    """``pieces`` of work that nothing can stop, each while there is time for one as long as the longest so far.

    ``first`` is how many seconds the first one takes, as far as is known. Raises OutOfTime.
    """
    longest = first
    for piece in pieces:
        check(longest)
        begun = time.perf_counter()
        yield piece
        longest = max(longest, time.perf_counter() - begun)
