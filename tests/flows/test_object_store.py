"""A build in an object store equals one in a folder byte for byte, whatever becomes of requests; and can be asked."""

from __future__ import annotations

import itertools
import json
import os
import shlex
from pathlib import Path

import fsspec
import pytest
import yaml
from typer.testing import CliRunner

from flows.build import build
from flows.cli import app
from flows.execution import run_steps
from flows.execution.open_build import finished_build, latest_build, open_build
from flows.views import summary
from pipeline import MillError
from pipeline.build import record
from pipeline.questions.sample import sample
from pipeline.questions.verify import verify
from pipeline.questions.why import why
from pipeline.store import copies, files, mirror, objects
from tests.flows.conftest import TOPICS
from tests.helpers import clusters, s3_server

#: What tells when a run was, and what only a folder has.
OF_THE_RUN = {"build.json", ".checksums/build.json.xxh3", ".lock"}


@pytest.fixture(scope="module")
def recipe(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("recipe")
    texts = sorted(TOPICS.items(), key=lambda topic: len(topic[1]))[1::3]
    lines = [json.dumps({"name": name, "text": text}) for name, text in [*texts, *texts[-5:]]]
    (folder / "topics.jsonl").write_text("\n".join([*lines, "{"]) + "\n")
    content = {
        "name": "topics",
        "sources": [{"name": "topics", "kind": "jsonl", "path": str(folder / "topics.jsonl"), "domain": "docs"}],
        "shard_bytes": 1 << 17,
        "error_budget": 0.5,
        "pii": {},
        "exact": {},
        "minhash": {},
        "balance": {},
        "tokenizers": [{"name": "bpe", "algorithm": "bpe", "vocab_size": 400}],
    }
    (folder / "topics.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return folder / "topics.yaml"


@pytest.fixture(scope="module")
def in_folder(recipe, tmp_path_factory) -> dict[str, bytes]:
    """The files of the build in a folder."""
    root = Path(build(recipe, "tokenize", 2, "threads", tmp_path_factory.mktemp("builds")))
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def contents(url: str) -> dict[str, bytes]:
    """What the store holds of the build at ``url``, asked directly."""
    store, inner = fsspec.core.url_to_fs(url, use_listings_cache=False)
    inner = inner.lstrip("/")
    return {name.lstrip("/").removeprefix(f"{inner}/"): store.cat_file(name) for name in store.find(inner)}


def assert_equal(made: dict[str, bytes], expected: dict[str, bytes]) -> None:
    assert made.keys() - OF_THE_RUN == expected.keys() - OF_THE_RUN
    assert [name for name in made if name not in OF_THE_RUN and made[name] != expected[name]] == []


@pytest.mark.slow
def test_a_build_in_s3_equals_that_in_a_folder_though_requests_are_refused_and_cut(recipe, in_folder, s3, monkeypatch):
    monkeypatch.setattr(objects, "FIRST_WAIT", 0.01)
    number = itertools.count()
    s3.fault = lambda _method, _path: {3: "busy", 8: "cut"}.get(next(number) % 20)
    build(recipe, "tokenize", 2, "threads", "s3://bucket/builds")
    s3.fault = lambda _method, _path: None
    assert_equal(contents("s3://bucket/builds/topics"), in_folder)
    assert s3.faults["busy"] > 10
    assert s3.faults["cut"] > 10
    opened = open_build(recipe, "s3://bucket/builds")
    counts = summary.requests(opened)
    assert counts["retried"] >= s3.faults["busy"]
    assert "per GB of text" in summary._requests_line(counts)
    # each file is put once, and what is read is what this machine has put there itself
    assert counts["PUT"] - counts["retried"] < 1.2 * len(in_folder)
    assert counts.get("GET", 0) + counts["LIST"] < len(in_folder)
    s3.counts.clear()
    monkeypatch.setenv("CORPUSMILL_CACHE", f"{copies.cache()}-of-another-machine")
    build(recipe, "tokenize", 2, "threads", "s3://bucket/builds")
    assert_equal(contents("s3://bucket/builds/topics"), in_folder)
    opened = open_build(recipe, "s3://bucket/builds")
    assert summary.requests(opened)["sent"] < 10_000  # the record and the recipe: all was found up to date


def test_a_build_in_memory_equals_that_in_a_folder_and_is_asked_by_its_address(recipe, in_folder, store_cache):
    address = build(recipe, "tokenize", 2, "threads", "memory://bucket/builds")
    assert address == "memory://bucket/builds/topics"
    assert_equal(contents(address), in_folder)
    assert not any(name.startswith(".") for name in contents("memory://bucket/builds"))
    mirror.forget_listings()
    opened = finished_build(address)
    assert latest_build("memory://bucket/builds") == opened
    (row,) = record.runs("memory://bucket/builds")
    assert (row.name, row.root, row.state) == ("topics", address, "completed")
    assert why(opened, "topics/topics.jsonl#20")
    assert sample(opened, "exact_duplicate", 3)
    checked = verify(opened.root)
    assert (checked.faults, checked.files > 50) == ([], True)
    guide = (Path(__file__).parents[2] / "docs" / "guide.md").read_text("utf-8")
    block = guide.partition("### Builds in an object store\n")[2].partition("```sh\n")[2].partition("```")[0]
    for command in block.replace("s3://", "memory://").replace("NAME", "topics").splitlines():
        arguments = shlex.split(command)[1:]
        if arguments[0] != "curate":  # the cluster is another test's
            asked = CliRunner().invoke(app, arguments, catch_exceptions=False)
            assert asked.exit_code == 0, asked.output
            assert "topics" in asked.output or "all as written" in asked.output
    written = CliRunner().invoke(app, ["report", str(recipe), "--builds", "memory://bucket/builds"])
    assert written.exit_code == 0, written.output
    assert "report/index.html" in contents(address)
    for path in store_cache.rglob("*"):  # what a command prints names the address
        assert str(store_cache) not in mirror.shown(str(path))


def test_a_build_in_memory_is_for_one_process_alone(recipe, store_cache):  # noqa: ARG001
    with pytest.raises(MillError, match="memory of this process; use --runner threads"):
        build(recipe, "curate", 2, "processes", "memory://bucket/builds")


def test_damage_in_a_store_is_found_by_verify_and_made_good_by_the_next_build(recipe, in_folder, store_cache):  # noqa: ARG001
    memory = fsspec.filesystem("memory")
    for name, content in in_folder.items():
        memory.pipe_file(f"/bucket/builds/topics/{name}", content)
    damaged, lost = sorted(name for name in in_folder if name.startswith("ledgers/exact/topics"))[:2]
    memory.pipe_file(f"/bucket/builds/topics/{damaged}", in_folder[damaged][:-1] + b"?")
    memory.rm_file(f"/bucket/builds/topics/{lost}")
    faults = verify(files.here("memory://bucket/builds/topics")).faults
    assert len(faults) == 2
    assert all(f"memory://bucket/builds/topics/{name}" in " ".join(faults) for name in (damaged, lost))
    build(recipe, "tokenize", 2, "threads", "memory://bucket/builds")
    assert_equal(contents("memory://bucket/builds/topics"), in_folder)
    assert verify(files.here("memory://bucket/builds/topics")).faults == []


@pytest.mark.slow
@pytest.mark.parametrize(("runner", "until"), [("dask", "tokenize"), ("ray", "curate")])
def test_two_workers_without_a_shared_folder_of_which_one_is_killed_make_the_same_build(
    runner, until, recipe, in_folder, s3, tmp_path, monkeypatch
):
    pytest.importorskip("distributed" if runner == "dask" else runner)
    if runner == "ray" and not os.environ.get("RAY_TEST_CLUSTER"):
        pytest.skip(
            "nodes of Ray that begin beside other tests now and then do not find each other: RAY_TEST_CLUSTER=1"
        )
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    settings = s3_server.settings(s3.address)
    with getattr(clusters, runner)(tmp_path, settings) as (cluster, workers):

        def kill_at_work(method: str, path: str) -> None:
            if method == "PUT" and ".arrow" in path and any((tmp_path / "machine-1" / "cache").rglob("*.arrow")):
                clusters.kill(workers[0])

        s3.fault = kill_at_work
        build(recipe, until, None, runner, "s3://bucket/builds", cluster=cluster)
        assert [worker.poll() is None for worker in workers] == [False, True]
    made = contents("s3://bucket/builds/topics")
    whole = until == "tokenize"
    assert_equal(made, {name: content for name, content in in_folder.items() if whole or "token" not in name})
    machines = [{path.name for path in (tmp_path / f"machine-{n}" / "cache").rglob("*.arrow")} for n in (1, 2)]
    assert all(machines)  # both had a part in it
    assert summary.requests(open_build(recipe, "s3://bucket/builds"))["PUT"] > len(made) - 10


def test_a_cluster_that_is_not_there_or_not_of_the_runner_is_named(recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(run_steps, "CLUSTER_SECONDS", 1)
    with pytest.raises(MillError, match="--runner is threads"):
        build(recipe, "curate", 1, "threads", tmp_path, cluster="tcp://127.0.0.1:1")
    with pytest.raises(MillError, match=r"tcp://127.0.0.1:1: no Dask scheduler answers"):
        build(recipe, "curate", 1, "dask", tmp_path, cluster="tcp://127.0.0.1:1")
