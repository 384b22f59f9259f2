"""A run is shown to the Prefect server, and never depends on it."""

from __future__ import annotations

import base64
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from flows.execution import progress, server, tracking
from tests.flows.conftest import newest

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def own_server(environment) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        port = server.free_port()
        process = server.start(port)
    yield process, f"http://127.0.0.1:{port}/api"
    process.kill()
    process.wait()


def test_a_run_is_shown_as_flow_runs_task_runs_artifacts_and_log(server_url):
    told: list[str] = []
    with tracking.tracking(server_url, told.append) as tracker, tracking.flow("build", "build tracked", until="curate"):
        with pytest.raises(KeyError), tracking.flow("curate", "curate tracked"):
            tracking.log("a line of tracked")
            tracking.artifact("table", "tracked-table", "A table", [{"stage": "Ingest"}])
            tracking.reused("Read", "Read: tracked, up to date")
            tracking.end(tracking.begin("Count", "Count: tracked"), "COMPLETED", "3 made")
            with tracking.task("Judge", "Judge: tracked") as begin:
                begin()
                raise KeyError("broken")
        tracking.begin("Train", "Train: tracked")
        tracker.cancel(20)
    assert told == []
    flows = {run["name"]: run for run in newest(server_url, "flow_runs") if "tracked" in run["name"]}
    assert {name: run["state_type"] for name, run in flows.items()} == {
        "build tracked": "CANCELLED",
        "curate tracked": "FAILED",
    }
    assert flows["build tracked"]["parameters"] == {"until": "curate"}
    tasks = {run["name"]: run for run in newest(server_url, "task_runs") if "tracked" in run["name"]}
    assert {name: (run["state_type"], run["state_name"]) for name, run in tasks.items()} == {
        "curate tracked": ("FAILED", "Failed"),
        "Read: tracked, up to date": ("COMPLETED", "Reused"),
        "Count: tracked": ("COMPLETED", "Completed"),
        "Judge: tracked": ("FAILED", "Failed"),
        "Train: tracked": ("CANCELLED", "Cancelled"),
    }
    assert flows["curate tracked"]["parent_task_run_id"] == tasks["curate tracked"]["id"]
    assert tasks["Judge: tracked"]["flow_run_id"] == flows["curate tracked"]["id"]
    (table,) = [entry for entry in newest(server_url, "artifacts") if entry["key"] == "tracked-table"]
    assert (json.loads(table["data"]), table["flow_run_id"]) == ([{"stage": "Ingest"}], flows["build tracked"]["id"])
    logged = {line["flow_run_id"] for line in newest(server_url, "logs") if line["message"] == "a line of tracked"}
    assert logged == {flows["build tracked"]["id"], flows["curate tracked"]["id"]}


def test_progress_and_loss_are_artifacts_that_follow_the_run(server_url, monkeypatch):
    monkeypatch.setattr(progress, "LIVE_SECONDS", 0.0)
    monkeypatch.setattr(progress, "CURVE_SECONDS", 0.0)
    with tracking.tracking(server_url, pytest.fail), tracking.flow("build", "build live"):
        reporter = progress.Reporter()
        with reporter.step("count", "Count", 4) as advance:
            for number in range(1, 4):
                advance(number, "12.3 MB/s")
        with reporter.training("pretrain.tiny", "Pretrain tiny") as trained:
            for step in range(1, 6):
                trained(step, 5, {"loss": 3.0 / step, "tokens_per_second": 1000.0})
        with reporter.training("finetune.kept", "Fine-tune kept"):
            pass  # nothing is trained, and so there is no loss to draw
        with reporter.training("finetune.quiet", "Fine-tune quiet") as trained:
            trained(1, 1, {})
    (run,) = [run for run in newest(server_url, "flow_runs") if run["name"] == "build live"]
    shown = [entry for entry in newest(server_url, "artifacts") if entry["flow_run_id"] == run["id"]]
    bars = sorted((entry["data"], entry["description"]) for entry in shown if entry["type"] == "progress")
    assert bars[0][0] == 75
    assert bars[0][1].startswith("Count: 3 of 4, 12.3 MB/s, ")
    assert bars[0][1].endswith(" left")
    assert bars[1:] == [
        (100, "Fine-tune kept: 1 of 1, reused"),
        (100, "Fine-tune quiet: 1 of 1"),
        (100, "Pretrain tiny: 5 of 5, loss 0.600, 1,000 tokens/s"),
    ]
    (curve,) = [entry for entry in shown if entry["type"] == "image"]
    assert curve["data"].startswith("data:image/svg+xml;base64,")
    assert "train ends at 0.600" in base64.b64decode(curve["data"].partition(",")[2]).decode()


@pytest.mark.parametrize("how", [signal.SIGSTOP, signal.SIGKILL], ids=["hung", "killed"])
def test_a_run_goes_on_and_ends_soon_when_the_server_goes_away(own_server, how, monkeypatch):
    process, url = own_server
    longest = tracking.REQUEST_SECONDS
    monkeypatch.setattr(tracking, "REQUEST_SECONDS", 3)
    told: list[str] = []
    began = time.monotonic()
    with tracking.tracking(url, told.append) as tracker, tracking.flow("build", "build orphan"):
        deadline = time.monotonic() + 30
        while tracker.page is None and time.monotonic() < deadline:
            time.sleep(0.1)
        assert tracker.page
        process.send_signal(how)
        calls = []
        for number in range(100):
            call = time.monotonic()
            tracking.end(tracking.begin("Count", f"Count: {number}"), "COMPLETED", "")
            calls.append(time.monotonic() - call)
        # the work waits for no answer; a loaded machine may hold up some calls, but none for as long as a request
        assert sorted(calls)[50] < 0.01
        assert max(calls) < longest
        began = time.monotonic()
    took = time.monotonic() - began
    process.send_signal(signal.SIGCONT)  # for the one that is killed next
    assert took < 25
    assert len(told) == 1
    assert "Prefect server" in told[0]


def test_a_server_that_is_not_there_costs_a_warning():
    told: list[str] = []
    began = time.monotonic()
    with (
        tracking.tracking("http://127.0.0.1:1/api", told.append),
        tracking.flow("build", "build alone"),
        tracking.task("Count", "Count") as begin,
    ):
        begin()
    assert time.monotonic() - began < 30
    assert len(told) == 1
    assert "goes on without it" in told[0]


def test_a_run_with_nothing_to_do_starts_no_server(monkeypatch):
    def refuse(_announce):
        raise AssertionError("a server was started")

    monkeypatch.setattr(server, "own", refuse)
    with tracking.tracking(None, print), tracking.flow("build", "build idle"):
        tracking.reused("Count", "Count")


def test_loopback_goes_past_a_proxy(server_url, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "example.org")
    monkeypatch.delenv("no_proxy", raising=False)
    told: list[str] = []
    assert server.healthy(server_url)
    with tracking.tracking(server_url, told.append) as tracker, tracking.flow("build", "build past a proxy"):
        pass
    assert told == []
    assert tracker.page


def test_what_is_on_the_port_is_a_prefect_server_or_nothing(monkeypatch, environment, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setenv("PREFECT_HOME", environment["PREFECT_HOME"])
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        began = time.monotonic()
        assert server.find(other.getsockname()[1]) is None
        assert time.monotonic() - began < 5
    monkeypatch.setenv("PREFECT_API_URL", "http://elsewhere:4200/api")
    assert server.find() == "http://elsewhere:4200/api"


def test_a_server_named_in_prefects_own_files_is_found(environment, tmp_path):
    (tmp_path / ".env").write_text("PREFECT_API_URL=http://named.here/api\n")
    command = [sys.executable, "-c", "from flows.execution import server; print(server.configured())"]
    run = subprocess.run(command, cwd=tmp_path, env=environment, text=True, capture_output=True, check=True)
    assert run.stdout == "http://named.here/api\n"
