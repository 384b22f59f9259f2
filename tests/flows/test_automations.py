"""What `mill automations` installs, on a real server: alarms reach a webhook, silent runs become Crashed."""

from __future__ import annotations

import json
import threading
import time
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from uuid import uuid4

import httpx
import pytest

from flows.execution import tracking
from flows.views import events
from pipeline.sources.quarantine import ErrorBudgetExceeded
from tests.flows.conftest import mill

pytestmark = pytest.mark.slow


@pytest.fixture
def webhook():
    """The address of a server on this machine, and what was posted to it."""
    posted: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/alarms", posted
    server.shutdown()


def wait_for(happened, seconds: float) -> float:
    began = time.monotonic()
    while not happened():
        assert time.monotonic() < began + seconds, f"did not happen within {seconds} s"
        time.sleep(0.5)
    return time.monotonic() - began


def test_alarms_reach_a_webhook_and_a_run_that_is_silent_is_crashed(api, server_url, environment, webhook):
    address, posted = webhook
    online = {**environment, "PREFECT_API_URL": server_url}
    for _ in range(2):  # the second time nothing is added
        done = mill("automations", "--webhook", address, environment=online)
        assert done.returncode == 0, done.stderr
        assert len(done.stdout.splitlines()) == 3
    wrong = mill("automations", "--train", "pretrain/none", environment=online)
    assert wrong.returncode == 1
    assert "--train pretrain/none: the server has no such deployment" in " ".join(wrong.stderr.split())
    known = api.post("/automations/filter", json={}).json()
    assert sorted(entry["name"] for entry in known) == sorted(
        line.removeprefix("installed ") for line in done.stdout.splitlines()
    )

    # two runs that were heard of once: one goes on and ends, the other says nothing any more
    flow = api.post("/flows/", json={"name": "automated"}).json()["id"]
    runs = []
    for _ in range(2):
        body = {"flow_id": flow, "tags": ["corpusmill"], "state": {"type": "RUNNING"}}
        runs.append(api.post("/flow_runs/", json=body).json()["id"])
        _heartbeat(api, runs[-1])
    began = time.monotonic()
    time.sleep(5)
    api.post(f"/flow_runs/{runs[0]}/set_state", json={"state": {"type": "COMPLETED"}}).raise_for_status()

    with tracking.tracking(server_url, pytest.fail), tracking.flow("build", "build alarmed"):
        events.failed("alarmed", ErrorBudgetExceeded("source 'web': 12 of 80 records are bad"))
    wait_for(lambda: len(posted) >= 2, 60)
    assert {entry["event"] for entry in posted} == {"corpusmill.build.failed", "corpusmill.alarm.error-budget"}
    assert {entry["resource"] for entry in posted} == {"corpusmill.build.alarmed"}
    assert all("12 of 80 records" in entry["payload"]["error"] for entry in posted)

    def state(run: str) -> str:
        return api.get(f"/flow_runs/{run}").json()["state"]["type"]

    wait_for(lambda: state(runs[1]) == "CRASHED", 120)
    assert time.monotonic() - began < 120
    assert state(runs[0]) == "COMPLETED"
    assert len(mill("automations", "--remove", environment=online).stdout.splitlines()) == 3


def _heartbeat(api: httpx.Client, run: str) -> None:
    """What Prefect's engine sends of a run that is at work."""
    event = {
        "id": str(uuid4()),
        "occurred": datetime.now(UTC).isoformat(),
        "event": "prefect.flow-run.heartbeat",
        "resource": {"prefect.resource.id": f"prefect.flow-run.{run}"},
        "related": [{"prefect.resource.id": "prefect.tag.corpusmill", "prefect.resource.role": "tag"}],
        "payload": {},
    }
    api.post("/events", json=[event]).raise_for_status()
