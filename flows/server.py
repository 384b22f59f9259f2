"""The Prefect server that a build reports to: the one that is configured, the one that runs here, or one of its own."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import httpx
from prefect.context import refresh_global_settings_context
from prefect.logging.handlers import APILogHandler
from prefect.settings import PREFECT_API_URL

from flows.lifetime import end_with
from pipeline import MillError

HOST = "127.0.0.1"
DEFAULT_PORT = 4200
START_SECONDS = 120


class ServerFailed(MillError):
    """The Prefect server could not be started or reached."""


@contextlib.contextmanager
def server(port: int | None = None) -> Iterator[str]:
    """The API address of a Prefect server, in force for all flows run in the block.

    ``PREFECT_API_URL`` is used where it is set (environment or profile); else a server that runs on ``port`` (4200);
    else one is started and stopped with the block, or when this process dies: on ``port`` if it is given, otherwise on
    a free one, so that no other build comes to lean on a server that ends with this one.
    """
    configured = PREFECT_API_URL.value()
    if configured:
        yield str(configured)
        return
    url = f"http://{HOST}:{port or DEFAULT_PORT}/api"
    started = None
    if not healthy(url):
        chosen = port or free_port()
        if _taken(chosen):
            raise ServerFailed(f"port {chosen} of {HOST} is taken by something else; choose another with --port")
        url = f"http://{HOST}:{chosen}/api"
        started = start(chosen)
    os.environ["PREFECT_API_URL"] = url
    refresh_global_settings_context()  # Prefect's own threads see no other; they would start a server each
    try:
        yield url
    finally:
        if started is not None:
            APILogHandler().flush()  # what is still under way would find nobody to take it
        del os.environ["PREFECT_API_URL"]
        refresh_global_settings_context()
        if started is not None:
            started.terminate()
            try:
                started.wait(10)
            except subprocess.TimeoutExpired:
                started.kill()


def start(port: int) -> subprocess.Popen[bytes]:
    """Start a server on 127.0.0.1 and return when it answers; raises ServerFailed with what it printed."""
    url = f"http://{HOST}:{port}"
    environment = {
        **os.environ,
        "PREFECT_UI_API_URL": f"{url}/api",  # the UI takes port 4200 for granted otherwise
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "CORPUSMILL_PARENT": str(os.getpid()),
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "flows.server", str(port)],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            printed = process.stderr.read().decode(errors="replace")[-2000:] if process.stderr else ""
            raise ServerFailed(f"the Prefect server stopped while starting on {url}:\n{printed}")
        if healthy(f"{url}/api"):
            return process
        time.sleep(0.2)
    process.kill()
    raise ServerFailed(f"the Prefect server on {url} did not answer within {START_SECONDS} s")


def healthy(url: str) -> bool:
    """Whether a Prefect API answers at ``url``."""
    try:
        return httpx.get(f"{url}/health", timeout=2).json() is True
    except (httpx.HTTPError, ValueError):
        return False


def _taken(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]


def main() -> None:
    """Run a server in this process until it is stopped or the process that asked for it is gone."""
    import uvicorn
    from prefect.server.api.server import create_app

    parent = os.environ.get("CORPUSMILL_PARENT")
    if parent:
        end_with(int(parent))
    uvicorn.run(create_app(final=True), host=HOST, port=int(sys.argv[1]), log_level="error")


if __name__ == "__main__":
    main()
