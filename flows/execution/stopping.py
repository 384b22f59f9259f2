"""Ctrl-C and SIGTERM: the run ends within seconds, whatever native code it is in, and leaves no process behind.

A thread of its own ends the process, since Python's handlers wait until native code returns. Nothing has to be undone:
a build may be killed anywhere, and the same command goes on from there.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Literal

import psutil

LAST_SECONDS = 8
"""How long what must be noted of a stopped run may take before it is given up."""

LIMIT_SECONDS = 40
"""The same after a time limit, where nobody waits: a server that is busy is waited for longer."""

TIME_LIMIT = 124
"""The exit code of a process that ran too long, as that of `timeout`."""

Stopped = Literal["cancelled", "timed out"]
"""Why a process is stopped: by a signal, or by its time limit."""

_callbacks: list[Callable[[Stopped], object]] = []


@contextlib.contextmanager
def on_stop(callback: Callable[[Stopped], object]) -> Iterator[None]:
    """Call ``callback`` from another thread if the process is stopped while the block runs; the innermost first."""
    _callbacks.append(callback)
    try:
        yield
    finally:
        _callbacks.remove(callback)


@contextlib.contextmanager
def stoppable(tell: Callable[[str], None]) -> Iterator[None]:
    """In the block SIGINT and SIGTERM end this process and its children with exit code 130 or 143, after one line to
    ``tell``; a second signal ends them at once.
    """
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    stopping = threading.Event()

    def watch() -> None:
        number = _wait(reader)
        if number is None:
            return
        stopping.set()
        threading.Thread(target=_end_at_once, args=(reader, number), daemon=True).start()
        timer = threading.Timer(LAST_SECONDS, _end, (number,))
        timer.daemon = True
        timer.start()
        try:
            by = "" if number == signal.SIGINT else f" by {signal.Signals(number).name}"
            tell(f"stopped{by}; the same command goes on from here")
            for callback in reversed(_callbacks):
                callback("cancelled")
        finally:
            _end(number)

    thread = threading.Thread(target=watch, name="stopping", daemon=True)
    thread.start()
    before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    handlers = {number: signal.signal(number, _nothing) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        if stopping.is_set():
            thread.join()  # it ends the process
        signal.set_wakeup_fd(before)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        writer.close()
        thread.join()
        reader.close()


class Terminated(KeyboardInterrupt):
    """SIGTERM ended what goes on until it is stopped."""


@contextlib.contextmanager
def interrupted_by_sigterm() -> Iterator[Callable[..., None]]:
    """In the block SIGTERM does what Ctrl-C does, and raises Terminated; yields its handler.

    For what only waits; work is ended by ``stoppable``.
    """
    terminated = False

    def handle(*_: object) -> None:
        nonlocal terminated
        terminated = True
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGTERM, handle)
    # a shell that starts it in the background has it ignore Ctrl-C
    interrupt = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield handle
    except KeyboardInterrupt:
        if terminated:
            raise Terminated from None
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
        signal.signal(signal.SIGINT, interrupt)


@contextlib.contextmanager
def time_limit(hours: float | None) -> Iterator[None]:
    """End this process and its children with exit code 124 if the block runs longer than ``hours``."""
    if hours is None:
        yield
        return

    def end() -> None:
        last = threading.Timer(LIMIT_SECONDS, _end, (TIME_LIMIT - 128,))
        last.daemon = True
        last.start()
        try:
            for callback in reversed(_callbacks):
                callback("timed out")
        finally:
            _end(TIME_LIMIT - 128)

    timer = threading.Timer(hours * 3600, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _nothing(_number: int, _frame: object) -> None: ...


def _wait(reader: socket.socket) -> int | None:
    """The next of the two signals, as the C handler writes it; None when the block is over."""
    while received := reader.recv(1):
        if received[0] in (signal.SIGINT, signal.SIGTERM):
            return received[0]
    return None


def _end_at_once(reader: socket.socket, number: int) -> None:
    if _wait(reader) is not None:
        _end(number)


def _end(number: int) -> None:
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
    os._exit(128 + number)
