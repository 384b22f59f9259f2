"""Ctrl-C and SIGTERM end a run within seconds, on record, without a process left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml

from flows.execution.open_build import open_build
from pipeline.build import record
from tests.flows.conftest import newest
from tests.helpers import building

SECONDS = 10


def wait_for(condition, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"did not happen within {seconds} s"
        time.sleep(0.05)


def stop(process: subprocess.Popen[str], *signals: int) -> tuple[float, str]:
    """Send the signals to the whole group, as a terminal does; how long the end took, and what was printed."""
    children = psutil.Process(process.pid).children(recursive=True)
    began = time.monotonic()
    for number in signals:
        os.killpg(process.pid, number)
        time.sleep(0.2)
    output = process.communicate(timeout=60)[0]
    took = time.monotonic() - began
    wait_for(lambda: not any(child.is_running() and child.status() != "zombie" for child in children), 2)
    return took, output


def started(command: list[str], environment: dict[str, str] | None = None) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        start_new_session=True,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "signals", "code"),
    [
        ("native", [signal.SIGINT], 130),
        ("native", [signal.SIGTERM], 143),
        ("workers", [signal.SIGINT], 130),
        ("workers", [signal.SIGINT, signal.SIGINT], 130),
    ],
)
def test_a_signal_ends_native_code_and_workers(tmp_path, kind, signals, code):
    process = started(["tests.helpers.stopped", kind, str(tmp_path)])
    wait_for(lambda: len(list(Path(tmp_path, "at").glob("*"))) == (1 if kind == "native" else 2), 60)
    time.sleep(0.5)  # into the native call
    took, output = stop(process, *signals)
    assert process.returncode == code
    assert took < SECONDS
    lines = output.splitlines()
    assert len(lines) == 1, output
    assert lines[0].startswith("stopped by SIGTERM;" if code == 143 else "stopped;")
    assert "the same command goes on from here" in lines[0]
    if len(signals) == 1:
        (run,) = json.loads(Path(tmp_path, "build.json").read_text())["runs"]
        assert run["state"] == "cancelled"


@pytest.mark.slow
def test_a_killed_run_leaves_no_process(tmp_path):
    process = started(["tests.helpers.stopped", "workers", str(tmp_path)])
    wait_for(lambda: len(list(Path(tmp_path, "at").glob("*"))) == 2, 60)
    children = psutil.Process(process.pid).children(recursive=True)
    assert len(children) >= 2
    process.kill()
    process.wait()
    wait_for(lambda: not any(child.is_running() and child.status() != "zombie" for child in children), 10)


@pytest.fixture
def many_shards(topics_recipe: Path) -> Path:
    """Shards of a few documents, so that there is work for two."""
    recipe = yaml.safe_load(topics_recipe.read_text())
    held = topics_recipe.with_name("held.yaml")
    held.write_text(yaml.safe_dump({**recipe, "name": "held", "shard_bytes": 60_000}))
    return held


@pytest.mark.slow
def test_ctrl_c_in_a_build_with_workers_ends_it_and_the_next_run_completes(
    environment, server_url, many_shards, tmp_path
):
    online = {**environment, "PREFECT_API_URL": server_url}
    command = ["curate", str(many_shards), "--workers", "2", "--builds", str(tmp_path / "builds")]
    at = tmp_path / "at"
    at.mkdir()

    def shown() -> dict[str, str]:
        return {run["name"]: run["state_type"] for run in newest(server_url, "flow_runs") if "held" in run["name"]}

    process = started(["tests.helpers.stopped", "mill", str(at), *command], online)
    wait_for(lambda: len(list(at.iterdir())) == 2 or process.poll() is not None, 120)
    wait_for(lambda: shown().get("build held") == "RUNNING", 60)
    took, output = stop(process, signal.SIGINT)
    assert (process.returncode, took < SECONDS) == (130, True), output
    assert output.count("the same command goes on from here") == 1
    assert "Traceback" not in output
    (row,) = record.runs(str(tmp_path / "builds"))
    assert row.state == "cancelled"
    states = shown()
    assert states["build held"] == "CANCELLED"
    assert "RUNNING" not in states.values()
    cut = open_build(many_shards, tmp_path / "builds")
    building.make(cut.recipe, Path(cut.root))
    expected, _ = building.make(cut.recipe, tmp_path / "expected")
    assert building.curated(cut) == building.curated(expected)
