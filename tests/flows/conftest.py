"""A real Prefect server for the tests, with a home of its own, and small builds of real text."""

from __future__ import annotations

import json
import os
import pydoc_data.topics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

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
    return {**kept, "PREFECT_HOME": str(prefect_home), "DO_NOT_TRACK": "1", "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}


@pytest.fixture(scope="session")
def server_url(environment: dict[str, str], prefect_home: Path) -> Iterator[str]:
    """The API of a server on a free port, stopped after the tests; it serves the reports of `builds` in its home."""
    from flows.execution import server

    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("PREFECT_")]:
            patch.delenv(name)
        for name, value in environment.items():
            patch.setenv(name, value)
        port = server.free_port()
        process = server.start(port, prefect_home / "builds")
        yield f"http://127.0.0.1:{port}/api"
        process.terminate()
        process.wait(20)


@pytest.fixture
def topics_recipe(tmp_path: Path) -> Path:
    """A recipe over Python's documentation topics as JSON lines: ingest, filter, deduplicate, write."""
    lines = [json.dumps({"name": name, "text": text}) for name, text in sorted(TOPICS.items())]
    (tmp_path / "topics.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    recipe = {
        "name": "topics",
        "sources": [{"name": "topics", "kind": "jsonl", "path": str(tmp_path / "topics.jsonl"), "domain": "docs"}],
        "exact": {},
        "minhash": {},
        "balance": {},
    }
    path = tmp_path / "topics.yaml"
    path.write_text(yaml.safe_dump(recipe, sort_keys=False))
    return path


def mill(*arguments: str | Path, environment: dict[str, str], **options) -> subprocess.CompletedProcess[str]:
    """Run `mill` as a user would, to its end."""
    command = [sys.executable, "-m", "flows.cli", *map(str, arguments)]
    return subprocess.run(command, env=environment, text=True, capture_output=True, timeout=300, check=False, **options)
