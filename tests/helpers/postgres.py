"""A PostgreSQL server of the test's own."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flows.execution.server import HOST, free_port

USER, PASSWORD = "prefect", "only-for-this-test"


def programs() -> Path:
    """The folder with initdb and postgres; Debian keeps them off PATH. Skips the test where there is none."""
    places = [Path(found).resolve().parent] if (found := shutil.which("initdb")) else []
    places += sorted(path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not places:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    return places[-1]


@contextlib.contextmanager
def postgres() -> Iterator[str]:
    """The address of its database for SQLAlchemy; it asks for a password, and is stopped and deleted with the block."""
    bin_folder = programs()
    with tempfile.TemporaryDirectory(prefix="postgres-") as folder:
        place = Path(folder)
        log, password = place / "log", place / "password"
        password.write_text(PASSWORD)
        run: dict[str, Any] = {"cwd": place, "stdout": subprocess.DEVNULL}
        if os.geteuid() == 0:  # PostgreSQL refuses root
            shutil.chown(place, "nobody")
            run |= {"user": "nobody", "group": "nogroup", "extra_groups": []}
        initdb = [bin_folder / "initdb", "--pgdata", place / "data", "--username", USER, "--pwfile", password]
        subprocess.run([*initdb, "--auth", "scram-sha-256", "--encoding", "UTF8", "--no-sync"], check=True, **run)
        port = free_port()
        settings = {"port": port, "listen_addresses": HOST, "unix_socket_directories": "", "fsync": "off"}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with log.open("wb") as written:
            server = subprocess.Popen([bin_folder / "postgres", "-D", place / "data", *options], stderr=written, **run)
        try:
            ready = [bin_folder / "pg_isready", "--host", HOST, "--port", str(port), "--quiet"]
            deadline = time.monotonic() + 30
            while subprocess.run(ready, check=False).returncode != 0:
                assert server.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.1)
            yield f"postgresql+asyncpg://{USER}:{PASSWORD}@{HOST}:{port}/postgres"
        finally:
            server.terminate()
            server.wait(20)
