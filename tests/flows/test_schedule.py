import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from flows.execution.open_build import open_build
from pipeline.store import files

pytestmark = pytest.mark.slow


def flow_runs(api: httpx.Client, deployment: str) -> list[dict]:
    wanted = {"deployments": {"name": {"any_": [deployment]}}}
    return api.post("/flow_runs/filter", json=wanted).raise_for_status().json()


def test_a_scheduled_build_starts_and_finishes_on_its_own(api, server_url, environment, topics_recipe, tmp_path):
    builds = tmp_path / "builds"
    command = [sys.executable, "-m", "flows.cli", "serve", "--recipe", str(topics_recipe), "--cron", "* * * * *"]
    command += ["--builds", str(builds), "--runner", "threads", "--workers", "1"]
    with (tmp_path / "serve.log").open("wb") as log:
        served = subprocess.Popen(
            command, env={**environment, "PREFECT_API_URL": server_url}, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        deadline = time.monotonic() + 200
        ended: list[dict] = []
        while not ended and time.monotonic() < deadline:
            assert served.poll() is None, (tmp_path / "serve.log").read_text()
            ended = [run for run in flow_runs(api, "topics") if run["state_type"] in ("COMPLETED", "FAILED")]
            time.sleep(1)
    finally:
        served.terminate()
        served.wait(30)
    assert [run["state_type"] for run in ended[:1]] == ["COMPLETED"], (tmp_path / "serve.log").read_text()[-3000:]
    assert ended[0]["auto_scheduled"]
    (deployment,) = api.post("/deployments/filter", json={"deployments": {"name": {"any_": ["topics"]}}}).json()
    assert sorted(deployment["tags"]) == ["build", "corpusmill"]
    fingerprint = files.fingerprint(open_build(topics_recipe, builds).recipe)
    assert deployment["version"].endswith(fingerprint[:12])
    assert files.read_json(str(builds / "topics" / "corpus" / "manifest.json"))["documents"] > 0
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
