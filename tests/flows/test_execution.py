import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from flows.execution import grouped, task_runner
from flows.opening import on_record, open_build
from pipeline.locking import BuildBusy
from pipeline.store import files
from tests.flows.conftest import mill
from tests.pipeline import building


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 1000])
def test_groups_hold_every_item_once_in_order_and_are_even(count):
    items = [str(index) for index in range(count)]
    groups = grouped(items, 8)
    assert [item for group in groups for item in group] == items
    assert len(groups) == min(count, 8)
    assert max(map(len, groups), default=0) - min(map(len, groups), default=0) <= 1


def test_one_worker_runs_without_a_pool_of_processes():
    assert type(task_runner("processes", 1)).__name__ == "ThreadPoolTaskRunner"
    assert type(task_runner("processes", 2)).__name__ == "ProcessPoolTaskRunner"


def test_two_runs_never_share_a_build_and_a_killed_one_is_marked(topics_recipe, tmp_path):
    build = open_build(topics_recipe, tmp_path)
    with (
        on_record(build, topics_recipe, None, {}),
        pytest.raises(BuildBusy, match=f"process {os.getpid()} is at work"),
        on_record(build, topics_recipe, None, {}),
    ):
        pass
    record = files.read_json(build.path("build.json"))
    assert [run["state"] for run in record["runs"]] == ["completed"]
    record["runs"][0]["state"] = "running"
    files.write_json(build.path("build.json"), record)
    with pytest.raises(KeyError), on_record(build, topics_recipe, None, {"ingest": 1.0}):
        raise KeyError("broken")
    runs = files.read_json(build.path("build.json"))["runs"]
    assert [run["state"] for run in runs] == ["killed", "failed"]
    assert runs[1]["error"] == "KeyError: 'broken'"
    assert runs[1]["steps"] == {"ingest": 1.0}


@pytest.fixture(scope="session")
def online(environment, server_url):
    return {**environment, "PREFECT_API_URL": server_url}


@pytest.fixture
def expected(topics_recipe, tmp_path):
    """What the recipe gives when its steps are simply called one after the other."""
    build, _ = building.make(open_build(topics_recipe, tmp_path).recipe, tmp_path / "expected")
    return building.curated(build)


@pytest.mark.slow
@pytest.mark.parametrize("runner", ["threads", "processes", "dask"])
def test_every_task_runner_gives_the_same_corpus(runner, online, topics_recipe, tmp_path, expected):
    run = mill("curate", topics_recipe, "--runner", runner, "--workers", "2", "--builds", tmp_path, environment=online)
    assert run.returncode == 0, run.stderr
    assert building.curated(open_build(topics_recipe, tmp_path)) == expected
    assert "Near-duplicates" in run.stdout or "MinHash" in run.stdout


@pytest.mark.slow
def test_a_killed_build_leaves_no_process_and_goes_on(online, topics_recipe, tmp_path, expected):
    command = [sys.executable, "-m", "flows.cli", "curate", str(topics_recipe), "--workers", "2"]
    running = subprocess.Popen([*command, "--builds", str(tmp_path)], env=online, stdout=subprocess.DEVNULL)
    wait_for(lambda: list(Path(tmp_path, "topics", "work").glob("exact.*/*")), 120)
    children = psutil.Process(running.pid).children(recursive=True)
    assert children
    running.send_signal(signal.SIGKILL)
    running.wait()
    wait_for(lambda: not any(child.is_running() and child.status() != "zombie" for child in children), 10)
    run = mill("curate", topics_recipe, "--workers", "2", "--builds", tmp_path, environment=online)
    assert run.returncode == 0, run.stderr
    assert building.curated(open_build(topics_recipe, tmp_path)) == expected
    runs = files.read_json(str(tmp_path / "topics" / "build.json"))["runs"]
    assert [entry["state"] for entry in runs] == ["killed", "completed"]


def wait_for(condition, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"did not happen within {seconds} s"
        time.sleep(0.05)
