"""`prefect deploy --all` and a worker, as README says: in a fresh clone, and in a folder without the checkout."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import httpx
import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows import automations
from pipeline.store import files
from tests.flows.conftest import client, write_topics
from tests.helpers.held import Held, gone, wait_for

ROOT = Path(__file__).parents[2]


def test_no_module_of_flows_hides_a_library():
    """Prefect may put ``flows/`` first on sys.path."""
    names = {path.stem for path in (ROOT / "flows").glob("*.py")} - {"__init__"}
    libraries = {name for name in packages_distributions() if not (ROOT / name).exists()}
    libraries.discard("build")  # the packaging tool: a program that nothing imports while flows run
    assert names & (libraries | set(sys.stdlib_module_names)) == set()


PREFECT = [sys.executable, "-m", "prefect", "--no-prompt"]
KEY = "k3y-of-a-block"


@dataclass
class Place:
    """A folder whose deployments are registered for a work pool of its own."""

    folder: Path
    pool: str
    online: dict[str, str]

    def register(self) -> None:
        shutil.copy(ROOT / "prefect.yaml", self.folder)
        definition = (self.folder / "prefect.yaml").read_text()
        for name in ("cpu", "gpu"):
            definition = definition.replace(f"work_pool: {{name: {name}", f"work_pool: {{name: {self.pool}")
        (self.folder / "prefect.yaml").write_text(definition)
        self.prefect("work-pool", "create", self.pool, "--type", "process")
        self.prefect("deploy", "--all")

    def prefect(self, *arguments: str) -> None:
        done = subprocess.run(
            [*PREFECT, *arguments],
            cwd=self.folder,
            env=self.online,
            text=True,
            capture_output=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    @contextmanager
    def worker(self) -> Iterator[subprocess.Popen[bytes]]:
        with (self.folder / "worker.log").open("ab") as written:
            worker = subprocess.Popen(
                [*PREFECT, "worker", "start", "--pool", self.pool, "--name", self.pool],
                cwd=self.folder,
                env={**self.online, "PREFECT_WORKER_QUERY_SECONDS": "2"},  # how soon it asks for work is Prefect's
                stdout=written,
                stderr=written,
            )
        try:
            yield worker
        finally:
            worker.terminate()
            try:
                worker.wait(15)
            except subprocess.TimeoutExpired:  # how Prefect's worker ends is not what is tested
                worker.kill()
                worker.wait()

    def nightly(self, api: httpx.Client, recipe: Path, builds: str = "built") -> str:
        """Ask for a run of ``recipe``; returns its id."""
        deployment = api.get("/deployments/name/curate/nightly").raise_for_status().json()["id"]
        parameters = {"recipe": str(recipe), "builds": builds}
        body = {"state": {"type": "SCHEDULED"}, "parameters": parameters}
        return api.post(f"/deployments/{deployment}/create_flow_run", json=body).raise_for_status().json()["id"]


@pytest.fixture(scope="module")
def places(environment, server_url) -> Callable[[Path], Place]:
    """A place in the folder ``place`` of a folder."""
    kept = {name: value for name, value in environment.items() if name != "PYTHONPATH"}

    def place(at: Path) -> Place:
        folder = at / "place"
        pool = f"pool-{at.name.replace('_', '-')}"
        return Place(folder, pool, {**kept, "PREFECT_API_URL": server_url, "PWD": str(folder)})

    return place


def state(api: httpx.Client, run: str) -> dict[str, Any]:
    return api.get(f"/flow_runs/{run}").raise_for_status().json()["state"]


def within(api: httpx.Client, run: str) -> list[dict[str, Any]]:
    """The parts of ``run``, which are flow runs."""
    parent = {"flow_runs": {"parent_flow_run_id": {"any_": [run]}}}
    return api.post("/flow_runs/filter", json=parent).raise_for_status().json()


def in_the_pools_environment(api: httpx.Client, pool: str) -> None:
    """Give the runs of ``pool`` the variable DROP_KEY from a block, as docs/guide.md says."""
    kind = api.get("/block_types/slug/secret").raise_for_status().json()["id"]
    wanted = {"block_schemas": {"block_type_id": {"any_": [kind]}}}
    schema = api.post("/block_schemas/filter", json=wanted).raise_for_status().json()[0]["id"]
    block = {"name": "drop-key", "block_type_id": kind, "block_schema_id": schema, "data": {"value": KEY}}
    api.post("/block_documents/", json=block).raise_for_status()
    template = api.get(f"/work_pools/{pool}").raise_for_status().json()["base_job_template"]
    template["variables"]["properties"]["env"]["default"] = {"DROP_KEY": "{{ prefect.blocks.secret.drop-key }}"}
    api.patch(f"/work_pools/{pool}", json={"base_job_template": template}).raise_for_status()


@contextmanager
def crashed_in_pending(api: httpx.Client, run: str) -> Iterator[None]:
    """What `mill automations` installs against runs that never begin, for this run alone, and after 10 s."""
    shipped = automations.stuck().model_dump(mode="json")
    ours = {"match": {"prefect.resource.id": f"prefect.flow-run.{run}"}, "match_related": {}, "within": 10}
    body = {**shipped, "name": f"for {run}", "trigger": {**shipped["trigger"], **ours}}
    made = api.post("/automations/", json=body).raise_for_status().json()["id"]
    yield
    api.delete(f"/automations/{made}").raise_for_status()


@dataclass
class Killed:
    """A build that held when its worker was killed ``at`` that time, the run of it, and one that had ended before."""

    build: Held
    run: str
    completed: str
    at: datetime


@pytest.fixture(scope="module")
def killed(places, server_url, tmp_path_factory) -> Killed:
    """It takes 80 s until the server knows: other tests come between."""
    folder = tmp_path_factory.mktemp("killed")
    place = places(folder)
    place.folder.mkdir()
    place.register()
    build = Held("held", folder / "held", place.folder / "built")
    with temporary_settings({PREFECT_API_URL: server_url}):
        automations.install(None, None, None)
    with client(server_url) as api, place.worker() as worker:
        in_the_pools_environment(api, place.pool)
        build.hold.unlink()
        completed = place.nightly(api, build.recipe)
        wait_for(lambda: state(api, completed)["type"] in ("COMPLETED", "FAILED", "CRASHED"))
        assert state(api, completed)["name"] == "Quarantined 1", (place.folder / "worker.log").read_text()[-3000:]
        build.forget()
        build.hold.touch()
        run = place.nightly(api, build.recipe, builds="others")
        wait_for(lambda: build.at_work() and within(api, run))
        working = build.at_work()
        worker.kill()
        at = datetime.now(UTC)
    wait_for(lambda: gone(working), 10)
    return Killed(build, run, completed, at)


@pytest.mark.slow
def test_what_a_run_reads_from_a_block_is_in_its_environment_and_nowhere_else(api, killed):
    assert [mark.read_text() for mark in (killed.build.folder / "at").iterdir()] == [KEY]
    for kind in ("flow_runs", "deployments", "work_pools", "logs"):
        assert KEY not in api.post(f"/{kind}/filter", json={}).raise_for_status().text


@pytest.mark.slow
def test_a_deployment_is_registered_and_a_worker_completes_its_run_though_another_is_stuck(api, places, tmp_path):
    place = places(tmp_path)
    # a clone would compile the kernels of these stages, which are not what is tested
    recipe = write_topics(tmp_path, exact=None, minhash=None)
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(place.folder)], check=True)
    place.register()
    place.prefect("work-pool", "set-concurrency-limit", place.pool, "1")
    stuck = place.nightly(api, recipe)
    with crashed_in_pending(api, stuck):
        api.post(f"/flow_runs/{stuck}/set_state", json={"state": {"type": "PENDING"}}).raise_for_status()
        run = place.nightly(api, recipe)
        with place.worker():  # one place, and a run that never began has it
            wait_for(lambda: state(api, stuck)["type"] == "CRASHED", 120)
            wait_for(lambda: state(api, run)["type"] in ("COMPLETED", "FAILED", "CRASHED"))
    assert state(api, stuck)["message"].startswith("stuck in Pending")
    assert state(api, run)["type"] == "COMPLETED", (place.folder / "worker.log").read_text()[-3000:]
    assert files.read_json(str(place.folder / "built" / "topics" / "corpus" / "manifest.json"))["documents"] > 0
    (entry,) = files.read_json(str(place.folder / "built" / "topics" / "build.json"))["runs"]
    assert entry["state"] == "completed"


@pytest.mark.slow
def test_a_run_whose_worker_is_killed_is_crashed_and_one_that_ended_is_not(api, killed):
    wait_for(lambda: state(api, killed.run)["type"] != "RUNNING", 150)
    crashed = state(api, killed.run)
    assert (crashed["type"], crashed["message"].partition(":")[0]) == ("CRASHED", "not heard of for 80 s")
    assert datetime.fromisoformat(crashed["timestamp"]) - killed.at < timedelta(seconds=120)
    wait_for(lambda: {run["state_type"] for run in within(api, killed.run)} == {"CRASHED"}, 60)
    assert state(api, killed.completed)["name"] == "Quarantined 1"
