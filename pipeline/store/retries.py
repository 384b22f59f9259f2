"""Which errors of a store pass by themselves; all that is asked again after a while asks here."""

from __future__ import annotations

import errno
import sys

from pipeline import MillError

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
#: Errors of the HTTP clients of remote stores for a connection that failed or was cut, by module.
_CUT = {
    "aiohttp": ("ClientConnectionError", "ClientPayloadError"),
    "botocore.exceptions": ("HTTPClientError", "ConnectionError", "IncompleteReadError"),
    "azure.core.exceptions": ("ServiceRequestError", "ServiceResponseError"),
}
#: Packages whose errors carry the number of the answer.
_ANSWERING = frozenset({"aiohttp", "azure", "gcsfs"})
#: HTTP's numbers for a server that is busy or out of order.
_BUSY = frozenset({429, 500, 502, 503, 504})


def passing(error: BaseException) -> bool:
    """Whether ``error`` comes from a store that may answer soon: a connection that was cut, refused or timed out, the
    system's own numbers for that, or what the clients of remote stores raise for it, and for a server that is busy.
    """
    if isinstance(error, MillError):
        return False  # it names what the user has to do
    if isinstance(error, ConnectionError | TimeoutError):
        return not isinstance(error, BrokenPipeError)
    if isinstance(error, OSError) and error.errno in _PASSING:
        return True
    for module, names in _CUT.items():
        if (loaded := sys.modules.get(module)) is not None and isinstance(
            error, tuple(getattr(loaded, name) for name in names)
        ):
            return True
    if type(error).__module__.partition(".")[0] not in _ANSWERING:
        return False
    return any(getattr(error, name, None) in _BUSY for name in ("code", "status_code", "status"))
