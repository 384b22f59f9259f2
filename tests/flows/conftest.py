"""A real Prefect server for the tests, with a home of its own, and small builds of real text."""

from __future__ import annotations

import json
import os
import pydoc_data.topics
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

#: Python's own language reference: real English prose of a few kilobytes a topic, on every machine.
TOPICS: dict[str, str] = pydoc_data.topics.topics


@pytest.fixture(scope="session")
def prefect_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("prefect")


@pytest.fixture(scope="session")
def environment(prefect_home: Path) -> dict[str, str]:
    """The environment of a user's shell, with a Prefect home of the tests' own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return {
        **kept,
        "PREFECT_HOME": str(prefect_home),
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_SERVICES_SCHEDULER_MIN_SCHEDULED_TIME": "PT1M",  # not 100 runs at once
    }


@pytest.fixture(scope="session")
def _server(environment: dict[str, str], prefect_home: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """The API of a server on a free port, which ends with the tests; it serves the reports of `builds` in its home."""
    from flows.execution import server

    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("PREFECT_")]:
            patch.delenv(name)
        for name, value in environment.items():
            patch.setenv(name, value)
        port = server.free_port()
        process = server.start(port, prefect_home / "builds")
        yield f"http://127.0.0.1:{port}/api", process
        process.send_signal(signal.SIGCONT)
        process.terminate()
        process.wait(20)


@pytest.fixture(scope="module")
def server_url(_server: tuple[str, subprocess.Popen[bytes]]) -> Iterator[str]:
    """The API of the tests' server, which stands still between the files that use it: waiting takes some of a core."""
    url, process = _server
    process.send_signal(signal.SIGCONT)
    yield url
    process.send_signal(signal.SIGSTOP)


class Patient(httpx.HTTPTransport):
    """Asks a server whose database is busy (503) again, as Prefect's own client does."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        for _ in range(20):
            answer = super().handle_request(request)
            if answer.status_code != 503:
                break
            answer.close()
            time.sleep(0.5)
        return answer


def client(url: str) -> httpx.Client:
    """A client of the server at ``url``."""
    return httpx.Client(base_url=url, timeout=120, transport=Patient())


@pytest.fixture
def api(server_url: str) -> Iterator[httpx.Client]:
    """A client of the tests' server."""
    with client(server_url) as opened:
        yield opened


NEWEST = {
    "logs": "TIMESTAMP_DESC",
    "flow_runs": "START_TIME_DESC",
    "task_runs": "EXPECTED_START_TIME_DESC",
    "artifacts": "CREATED_DESC",
}


def newest(url: str, kind: str) -> list[dict]:
    """The newest 200 of what the server at ``url`` has: of its other runs there may be many more."""
    with httpx.Client(base_url=url, timeout=30, transport=Patient()) as client:
        return client.post(f"/{kind}/filter", json={"sort": NEWEST[kind]}).raise_for_status().json()


@pytest.fixture
def topics_recipe(tmp_path: Path) -> Path:
    """A recipe over Python's documentation topics as JSON lines: ingest, filter, deduplicate, write."""
    return write_topics(tmp_path)


def write_topics(folder: Path, **sections: Any) -> Path:
    """The recipe ``topics.yaml`` in ``folder``, with what it reads; ``sections`` are added or replace what it has."""
    lines = [json.dumps({"name": name, "text": text}) for name, text in sorted(TOPICS.items())]
    (folder / "topics.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    recipe = {
        "name": "topics",
        "sources": [{"name": "topics", "kind": "jsonl", "path": str(folder / "topics.jsonl"), "domain": "docs"}],
        "exact": {},
        "minhash": {},
        "balance": {},
    }
    path = folder / "topics.yaml"
    path.write_text(yaml.safe_dump({**recipe, **sections}, sort_keys=False))
    return path


def mill(*arguments: str | Path, environment: dict[str, str], **options) -> subprocess.CompletedProcess[str]:
    """Run `mill` as a user would, to its end."""
    command = [sys.executable, "-m", "flows.cli", *map(str, arguments)]
    return subprocess.run(command, env=environment, text=True, capture_output=True, timeout=300, check=False, **options)
