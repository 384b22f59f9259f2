"""What a worker says while it is at work: lines for the user, warnings, log records; for the log of the run.

What workers of Dask and Ray print stays on their machines, and no worker knows the run: their lines come back with the
result, or on the error.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator

from flows.execution.progress import reporter

MOST = 200
"""Lines of one group of items; of more, only the number comes back."""


class Heard(logging.Handler):
    """Shows what this thread says where the worker is, and keeps it."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._lines: list[str] = []
        self._left_out = 0
        self._ours = threading.get_ident()

    def lines(self) -> list[str]:
        return [*self._lines, *([f"and {self._left_out} lines more"] if self._left_out else [])]

    def tell(self, line: str) -> None:
        reporter().tell(line)
        if len(self._lines) < MOST:
            self._lines.append(line)
        else:
            self._left_out += 1

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self._ours:
            self.tell(f"{record.levelname.lower()}: {record.getMessage().rstrip()}")


@contextlib.contextmanager
def listening() -> Iterator[Heard]:
    """Hear in the block what this thread says. What is heard before an error is on it, for ``before``."""
    heard = Heard()
    logging.captureWarnings(True)
    logging.getLogger().addHandler(heard)
    try:
        yield heard
    except Exception as error:
        error.__dict__[_NAME] = heard.lines()
        raise
    finally:
        logging.getLogger().removeHandler(heard)
        logging.captureWarnings(False)


_NAME = "heard_before"


def before(error: BaseException) -> list[str]:
    """What a worker said before the ``error`` that ended its work."""
    return error.__dict__.get(_NAME, [])
