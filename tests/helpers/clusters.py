"""Dask and Ray clusters of this machine whose workers are processes with folders of their own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.helpers.s3_server import HOST, free_port

#: An address, and the process of each worker: a group of its own, which ``kill`` ends.
Cluster = tuple[str, list[subprocess.Popen]]


@contextlib.contextmanager
def dask(folder: Path, environment: Mapping[str, str], workers: int = 2) -> Iterator[Cluster]:
    """A scheduler and ``workers`` processes, each with a folder ``machine-N`` of its own."""
    address = f"tcp://{HOST}:{free_port()}"
    scheduler = ["dask_scheduler", "--host", HOST, "--port", address.rpartition(":")[2], "--no-dashboard"]
    worker = ["dask_worker", address, "--no-nanny", "--nthreads", "1", "--no-dashboard"]
    with contextlib.ExitStack() as stack:
        started = []
        for number, arguments in enumerate([scheduler, *[worker] * workers]):
            place = folder / f"machine-{number}"
            options = ["--local-directory", str(place)] if number else []
            code = f"from distributed.cli.{arguments[0]} import main; main()"
            started.append(stack.enter_context(_started(place, environment, "-c", code, *arguments[1:], *options)))
        _wait_for(address, workers)
        yield address, started[1:]


@contextlib.contextmanager
def ray(folder: Path, environment: Mapping[str, str]) -> Iterator[Cluster]:
    """Two nodes of one worker each; the second, which must live, is the head."""
    address = f"{HOST}:{free_port()}"
    own = {**environment, "RAY_USAGE_STATS_ENABLED": "0"}
    start = ["-c", "from ray.scripts.scripts import main; main()", "start", "--block", "--num-cpus=1"]
    start += ["--min-worker-port=0", "--max-worker-port=0", "--object-store-memory=80000000"]
    start += [f"--node-ip-address={HOST}"]  # else the head takes that of a network card, where nothing may answer
    head = ["--head", f"--port={address.rpartition(':')[2]}", "--include-dashboard=false"]
    head += [f"--ray-client-server-port={free_port()}"]
    with contextlib.ExitStack() as stack:
        sockets = stack.enter_context(tempfile.TemporaryDirectory(prefix="ray-"))  # their names must be short
        second = stack.enter_context(_started(folder / "machine-2", own, *start, *head, f"--temp-dir={sockets}"))
        _wait_for_line(folder / "machine-2" / "log", "Ray runtime started", second)
        first = stack.enter_context(_started(folder / "machine-1", own, *start, f"--address={address}"))
        _wait_for_line(folder / "machine-1" / "log", "Ray runtime started", first)
        yield address, [first, second]


def kill(process: subprocess.Popen) -> None:
    """End a worker and what it has started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(10)


@contextlib.contextmanager
def _started(place: Path, environment: Mapping[str, str], *arguments: str) -> Iterator[subprocess.Popen]:
    """A Python process that works in the folder ``place`` and writes its ``log`` there."""
    place.mkdir()
    root = str(Path(__file__).parents[2])
    own = {**os.environ, **environment, "CORPUSMILL_CACHE": str(place / "cache"), "PYTHONPATH": root}
    with (place / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, *arguments], env=own, cwd=place, stdout=log, stderr=log, start_new_session=True
        )
    try:
        yield process
    finally:
        kill(process)


def _wait_for(address: str, workers: int) -> None:
    from distributed import Client

    deadline = time.monotonic() + 120
    while True:
        with contextlib.suppress(OSError), Client(address, timeout=60) as client:
            client.wait_for_workers(workers, timeout=120)
            return
        assert time.monotonic() < deadline


def _wait_for_line(log: Path, line: str, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 120
    while line not in log.read_text():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)
