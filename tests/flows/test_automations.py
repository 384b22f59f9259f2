"""What `mill automations` installs, on a real server: alarms reach a webhook. Dead runs: test_deployment.py."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows import automations
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


def test_alarms_reach_a_webhook(api, server_url, environment, webhook):
    address, posted = webhook
    online = {**environment, "PREFECT_API_URL": server_url}
    done = mill("automations", "--webhook", address, environment=online)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 3
    with temporary_settings({PREFECT_API_URL: server_url}):
        automations.install(address, None, None)  # the second time nothing is added
    wrong = mill("automations", "--train", "pretrain/none", environment=online)
    assert wrong.returncode == 1
    assert "--train pretrain/none: the server has no such deployment" in " ".join(wrong.stderr.split())
    known = api.post("/automations/filter", json={}).json()
    assert sorted(entry["name"] for entry in known) == sorted(
        line.removeprefix("installed ") for line in done.stdout.splitlines()
    )

    changes = [action for entry in known for action in entry["actions"] if action["type"] == "change-flow-run-state"]
    assert [(change["state"], change["force"]) for change in changes] == [("CRASHED", False)] * 2
    flow = api.post("/flows/", json={"name": "build"}).json()["id"]
    ended = api.post("/flow_runs/", json={"flow_id": flow, "state": {"type": "COMPLETED"}}).json()["id"]
    body = {"state": {"type": changes[0]["state"]}, "force": changes[0]["force"]}
    assert api.post(f"/flow_runs/{ended}/set_state", json=body).json()["status"] == "ABORT", "what has ended stays so"

    with tracking.tracking(server_url, pytest.fail), tracking.flow("build", "build alarmed"):
        events.failed("alarmed", ErrorBudgetExceeded("source 'web': 12 of 80 records are bad"))
    wait_for(lambda: len(posted) >= 2, 60)
    assert {entry["event"] for entry in posted} == {"corpusmill.build.failed", "corpusmill.alarm.error-budget"}
    assert {entry["resource"] for entry in posted} == {"corpusmill.build.alarmed"}
    assert all("12 of 80 records" in entry["payload"]["error"] for entry in posted)
    assert len(mill("automations", "--remove", environment=online).stdout.splitlines()) == 3
