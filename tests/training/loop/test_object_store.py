"""A run whose build lies in an object store ends as in a folder, and goes on from its checkpoints elsewhere."""

from __future__ import annotations

import shutil
from pathlib import Path

import fsspec
import pytest

from pipeline.store import files, mirror
from tests.training.conftest import make_build
from tests.training.loop.test_processes import section
from training.pretraining.pretrain import pretrain

STORE = "/bucket/builds/test"


@pytest.mark.slow
def test_a_run_in_a_store_is_that_in_a_folder_and_goes_on_elsewhere(packed_build, tmp_path, store_cache, monkeypatch):
    local = tmp_path / "local" / "test"
    shutil.copytree(packed_build, local)
    memory = fsspec.filesystem("memory")
    for path in local.rglob("*"):
        if path.is_file():
            memory.pipe_file(f"{STORE}/{path.relative_to(local)}", path.read_bytes())
    run = section("causal")
    pretrain(make_build(str(local), run), "causal")
    pretrain(make_build(files.here(f"memory:/{STORE}"), run), "causal")
    names = [str(path.relative_to(local)) for path in (local / "models" / "causal").rglob("*") if path.is_file()]
    found = {name.removeprefix(f"{STORE}/") for name in memory.find(f"{STORE}/models/causal")}
    assert found == set(names)
    model, log = "models/causal/model.safetensors", "models/causal/metrics.jsonl"
    assert memory.cat_file(f"{STORE}/{model}") == (local / model).read_bytes()
    assert memory.cat_file(f"{STORE}/{log}").count(b"\n") == (local / log).read_bytes().count(b"\n")

    memory.rm(f"{STORE}/models/causal", recursive=True)
    steps = sorted(
        Path(name).parent.name for name in memory.find(f"{STORE}/work/pretrain/causal") if name.endswith("state.json")
    )
    memory.rm(f"{STORE}/work/pretrain/causal/{steps[-1]}", recursive=True)
    monkeypatch.setenv("CORPUSMILL_CACHE", f"{store_cache}-of-another-machine")
    mirror.forget_listings()
    pretrain(make_build(files.here(f"memory:/{STORE}"), run), "causal")
    assert memory.cat_file(f"{STORE}/{model}") == (local / model).read_bytes()
    assert memory.cat_file(f"{STORE}/{log}").count(b"\n") == (local / log).read_bytes().count(b"\n")
