"""What people are shown of an error: one message where they can put it right, and nothing where the fault is ours."""

from __future__ import annotations

import errno
import os
import re

from pipeline import MillError

#: What helps, by the number that the system gave.
_REMEDIES = {
    errno.ENOSPC: "free some space, then run the same command: it goes on from here",
    errno.EDQUOT: "free some space, then run the same command: it goes on from here",
    errno.EFBIG: "the limit is set by `ulimit -f` or by the file system; raise it, then run the same command",
    errno.EACCES: "check who may read and write there",
    errno.EPERM: "check who may read and write there",
    errno.EROFS: "choose a folder that can be written",
    errno.EMFILE: "raise the limit of open files (`ulimit -n`)",
    errno.ENOMEM: "use fewer `--workers`, or a smaller `shard_bytes`",
}

#: Libraries written in Rust give the system's number only so.
_OS_ERROR = re.compile(r"\(os error (\d+)\)")

#: Characters that steer a terminal or turn the order of what is read: C0 and C1 (tab and newline are kept), DEL, the
#: marks of writing direction; and surrogates, which no terminal can be sent.
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(text: str) -> str:
    """``text`` with each character that would steer a terminal written as an escape, such as ``\\x1b``."""
    return _UNSEEN.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def message(error: BaseException) -> str | None:
    """The message of ``error`` where it names what a user can put right: an error of corpusmill's own, or one that the
    operating system gave. None for every other: a fault, whose traceback is needed. What steers a terminal is escaped,
    and credentials in addresses are masked.
    """
    from pipeline.store import files, mirror  # not above: it takes longer to import than most commands to answer

    sentence = _message(error)
    return None if sentence is None else visible(files.masked(mirror.shown(sentence)))


def place(error: BaseException) -> str:
    """Where a build was when ``error`` came, such as a step and a shard; "" if nothing was noted."""
    return visible("; ".join(getattr(error, "__notes__", [])))


def in_short(error: BaseException) -> str:
    """``error`` in one paragraph: where the build was, and its message, or for a fault its type and what it says."""
    from pipeline.store import files  # as above

    sentence = message(error) or visible(files.masked(f"{type(error).__name__}: {error}"))
    return ": ".join(filter(None, (place(error), sentence)))


def _message(error: BaseException) -> str | None:
    if isinstance(error, MillError):
        return str(error)
    if isinstance(error, OSError) and (error.errno is not None or isinstance(error, FileNotFoundError)):
        if error.errno is None:
            return f"{error}: no such file"
        names = " and ".join(os.fsdecode(name) for name in (error.filename, error.filename2) if name is not None)
        return _os_message(error.errno, names, error.strerror or os.strerror(error.errno))
    if isinstance(error, MemoryError):
        what = str(error) or "nothing is said of how much"
        return f"there is not enough memory ({what}); {_REMEDIES[errno.ENOMEM]}, or raise the limit (`ulimit -v`)"
    if number := system_error(error):
        return _os_message(number, "", str(error))
    return None


def system_error(error: BaseException) -> int | None:
    """The number of the system's error that a library written in Rust wrapped in ``error``; None if there is none."""
    match = None if isinstance(error, OSError) else _OS_ERROR.search(str(error))
    return int(match[1]) if match else None


def _os_message(number: int, names: str, what: str) -> str:
    what = f"the disk is full ({what})" if number == errno.ENOSPC else what
    remedy = _REMEDIES.get(number)
    return (f"{names}: " if names else "") + what + (f"; {remedy}" if remedy else "")
