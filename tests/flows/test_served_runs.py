"""Runs that Prefect starts: cancelled, killed, completed, with nothing to do, failed; each says so in its state."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import psutil
import pytest
import yaml

from flows.execution.open_build import open_build
from pipeline.store import files
from tests.helpers import building

pytestmark = pytest.mark.slow

#: A stage that never ends while a file is there, and says where it is at work.
HOLDING = """
import os, time
from pathlib import Path
import pyarrow as pa
import pyarrow.compute as pc
from corpusmill import Config, Measured, Rule, Stage

HERE = Path({folder!r})

def measure(config, batch):
    (HERE / "at" / str(os.getpid())).touch()
    while (HERE / "hold").exists():
        time.sleep(0.05)
    return Measured({{"shouts": pc.count_substring(batch.texts, "!")}})

rule = Rule("holding.shouts", "shouts", maximum=2)
stage = Stage("holding", "Shouts", Config, measure=measure, signals={{"shouts": pa.int32()}}, rules=lambda _: [rule])
"""


def wait_for(happened: Callable[[], Any], seconds: float = 120) -> float:
    began = time.monotonic()
    while not happened():
        assert time.monotonic() < began + seconds, f"did not happen within {seconds} s"
        time.sleep(0.1)
    return time.monotonic() - began


def test_every_end_of_a_served_run(api, server_url, environment, topics_recipe, tmp_path):
    recipe = {**yaml.safe_load(topics_recipe.read_text()), "name": "held", "plugins": ["holding.py"], "holding": {}}
    with topics_recipe.with_name("topics.jsonl").open("a") as lines:
        lines.write("{no record\n")
    (tmp_path / "holding.py").write_text(HOLDING.format(folder=str(tmp_path)))
    path = tmp_path / "held.yaml"
    path.write_text(yaml.safe_dump({**recipe, "error_budget": 0.1}))
    (tmp_path / "at").mkdir()
    (tmp_path / "hold").touch()
    builds = tmp_path / "builds"
    command = ["serve", "--recipe", str(path), "--flow", "curate", "--builds", str(builds), "--workers", "1"]
    log = tmp_path / "serve.log"
    with log.open("wb") as written:
        served = subprocess.Popen(
            [sys.executable, "-m", "flows.cli", *command],
            env={**environment, "PREFECT_API_URL": server_url},
            stdout=written,
            stderr=subprocess.STDOUT,
        )

    def deployments() -> list[dict[str, Any]]:
        return api.post("/deployments/filter", json={"deployments": {"name": {"any_": ["held"]}}}).json()

    def start(**parameters: Any) -> str:
        for mark in (tmp_path / "at").iterdir():
            mark.unlink()
        body = {"state": {"type": "SCHEDULED"}, "parameters": parameters}
        return api.post(f"/deployments/{deployment['id']}/create_flow_run", json=body).raise_for_status().json()["id"]

    def state(run: str) -> tuple[str, str, str]:
        found = api.get(f"/flow_runs/{run}").json()["state"]
        return found["type"], found["name"], found["message"] or ""

    def ended(run: str) -> bool:
        return state(run)[0] in ("COMPLETED", "FAILED", "CANCELLED", "CRASHED")

    def at_work() -> list[psutil.Process]:
        marks = [int(mark.name) for mark in (tmp_path / "at").iterdir()]
        return [psutil.Process(process) for process in marks]

    def gone(processes: list[psutil.Process]) -> bool:
        return not any(process.is_running() and process.status() != "zombie" for process in processes)

    def last() -> dict[str, Any]:
        return files.read_json(str(builds / "held" / "build.json"))["runs"][-1]

    try:
        wait_for(lambda: deployments() or served.poll() is not None)
        (deployment,) = deployments()
        assert deployment["tags"] == ["corpusmill", "curate"]
        assert deployment["version"].endswith(files.fingerprint(open_build(path, builds).recipe)[:12])

        run = start()  # cancelled, as the UI does it
        wait_for(at_work)
        working = at_work()
        api.post(f"/flow_runs/{run}/set_state", json={"state": {"type": "CANCELLING"}}).raise_for_status()
        assert wait_for(lambda: state(run)[0] == "CANCELLED" and gone(working)) < 10
        assert last()["state"] == "cancelled"

        run = start()  # killed: nobody is left to write the record but Prefect's hook
        wait_for(at_work)
        at_work()[0].kill()
        assert wait_for(lambda: ended(run) and last()["state"] != "running") < 30
        assert state(run)[0] == last()["state"].upper() == "CRASHED"

        (tmp_path / "hold").unlink()
        run = start()  # goes on to the same corpus as a build that nothing stopped
        wait_for(lambda: ended(run))
        assert state(run)[:2] == ("COMPLETED", "Quarantined 1"), state(run)
        made = open_build(path, builds)
        documents = building.curated(made)
        assert state(run)[2].startswith("79 documents read, ")
        assert f", {len(documents)} kept (" in state(run)[2]
        expected, _ = building.make(made.recipe, tmp_path / "expected")
        assert documents == building.curated(expected)
        messages = [
            line["message"] for line in api.post("/logs/filter", json={"logs": {"flow_run_id": {"any_": [run]}}}).json()
        ]
        for title in ("Ingest", "Shouts", "Exact duplicates", "Near-duplicates", "Curated corpus"):
            assert any(message.startswith(f"{title}: ") and "documents kept" in message for message in messages), title

        again = start()
        wait_for(lambda: ended(again))
        assert state(again) == ("COMPLETED", "Nothing new", state(run)[2])

        strict = start(set=["error_budget=0"])
        wait_for(lambda: ended(strict))
        assert state(strict)[:2] == ("FAILED", "Failed")
        assert "topics.jsonl, record 80" in state(strict)[2]
        assert "raise `error_budget`" in state(strict)[2]
        shown = api.post("/artifacts/filter", json={"artifacts": {"key": {"any_": ["held-failure"]}}}).json()
        assert [(entry["flow_run_id"], "record 80" in entry["data"]) for entry in shown] == [(strict, True)]
        wanted = {"filter": {"resource": {"id": ["corpusmill.build.held"]}}}
        ends = ("started", "finished", "nothing-new", "failed")
        named = {*(f"corpusmill.build.{end}" for end in ends), "corpusmill.alarm.error-budget"}

        def announced() -> set[str]:
            found = api.post("/events/filter", json=wanted).raise_for_status().json()["events"]
            return {entry["event"] for entry in found}

        wait_for(lambda: named <= announced(), 30)  # the server writes them down some seconds later
    finally:
        served.send_signal(signal.SIGTERM)
        served.wait(30)
    assert served.returncode == 143
    assert "FailedRun" not in log.read_text(), "what failed is said once"
    assert "Traceback" not in log.read_text(), log.read_text()[-3000:]
    assert "stopped by SIGTERM" in log.read_text()
