"""Dask and Ray clusters of this machine whose workers are processes with folders of their own."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.helpers.s3_server import HOST, free_port


@contextlib.contextmanager
def dask(
    folder: Path, environment: Mapping[str, str], workers: int = 2
) -> Iterator[tuple[str, list[subprocess.Popen]]]:
    """A scheduler and ``workers`` processes, each with a folder of its own; yields its address and these."""
    address = f"tcp://{HOST}:{free_port()}"
    scheduler = ["dask_scheduler", "--host", HOST, "--port", address.rpartition(":")[2], "--no-dashboard"]
    worker = ["dask_worker", address, "--no-nanny", "--nthreads", "1", "--no-dashboard"]
    with contextlib.ExitStack() as stack:
        started = []
        for number, arguments in enumerate([scheduler, *[worker] * workers]):
            place = folder / f"machine-{number}"
            place.mkdir()
            options = ["--local-directory", str(place)] if number else []
            code = f"from distributed.cli.{arguments[0]} import main; main()"
            own = {
                **os.environ,
                **environment,
                "CORPUSMILL_CACHE": str(place / "cache"),
                "PYTHONPATH": str(Path(__file__).parents[2]),
            }
            process = subprocess.Popen(
                [sys.executable, "-c", code, *arguments[1:], *options],
                env=own,
                cwd=place,
                stdout=subprocess.DEVNULL,
                stderr=(place / "log").open("w"),
            )
            stack.callback(_end, process)
            started.append(process)
        _wait_for(address, workers)
        yield address, started[1:]


def _wait_for(address: str, workers: int) -> None:
    from distributed import Client

    deadline = time.monotonic() + 120
    while True:
        with contextlib.suppress(OSError), Client(address, timeout=60) as client:
            client.wait_for_workers(workers, timeout=120)
            return
        assert time.monotonic() < deadline


def _end(process: subprocess.Popen) -> None:
    process.kill()
    process.wait(10)
