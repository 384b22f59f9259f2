"""HTML to text in a process of its own, because a page can take any time and memory, or crash the parser.

``Extractor`` runs ``page.py`` as a program. The limits kill it (or it dies by itself); the next page gets a new one.
Time is processor time, so that a busy machine extracts the same. A library that waits for itself uses none: a process
that sleeps without having answered is killed, too.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from typing import IO

import psutil

from pipeline import MillError
from pipeline.sources import page as program
from pipeline.sources.page import receive, send

#: Seconds after which a process that has not answered is looked at, and again whether it has worked since.
_LOOK = 15.0


class ExtractionFailed(MillError):
    """A page gave no text; the message is a short reason."""


class Extractor:
    """Extracts by ``library`` with at most ``seconds`` of processor time a page and ``memory`` bytes of addresses."""

    def __init__(self, library: str, seconds: float, memory: int):
        self._library = library
        self._limits = (str(seconds), str(memory))
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Extractor:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._end()

    def text(self, page: bytes, charset: str = "", codings: Sequence[str] = (), kind: str = "html") -> str:
        """The main text of ``page``, or all of it where ``kind`` is ``text`` and not ``html``.

        Its server claims the character set, and the codings to undo, the last applied first. Raises ExtractionFailed,
        or MillError if the library cannot be used at all.
        """
        process = self._process or self._start()
        try:
            send(_pipe(process.stdin), kind.encode(), charset.encode(), ",".join(codings).encode(), page)
            self._await(process)
            fault, text = (receive(_pipe(process.stdout)).decode() for _ in range(2))
        except (BrokenPipeError, EOFError) as error:
            code, last = self._end()
            if code == -signal.SIGPROF:
                raise ExtractionFailed("extraction takes longer than page_seconds") from error
            if last.startswith("MemoryError"):
                raise ExtractionFailed("extraction takes more than page_memory") from error
            raise ExtractionFailed(f"extraction failed: {last.partition(':')[0] or f'signal {-code}'}") from error
        if fault:
            raise ExtractionFailed(fault)
        return text

    def _start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-P", program.__file__, self._library, *self._limits]
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**os.environ, "RUST_BACKTRACE": "0"},  # resiliparse without memory locks itself out while it makes one
        )
        try:
            self._await(self._process)
            receive(_pipe(self._process.stdout))
        except (EOFError, ExtractionFailed) as error:
            why = str(error) or self._end()[1]
            raise MillError(f"the extractor {self._library!r} does not start: {why}") from error
        return self._process

    def _await(self, process: subprocess.Popen[bytes]) -> None:
        """Until ``process`` answers, or has ended. Raises ExtractionFailed where it never will, and is killed."""
        answers = select.poll()
        answers.register(_pipe(process.stdout), select.POLLIN)
        worked = None
        while not answers.poll(_LOOK * 1000):
            watched = psutil.Process(process.pid)
            before, worked = worked, watched.cpu_times()[:2]
            if watched.status() == psutil.STATUS_SLEEPING and worked == before:
                process.kill()
                self._end()
                raise ExtractionFailed("extraction waits for what never comes")

    def _end(self) -> tuple[int, str]:
        """Exit status of the process, and the last line that it left behind."""
        assert self._process is not None
        code = self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(BrokenPipeError):
                _pipe(stream).close()
        self._process = None
        self._errors.seek(0)
        last = self._errors.read().decode("utf-8", "replace").strip().rpartition("\n")[2]
        self._errors.close()
        return code, last


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None
    return stream
