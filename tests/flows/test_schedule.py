import json
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from flows.execution.open_build import open_build
from pipeline.report import sections
from pipeline.store import files
from tests.flows.conftest import write_topics

pytestmark = pytest.mark.slow


def flow_runs(api: httpx.Client, deployment: str) -> list[dict]:
    wanted = {"deployments": {"name": {"any_": [deployment]}}}
    return api.post("/flow_runs/filter", json=wanted).raise_for_status().json()


def documents(builds: Path) -> int:
    account = sections.funnel(open_build(builds.parent / "topics.yaml", builds))
    assert account is not None
    return account["first"]["documents"]


def test_a_scheduled_build_starts_takes_in_a_new_file_and_then_has_nothing_new(api, server_url, environment, tmp_path):
    source = {"name": "topics", "kind": "jsonl", "path": str(tmp_path / "*.jsonl"), "domain": "docs"}
    recipe, builds = write_topics(tmp_path, sources=[source], shard_bytes="256KiB"), tmp_path / "builds"
    command = [sys.executable, "-m", "flows.cli", "serve", "--recipe", str(recipe), "--cron", "* * * * * */10"]
    command += ["--builds", str(builds), "--runner", "threads", "--workers", "1"]
    log = tmp_path / "serve.log"
    online = {**environment, "PREFECT_API_URL": server_url, "PREFECT_RUNNER_POLL_FREQUENCY": "2"}
    with log.open("wb") as written:
        served = subprocess.Popen(command, env=online, stdout=written, stderr=subprocess.STDOUT)
    deadline = time.monotonic() + 400

    def ended(name: str, after: str = "") -> dict:
        """The first run that began after ``after`` and completed under ``name``."""
        while True:
            assert served.poll() is None, log.read_text()
            runs = sorted(flow_runs(api, "topics"), key=lambda run: run["start_time"] or "")
            assert not [run for run in runs if run["state_type"] == "FAILED"], log.read_text()[-3000:]
            for run in runs:
                if run["state_type"] == "COMPLETED" and run["state_name"] == name and run["start_time"] > after:
                    return run
            assert time.monotonic() < deadline, (name, [(run["state_name"], run["start_time"]) for run in runs])
            time.sleep(0.5)

    try:
        first = ended("Completed")
        read = documents(builds)
        made = {path: path.stat().st_mtime_ns for path in (builds / "topics" / "documents").glob("*.arrow")}
        fresh = [
            f"A text that was not there on day {day}, and is longer than the others: {day:x}." for day in range(40)
        ]
        lines = [json.dumps({"name": f"fresh {day}", "text": text}) for day, text in enumerate(fresh)]
        (tmp_path / "more.partial").write_text("\n".join(lines) + "\n", encoding="utf-8")
        (tmp_path / "more.partial").rename(tmp_path / "more.jsonl")
        second = ended("Completed", first["start_time"])
        ended("Nothing new", second["start_time"])
    finally:
        served.terminate()
        served.wait(30)
    assert first["auto_scheduled"]
    assert made, "documents of the first file are written"
    assert {path: path.stat().st_mtime_ns for path in made} == made, "what was read before is not read again"
    assert documents(builds) == read + len(fresh)
    (deployment,) = api.post("/deployments/filter", json={"deployments": {"name": {"any_": ["topics"]}}}).json()
    assert sorted(deployment["tags"]) == ["build", "corpusmill"]
    fingerprint = files.fingerprint(open_build(recipe, builds).recipe)
    assert deployment["version"].endswith(fingerprint[:12])
    assert Path(builds / "topics" / "report" / "index.html").is_file()


def test_schedules_missed_in_an_outage_are_skipped(api, server_url, environment):
    """Runs that should have begun before now are cancelled; one that is due later, or another deployment's, stays."""
    from datetime import UTC, datetime, timedelta

    flow = api.post("/flows/", json={"name": "build"}).raise_for_status().json()["id"]
    runs = {}
    for deployment in ("missed", "another"):
        body = {"name": deployment, "flow_id": flow, "enforce_parameter_schema": False}
        identifier = api.post("/deployments/", json=body).raise_for_status().json()["id"]
        for name, hours in (("late", -5), ("later", -1), ("due", 5)):
            due = (datetime.now(UTC) + timedelta(hours=hours)).isoformat()
            state = {"type": "SCHEDULED", "state_details": {"scheduled_time": due}}
            made = api.post(f"/deployments/{identifier}/create_flow_run", json={"state": state}).raise_for_status()
            runs[deployment, name] = made.json()["id"]
    code = "from flows import serving; print(serving.skip_missed('missed'))"
    command = [sys.executable, "-c", code]
    online = {**environment, "PREFECT_API_URL": server_url}
    done = subprocess.run(command, env=online, text=True, capture_output=True, timeout=60, check=True)
    assert done.stdout == "2\n"
    states = {key: api.get(f"/flow_runs/{run}").json()["state_type"] for key, run in runs.items()}
    assert [key for key, state in states.items() if state == "CANCELLED"] == [("missed", "late"), ("missed", "later")]
