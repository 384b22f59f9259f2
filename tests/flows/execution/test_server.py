"""The server that corpusmill starts: what it keeps its runs in, and for how long."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing

import asyncpg
import httpx
import pytest
from typer.testing import CliRunner

from flows.cli import app
from flows.execution import server, tracking
from tests.helpers.postgres import PASSWORD, postgres

OLD = "UPDATE flow_run SET end_time = {} WHERE name = 'build old'"


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request, environment, monkeypatch, tmp_path) -> Iterator[Callable[[], str]]:
    """A database of the server's own, in force for what this process starts. Called, it makes the run "build old" end
    40 days ago and returns what the database says of its journal or version.
    """
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PREFECT_SERVER_SERVICES_DB_VACUUM_LOOP_SECONDS", "8")
    if request.param == "sqlite":

        def age() -> str:
            with closing(sqlite3.connect(tmp_path / "home" / "prefect.db", timeout=30)) as connection:
                connection.execute(OLD.format("datetime('now', '-40 days')"))
                connection.commit()
                return connection.execute("PRAGMA journal_mode").fetchone()[0]

        yield age
        return

    with postgres() as address:
        monkeypatch.setenv("PREFECT_SERVER_DATABASE_CONNECTION_URL", address)

        async def old() -> str:
            connection = await asyncpg.connect(address.replace("+asyncpg", ""))
            try:
                await connection.execute(OLD.format("now() - interval '40 days'"))
                return (await connection.fetchval("SELECT version()")).split()[0]
            finally:
                await connection.close()

        yield lambda: asyncio.run(old())


@pytest.mark.slow
def test_runs_are_kept_in_either_database_until_they_are_too_old(database):
    port = server.free_port()
    process = server.start(port, keep_days=30)
    url = f"http://127.0.0.1:{port}/api"

    def read(what: str) -> list[dict]:
        return httpx.post(f"{url}/{what}/filter", json={}, timeout=10, trust_env=False).raise_for_status().json()

    try:
        told: list[str] = []
        with tracking.tracking(url, told.append):
            for name in ("old", "new"):
                with tracking.flow("build", f"build {name}", until="curate"):
                    tracking.log(f"a line of {name}")
                    tracking.artifact("table", f"table-{name}", "A table", [{"stage": "Ingest"}])
                    with tracking.task("Read", f"Read: {name}") as begin:
                        begin()
        assert told == []
        assert {run["name"]: run["state_type"] for run in read("flow_runs")} == {
            "build old": "COMPLETED",
            "build new": "COMPLETED",
        }
        assert {run["name"] for run in read("task_runs")} == {"Read: old", "Read: new"}
        assert database() in ("wal", "PostgreSQL")
        deadline = time.monotonic() + 60
        while len(read("artifacts")) > 1 or len(read("flow_runs")) > 1 or len(read("logs")) > 1:
            assert time.monotonic() < deadline, [run["name"] for run in read("flow_runs")]
            time.sleep(0.3)
        assert [run["name"] for run in read("flow_runs")] == ["build new"]
        assert [run["name"] for run in read("task_runs")] == ["Read: new"]
        assert [entry["key"] for entry in read("artifacts")] == ["table-new"]
        assert [line["message"] for line in read("logs")] == ["a line of new"]
        settings = httpx.get(f"{url}/admin/settings", timeout=10, trust_env=False).text
        assert PASSWORD not in settings
    finally:
        server.stop(process)


def test_a_server_that_runs_already_is_not_told_how_long_to_keep_runs(monkeypatch):
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    asked = CliRunner().invoke(app, ["ui", "--no-browser", "--keep-days", "30"])
    assert asked.exit_code == 1
    shown = " ".join((asked.output + asked.stderr).split())
    assert "PREFECT_API_URL names a server" in shown
    assert "PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD=2592000" in shown
