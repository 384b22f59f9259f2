"""The Prefect server that a run reports to: the one that is configured, the one that runs here, or one of its own."""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

from flows.execution.end_with_parent import end_with
from pipeline import MillError

HOST = "127.0.0.1"
DEFAULT_PORT = 4200
START_SECONDS = 300


class ServerFailed(MillError):
    """The Prefect server could not be started or reached."""


def past_proxies() -> None:
    """Have this process and those it starts reach servers on this machine directly, whatever proxy is set."""
    for name in ("NO_PROXY", "no_proxy"):
        known = [entry.strip() for entry in os.environ.get(name, "").split(",") if entry.strip()]
        missing = [host for host in (HOST, "localhost", "::1") if host not in known]
        if "*" not in known and missing:
            os.environ[name] = ",".join([*known, *missing])


def find(port: int = DEFAULT_PORT) -> str | None:
    """The API address that ``PREFECT_API_URL`` names, or that of a server on ``port`` of this machine; else None."""
    url = f"http://{HOST}:{port}/api"
    return configured() or (url if healthy(url) else None)


def configured() -> str | None:
    """``PREFECT_API_URL`` of the environment, a profile or another file of Prefect's settings."""
    if url := os.environ.get("PREFECT_API_URL"):
        return url
    home = Path(os.environ.get("PREFECT_HOME") or "~/.prefect").expanduser()
    settings = [Path(name) for name in (".env", "prefect.toml", "pyproject.toml")]
    settings += [home / "profiles.toml", Path(os.environ.get("PREFECT_PROFILES_PATH") or home / "profiles.toml")]
    if not any(_may_configure(path) for path in settings):
        return None  # importing Prefect takes longer than a small build
    from prefect.settings import PREFECT_API_URL

    return PREFECT_API_URL.value()


def _may_configure(path: Path) -> bool:
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return "PREFECT_API_URL" in text or "tool.prefect" in text or path.name == "prefect.toml"


@contextlib.contextmanager
def own(announce: Callable[[str], None]) -> Iterator[str]:
    """A server on a free port, so that no other run comes to lean on it; stopped with the block, or when this process
    ends. ``announce`` is called with its address before it answers. Raises ServerFailed.
    """
    port = free_port()
    url = f"http://{HOST}:{port}/api"
    announce(url)
    started = start(port)
    try:
        yield url
    finally:
        stop(started)


@contextlib.contextmanager
def server(port: int, builds: str | Path | None = None, keep_days: int | None = None) -> Iterator[str]:
    """The API address of a Prefect server, in force for Prefect's own programs in the block: the configured one, the
    one on ``port``, or one that is started there and stopped with the block. Raises ServerFailed.

    One that is started serves the reports of ``builds``, too, and alone takes ``keep_days`` (see ``retention``).
    """
    past_proxies()
    url = configured()
    if url and keep_days is not None:
        raise ServerFailed(_not_ours("PREFECT_API_URL names a server", keep_days))
    if url:
        yield url
        return
    url = f"http://{HOST}:{port}/api"
    started = None
    if healthy(url):
        if keep_days is not None:
            raise ServerFailed(_not_ours(f"a server runs on port {port} already", keep_days))
    else:
        if _taken(port):
            raise ServerFailed(f"port {port} of {HOST} is taken by something else; choose another with --port")
        started = start(port, builds, keep_days)
    from prefect.context import refresh_global_settings_context

    os.environ["PREFECT_API_URL"] = url
    refresh_global_settings_context()
    try:
        yield url
    finally:
        del os.environ["PREFECT_API_URL"]
        refresh_global_settings_context()
        if started is not None:
            stop(started)


def retention(days: int | None) -> dict[str, str]:
    """Settings of a server that deletes runs, their logs and artifacts ``days`` after they ended; None: keep all."""
    if days is None:
        return {}
    vacuum = "PREFECT_SERVER_SERVICES_DB_VACUUM_"
    return {f"{vacuum}ENABLED": "events,flow_runs", f"{vacuum}RETENTION_PERIOD": str(days * 24 * 3600)}


def _not_ours(what: str, days: int) -> str:
    settings = " ".join(f"{name}={value}" for name, value in retention(days).items())
    return f"--keep-days: {what}, which keeps runs as it was set to; start that server with {settings}"


def start(port: int, builds: str | Path | None = None, keep_days: int | None = None) -> subprocess.Popen[bytes]:
    """Start a server on 127.0.0.1 and return when it answers; raises ServerFailed with what it printed.

    Its database is SQLite in ``PREFECT_HOME``, with a write-ahead log, or what Prefect's settings name.
    """
    from pipeline.store import files

    url = f"http://{HOST}:{port}"
    reports = (
        {"CORPUSMILL_BUILDS": files.here(os.fspath(builds))} if builds and files.is_local(os.fspath(builds)) else {}
    )
    environment = {
        **os.environ,
        "PREFECT_SERVER_API_HOST": HOST,
        "PREFECT_UI_API_URL": f"{url}/api",  # the UI takes port 4200 for granted otherwise
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "CORPUSMILL_PARENT": str(os.getpid()),
        **reports,
        **retention(keep_days),
    }
    with tempfile.TemporaryFile() as printed:
        process = subprocess.Popen(
            [sys.executable, "-m", "flows.execution.server", str(port)],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=printed,
            process_group=0,  # Ctrl-C is for the run, which then says here how it ended
        )
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if process.poll() is not None:
                printed.seek(0)
                text = printed.read().decode(errors="replace")[-2000:]
                raise ServerFailed(f"the Prefect server stopped while starting on {url}:\n{text}")
            if healthy(f"{url}/api"):
                return process
            time.sleep(0.2)
    process.kill()
    raise ServerFailed(f"the Prefect server on {url} did not answer within {START_SECONDS} s")


def stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()


def healthy(url: str) -> bool:
    """Whether a Prefect API answers at ``url``, on this machine."""
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.hostname or HOST, address.port, timeout=2)
    try:
        connection.request("GET", f"{address.path}/health")
        return connection.getresponse().read(16) == b"true"
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _taken(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]


def main() -> None:
    """Run a server in this process until it is stopped or the process that asked for it is gone.

    It listens on 127.0.0.1, or in a container on what ``PREFECT_SERVER_API_HOST`` says.
    """
    import uvicorn
    from prefect.server.api.server import create_app

    parent = os.environ.get("CORPUSMILL_PARENT")
    if parent:
        end_with(int(parent))
    app = create_app(final=True)
    if builds := os.environ.get("CORPUSMILL_BUILDS"):
        from flows.execution import report_pages

        report_pages.add(app, Path(builds))
    host = os.environ.get("PREFECT_SERVER_API_HOST") or HOST
    uvicorn.run(app, host=host, port=int(sys.argv[1]), log_level="error")


if __name__ == "__main__":
    main()
