import io
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from rich.console import Console

from flows.build import build as build_all
from flows.execution import run_steps, tracking
from flows.execution.open_build import OtherRecipe, on_record, open_build
from flows.execution.progress import Reporter, TerminalReporter, reporting
from flows.execution.run_steps import Pool, WorkerKilled, grouped, run_step
from pipeline.build import record as records
from pipeline.build.build import Step
from pipeline.build.lock import BuildBusy
from pipeline.store import files
from tests.flows.conftest import mill, newest, write_topics
from tests.helpers import building, small_build, working


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 1000])
def test_groups_hold_every_item_once_in_order_and_are_even(count):
    items = [str(index) for index in range(count)]
    groups = grouped(items, 8)
    assert [item for group in groups for item in group] == items
    assert len(groups) == min(count, 8)
    assert max(map(len, groups), default=0) - min(map(len, groups), default=0) <= 1


@pytest.fixture
def build(tmp_path):
    return small_build.open_small(tmp_path / "small")


def step(work, items="abcdef"):
    return Step("step", "A step", lambda _build: list(items), work)


def workers_of(build):
    return {path.name: int(path.read_text()) for path in Path(build.path("done")).iterdir() if path.is_file()}


def test_one_worker_works_in_this_process(build):
    with Pool("processes", 1) as pool:
        run_step(build, step(working.who, "abc"), pool)
    assert workers_of(build) == dict.fromkeys("abc", os.getpid())


@pytest.mark.slow
def test_what_takes_longer_goes_to_processes_that_end_with_the_pool(build):
    with Pool("processes", 2) as pool:
        run_step(build, step(working.who, "abcdefgh"), pool)
    done = workers_of(build)
    assert sorted(done) == list("abcdefgh")
    assert len(set(done.values()) - {os.getpid()}) == 2
    assert not any(psutil.pid_exists(process) for process in set(done.values()) - {os.getpid()})


def test_only_what_is_not_current_is_handed_to_a_runner(build):
    for item in "ab":
        working.who(build, item)
    with Pool("threads", 2) as pool:
        handed = []
        run = pool.run
        pool.run = lambda build, step, items: handed.extend(items) or run(build, step, items)
        run_step(build, step(working.who, "abcd"), pool)
        run_step(build, step(working.who, "abcd"), pool)
    assert handed == ["c", "d"]
    assert sorted(workers_of(build)) == list("abcd")


@pytest.mark.slow
def test_a_killed_worker_is_told_and_its_items_are_tried_again(build, monkeypatch):
    monkeypatch.setattr(run_steps, "HERE_SECONDS", -1)
    Path(build.root).mkdir()
    shown = io.StringIO()
    with (
        TerminalReporter(Console(file=shown, width=200)) as reporter,
        reporting(reporter),
        Pool("processes", 2) as pool,
    ):
        run_step(build, step(working.killed_once), pool)
    assert sorted(workers_of(build)) == list("abcdef")
    assert "A step: the worker process at c was killed (SIGKILL); trying once more with 1 at a time" in shown.getvalue()
    assert "✓ A step" in shown.getvalue()


@pytest.mark.slow
def test_a_worker_killed_twice_names_step_item_cause_and_remedy(build, monkeypatch):
    monkeypatch.setattr(run_steps, "HERE_SECONDS", -1)
    shown = io.StringIO()
    with (
        TerminalReporter(Console(file=shown, width=200)) as reporter,
        reporting(reporter),
        pytest.raises(WorkerKilled, match=r"A step: the worker process at c was killed .*--workers.*shard_bytes"),
        Pool("processes", 2) as pool,
    ):
        run_step(build, step(working.killed), pool)
    assert "✓" not in shown.getvalue()
    assert "✗ A step" in shown.getvalue()


@pytest.mark.slow
def test_an_error_ends_the_step_and_the_other_workers(build, monkeypatch):
    monkeypatch.setattr(run_steps, "HERE_SECONDS", -1)
    with pytest.raises(ValueError, match="c: broken"), Pool("processes", 2) as pool:
        run_step(build, step(working.fails), pool)
    assert multiprocessing.active_children() == []


def no_page() -> None:
    """Nothing is tracked."""


def test_two_runs_never_share_a_build_and_a_killed_one_is_marked(topics_recipe, tmp_path):
    build = open_build(topics_recipe, tmp_path)
    with (
        on_record(build, topics_recipe, no_page, {}),
        pytest.raises(BuildBusy, match=f"process {os.getpid()} is at work"),
        on_record(build, topics_recipe, no_page, {}),
    ):
        pass
    record = files.read_json(build.path("build.json"))
    assert [run["state"] for run in record["runs"]] == ["completed"]
    record["runs"][0]["state"] = "running"
    files.write_json(build.path("build.json"), record)
    with pytest.raises(KeyError), on_record(build, topics_recipe, no_page, {"ingest": 1.0}):
        raise KeyError("broken")
    runs = files.read_json(build.path("build.json"))["runs"]
    assert [run["state"] for run in runs] == ["killed", "failed"]
    assert runs[1]["error"] == "KeyError: 'broken'"
    assert runs[1]["steps"] == {"ingest": 1.0}


def test_another_recipe_of_the_same_name_does_not_take_over_the_folder(topics_recipe, tmp_path):
    build = open_build(topics_recipe, tmp_path)
    other = tmp_path / "other.yaml"
    other.write_text(topics_recipe.read_text() + "# of somebody else\n")
    with on_record(build, topics_recipe, no_page, {}):
        pass
    before = Path(build.path("build.json")).read_bytes()
    with pytest.raises(OtherRecipe) as refused, on_record(build, other, no_page, {}):
        pass
    for part in (str(topics_recipe), str(other), "--builds", "`name`"):
        assert part in str(refused.value)
    assert Path(build.path("build.json")).read_bytes() == before


@pytest.mark.parametrize("change", ["edited", "copied", "moved", "renamed", "no longer a recipe"])
def test_an_edited_moved_or_copied_recipe_goes_on_with_its_build(change, topics_recipe, tmp_path):
    build, text = open_build(topics_recipe, tmp_path), topics_recipe.read_text()
    with on_record(build, topics_recipe, no_page, {}):
        pass
    now = topics_recipe if change == "edited" else tmp_path / "now.yaml"
    now.write_text(text if change == "copied" else text + "# changed\n")
    if change == "moved":
        topics_recipe.unlink()
    elif change == "renamed":  # the earlier file builds into a folder of its own from now on
        topics_recipe.write_text(text.replace("name: topics", "name: others", 1))
    elif change == "no longer a recipe":
        topics_recipe.write_text("a: [")
    with on_record(build, now, no_page, {}):
        pass
    record = files.read_json(build.path("build.json"))
    assert (len(record["runs"]), record["recipe"]) == (2, str(now.resolve()))


def test_a_run_that_is_interrupted_is_recorded_as_cancelled(topics_recipe, tmp_path):
    build = open_build(topics_recipe, tmp_path)
    with pytest.raises(KeyboardInterrupt), on_record(build, topics_recipe, no_page, {}):
        raise KeyboardInterrupt
    (run,) = files.read_json(build.path("build.json"))["runs"]
    assert (run["state"], run["error"]) == ("cancelled", None)
    (row,) = records.runs(str(tmp_path))
    assert row.state == "cancelled"


@pytest.fixture(scope="module")
def online(environment, server_url):
    return {**environment, "PREFECT_API_URL": server_url}


@pytest.fixture
def expected(topics_recipe, tmp_path):
    """What the recipe gives when its steps are simply called one after the other."""
    build, _ = building.make(open_build(topics_recipe, tmp_path).recipe, tmp_path / "expected")
    return building.curated(build)


@pytest.mark.slow
@pytest.mark.parametrize("runner", ["threads", "processes"])
def test_every_task_runner_gives_the_same_corpus(runner, online, topics_recipe, tmp_path, expected):
    run = mill("curate", topics_recipe, "--runner", runner, "--workers", "2", "--builds", tmp_path, environment=online)
    assert run.returncode == 0, run.stderr
    assert building.curated(open_build(topics_recipe, tmp_path)) == expected
    assert "Near-duplicates" in run.stdout or "MinHash" in run.stdout


#: A stage that warns of each shard, once to Python and once to the log.
WARNING = """
import logging, warnings
import pyarrow as pa
import pyarrow.compute as pc
from corpusmill import Config, Measured, Rule, Stage

def measure(config, batch):
    warnings.warn(f"{len(batch.texts)} texts are loud")
    logging.getLogger("loud").warning("said by %s", "a logger")
    return Measured({"shouts": pc.count_substring(batch.texts, "!")})

stage = Stage("loud", "Shouts", Config, measure=measure, signals={"shouts": pa.int32()}, rules=lambda _: [])
"""


@pytest.mark.slow
@pytest.mark.parametrize("runner", ["dask", "ray"])
def test_workers_elsewhere_make_the_same_corpus_and_what_they_say_is_on_the_server(
    runner, server_url, tmp_path, monkeypatch
):
    pytest.importorskip("distributed" if runner == "dask" else runner)
    monkeypatch.setenv("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    (tmp_path / "loud.py").write_text(WARNING)
    recipe = write_topics(tmp_path, name=f"topics-{runner}", plugins=["loud.py"], loud={}, minhash=None, canaries=False)
    with (
        reporting(Reporter()),
        tracking.tracking(server_url, pytest.fail),
        tracking.flow("build", f"build by {runner}"),
    ):
        build_all(recipe, "curate", 2, runner, tmp_path)
    made = open_build(recipe, tmp_path)
    expected, _ = building.make(made.recipe, tmp_path / "expected")
    assert building.curated(made) == building.curated(expected)

    by_id = {run["id"]: run for run in newest(server_url, "task_runs")}
    (run,) = [run for run in newest(server_url, "flow_runs") if run["name"] == f"build by {runner}"]
    lines = newest(server_url, "logs")
    said = [line for line in lines if line["flow_run_id"] == run["id"] and "are loud" in line["message"]]
    assert len(said) == 1  # one shard
    (under,) = [line for line in lines if line["message"] == said[0]["message"] and line["task_run_id"] in by_id]
    task = by_id[under["task_run_id"]]
    assert task["name"].startswith("Shouts: ")
    assert (task["state_type"], task["state"]["message"]) == ("COMPLETED", "1 made, 0 up to date")
    assert "warning: said by a logger" in [line["message"] for line in lines if line["task_run_id"] == task["id"]]


@pytest.mark.slow
def test_a_killed_build_goes_on(online, topics_recipe, tmp_path, expected):
    at = tmp_path / "at"
    at.mkdir()
    command = [sys.executable, "-m", "tests.helpers.stopped", "mill", str(at), "curate", str(topics_recipe)]
    command += ["--workers", "2", "--builds", str(tmp_path)]
    running = subprocess.Popen(command, env=online, stdout=subprocess.DEVNULL)
    wait_for(lambda: any(at.iterdir()) or running.poll() is not None, 120)
    running.send_signal(signal.SIGKILL)
    running.wait()
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
