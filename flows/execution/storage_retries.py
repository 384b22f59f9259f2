"""An item's work, done once more after a while where the storage did not answer, and for no other reason."""

from __future__ import annotations

import errno
import sys
import time
from collections.abc import Callable
from typing import TypeVar

from pipeline import MillError

WAITS = (1.0, 4.0, 16.0)
"""Seconds before each further attempt."""

#: What a store that is throttled, restarted or out of reach gives; a full disk or a missing file is not among them.
_PASSING = frozenset(
    {
        errno.EIO,
        errno.EAGAIN,
        errno.EBUSY,
        errno.ESTALE,
        errno.ETIMEDOUT,
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.EHOSTUNREACH,
        errno.EHOSTDOWN,
        errno.EREMOTEIO,
    }
)

T = TypeVar("T")


def passing(error: BaseException) -> bool:
    """Whether ``error`` comes from a store that may answer soon: a connection that was cut, refused or timed out, the
    system's own numbers for that, or what the HTTP client of remote stores raises for it.
    """
    if isinstance(error, MillError):
        return False  # it names what the user has to do
    if isinstance(error, ConnectionError | TimeoutError):
        return not isinstance(error, BrokenPipeError)
    if isinstance(error, OSError) and error.errno in _PASSING:
        return True
    aiohttp = sys.modules.get("aiohttp")
    return aiohttp is not None and isinstance(error, (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError))


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
