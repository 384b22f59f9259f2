"""`prefect deploy --all` and a worker, as README says: in a fresh clone, and in a folder without the checkout."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml

from pipeline.store import files

ROOT = Path(__file__).parents[2]


def test_no_module_of_flows_hides_a_library():
    """Prefect may put ``flows/`` first on sys.path."""
    names = {path.stem for path in (ROOT / "flows").glob("*.py")} - {"__init__"}
    libraries = {name for name in packages_distributions() if not (ROOT / name).exists()}
    libraries.discard("build")  # the packaging tool: a program that nothing imports while flows run
    assert names & (libraries | set(sys.stdlib_module_names)) == set()


@pytest.mark.slow
@pytest.mark.parametrize("checkout", [True, False], ids=["clone", "elsewhere"])
def test_a_deployment_is_registered_and_a_worker_completes_its_run(
    checkout, api, server_url, environment, topics_recipe, tmp_path
):
    place = tmp_path / "place"
    if checkout:
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(place)], check=True)
    else:
        place.mkdir()
    shutil.copy(ROOT / "prefect.yaml", place)
    recipe = yaml.safe_load(topics_recipe.read_text())
    del recipe["exact"], recipe["minhash"]  # a clone would compile their kernels, which are not what is tested
    (place / "topics.yaml").write_text(yaml.safe_dump(recipe))
    prefect = [sys.executable, "-m", "prefect", "--no-prompt"]
    pool = f"corpusmill-{checkout}".lower()
    definition = (place / "prefect.yaml").read_text()
    for name in ("cpu", "gpu"):
        definition = definition.replace(f"work_pool: {{name: {name}", f"work_pool: {{name: {pool}")
    (place / "prefect.yaml").write_text(definition)
    kept = {name: value for name, value in environment.items() if name != "PYTHONPATH"}
    online = {**kept, "PREFECT_API_URL": server_url, "PWD": str(place)}

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [*prefect, *arguments], cwd=place, env=online, text=True, capture_output=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run("work-pool", "create", pool, "--type", "process")
    run("deploy", "--all")
    run("deployment", "run", "curate/nightly", "--param", "recipe=topics.yaml", "--param", "builds=built")
    log = tmp_path / "worker.log"
    with log.open("wb") as written:
        worker = subprocess.Popen(
            [*prefect, "worker", "start", "--pool", pool, "--name", pool],
            cwd=place,
            env=online,
            stdout=written,
            stderr=written,
        )
    try:
        deadline = time.monotonic() + 200
        state = None
        wanted = {
            "work_pools": {"name": {"any_": [pool]}},
            "flow_runs": {"state": {"type": {"any_": ["COMPLETED", "FAILED", "CRASHED"]}}},
        }
        while state is None and time.monotonic() < deadline:
            found = api.post("/flow_runs/filter", json=wanted).raise_for_status().json()
            state = found[0]["state_type"] if found else None
            time.sleep(1)
    finally:
        worker.terminate()
        try:
            worker.wait(15)
        except subprocess.TimeoutExpired:  # how Prefect's worker ends is not what is tested
            worker.kill()
            worker.wait()
    assert state == "COMPLETED", log.read_text()[-3000:]
    assert files.read_json(str(place / "built" / "topics" / "corpus" / "manifest.json"))["documents"] > 0
    (entry,) = files.read_json(str(place / "built" / "topics" / "build.json"))["runs"]
    assert entry["state"] == "completed"
