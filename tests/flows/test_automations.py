"""What `mill automations` installs, on a real server: what alarms, a published corpus and files that arrive set off.

Runs that are dead or stuck: test_deployment.py.
"""

from __future__ import annotations

import json
import re
import threading
import time
import uuid
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.types.entrypoint import EntrypointType

from flows import automations
from flows.execution import tracking
from flows.schedule import FLOWS
from flows.views import events
from pipeline.sources.quarantine import ErrorBudgetExceeded
from tests.flows.conftest import mill
from tests.helpers import small_build

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


def deploy(flow: str, name: str, **parameters: str) -> str:
    """The id of a deployment of the flow, with its form, that nothing serves."""
    module: Any = EntrypointType.MODULE_PATH
    made: Any = FLOWS[flow].to_deployment(name=name, parameters=parameters, entrypoint_type=module)
    return str(made.apply())


def test_a_published_corpus_is_trained_on_and_files_that_arrived_are_curated(api, server_url, tmp_path):
    build = small_build.open_small(tmp_path / "builds" / "crawl", name="crawl")
    small_build.write_documents(build, [small_build.document(0, "a text")], 1)
    small_build.close(build)
    with temporary_settings({PREFECT_API_URL: server_url}):
        training = deploy("pretrain", "automated")
        with pytest.raises(automations.NoDeployment, match="pretrain/automated: this deployment asks for recipe when"):
            automations.install(None, None, "pretrain/automated")
        curation = deploy("curate", "automated", recipe="drop.yaml")
        automations.install(None, "pretrain/automated", "curate/automated")

    def runs(deployment: str, count: int) -> list[dict[str, Any]]:
        """The runs of the deployment once there are ``count``, oldest first."""
        wanted = {"deployments": {"id": {"any_": [deployment]}}, "sort": "EXPECTED_START_TIME_ASC"}
        found: list[dict[str, Any]] = []

        def asked() -> bool:
            found[:] = api.post("/flow_runs/filter", json=wanted).raise_for_status().json()
            return len(found) >= count

        wait_for(asked, 60)
        assert len(found) == count
        return found

    with tracking.tracking(server_url, pytest.fail), tracking.flow("curate", "curate crawl"):
        events.published(build, tmp_path / "crawl.yaml", ["minhash.threshold=0.8", "seed=7"])
    (run,) = runs(training, 1)
    expected = {
        "recipe": str(tmp_path / "crawl.yaml"),
        "builds": str(tmp_path / "builds"),
        "set": ["minhash.threshold=0.8", "seed=7"],
    }
    assert {name: run["parameters"][name] for name in expected} == expected

    guide = (Path(__file__).parents[2] / "docs" / "guide.md").read_text("utf-8")
    (posted,) = [text for text in re.findall(r"^```json\n(.*?)^```$", guide, re.M | re.S) if "file.arrived" in text]
    (event,) = json.loads(posted)
    now = datetime.now(UTC)
    times = [now + timedelta(seconds=seconds) for seconds in (0, 1, 59)]
    files = [{**event, "occurred": time.isoformat(), "id": str(uuid.uuid4())} for time in times]
    api.post("/events", json=files).raise_for_status()
    (first,) = runs(curation, 1)
    assert datetime.fromisoformat(first["expected_start_time"]) >= now + timedelta(seconds=60), "after all the files"
    skipped = {"state": {"type": "CANCELLED", "name": "Skipped"}, "force": True}
    api.post(f"/flow_runs/{first['id']}/set_state", json=skipped).raise_for_status()
    assert runs(curation, 2)[1]["state_name"] == "Scheduled", "one for all files, and once more as it was skipped"
    with temporary_settings({PREFECT_API_URL: server_url}):
        assert len(automations.remove()) == 5
