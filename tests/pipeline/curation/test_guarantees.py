"""The guarantees of DESIGN: nothing is lost, the same answer however it is run, kill it anywhere."""

from __future__ import annotations

import gzip
import json
import pydoc_data.topics
import random
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import yaml

from pipeline.build.lock import locked
from pipeline.curation import recipe as recipes
from pipeline.questions.verify import verify
from pipeline.sources.quarantine import ErrorBudgetExceeded
from pipeline.store import files, shards
from tests.helpers import building

TOPICS: dict[str, str] = pydoc_data.topics.topics

RECIPE = {
    "name": "guarantees",
    "seed": 7,
    "shard_bytes": "96KiB",
    "error_budget": 0.05,
    "language": {"keep": {"en": 0.3}},
    "heuristics": {"gopher_repetition": {}, "c4": {"end_punctuation": False}},
    "perplexity": {"order": 3},
    "exact": {},
    "minhash": {},
    "substring": {},
    "index": True,
    "balance": {"strategy": "temperature", "temperature": 2, "tokens": 20_000, "max_epochs": 2},
}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real English with what curation is for: exact and near duplicates, another language, broken records."""
    folder = tmp_path_factory.mktemp("inputs")
    topics = sorted(TOPICS.items())
    half = len(topics) // 2
    with gzip.open(folder / "a.jsonl.gz", "wt", encoding="utf-8") as handle:
        for name, text in topics[:half]:
            handle.write(json.dumps({"id": name, "text": text}) + "\n")
        handle.write('{"text": "cut off\n')
    lines = [json.dumps({"text": text}) for _, text in topics[half:]]
    lines += [json.dumps({"text": text}) for _, text in topics[:10]]  # exact duplicates
    lines += [json.dumps({"text": text + "\nOne more line of words at its very end."}) for _, text in topics[20:40]]
    lines += [json.dumps({"text": "Das Wetter ist heute schön, und wir gehen alle zusammen in den Park. " * 5})]
    lines += ['{"text": 7}', "\\not json"]
    (folder / "b.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    tree = folder / "tree"
    tree.mkdir()
    for name, text in topics[40:60]:
        (tree / f"{name}.txt").write_text(text.upper(), encoding="utf-8")
    return folder


def recipe_over(inputs: Path, **changes) -> recipes.Recipe:
    return recipes.parse(yaml.safe_dump(recipe_values(inputs, **changes)), recipes.Recipe)


def recipe_values(inputs: Path, **changes) -> dict:
    sources = [
        {"name": "json", "kind": "jsonl", "path": f"{inputs}/*.jsonl*", "domain": "docs"},
        {"name": "tree", "kind": "text", "path": f"{inputs}/tree/*.txt", "domain": "shouting"},
    ]
    return {**RECIPE, "sources": sources, **changes}


@pytest.fixture(scope="module")
def reference(inputs, tmp_path_factory):
    return building.make(recipe_over(inputs), tmp_path_factory.mktemp("reference"))[0]


def test_the_inputs_exercise_every_way_out(reference):
    funnel = files.read_json(reference.path("funnel.json"))
    assert sum(funnel["quarantined"].values()) == 3
    by_stage = {stage["stage"]: stage for stage in funnel["stages"]}
    for stage in ("language", "heuristics", "perplexity", "exact", "minhash", "balance"):
        assert by_stage[stage]["dropped"], f"{stage} dropped nothing: the tests below would prove little"
    assert by_stage["heuristics"]["cut"]["bytes"] > 0
    assert by_stage["corpus"]["documents"] > 20


def test_every_document_and_byte_is_accounted_for(reference, inputs):
    funnel = files.read_json(reference.path("funnel.json"))
    with gzip.open(inputs / "a.jsonl.gz", "rt", encoding="utf-8") as handle:
        records = len(handle.read().splitlines())
    records += (
        len((inputs / "b.jsonl").read_text(encoding="utf-8").split("\n")) - 1 + len(list((inputs / "tree").iterdir()))
    )
    dropped = sum(entry["documents"] for stage in funnel["stages"] for entry in stage["dropped"].values())
    kept = building.curated(reference)
    assert records == len(kept) + dropped + sum(funnel["quarantined"].values())
    cut = sum(stage["cut"]["bytes"] for stage in funnel["stages"])
    lost = sum(entry["bytes"] for stage in funnel["stages"] for entry in stage["dropped"].values())
    text = sum(len(text.encode()) for text, _, _ in kept.values())
    assert funnel["stages"][0]["bytes"] == text + cut + lost


def test_every_duplicate_names_a_survivor_that_outlived_its_stage(reference):
    alive_after: dict[str, set[str]] = {}
    duplicates: list[tuple[str, str]] = []
    for stage in ("exact", "minhash"):
        alive_after[stage] = set()
        for shard in reference.shards():
            ids = reference.documents(shard)["id"].to_pylist()
            before = reference.view(shard, before=stage).alive
            ledger = reference.ledger(stage, shard).to_pylist()
            for document, alive, row in zip(ids, before, ledger, strict=True):
                if alive and row["dropped_by"] is None:
                    alive_after[stage].add(document)
                if row["dropped_by"] is not None:
                    duplicates.append((stage, row["duplicate_of"]))
    assert len(duplicates) >= 20
    assert all(survivor in alive_after[stage] for stage, survivor in duplicates)


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{}, {"shard_bytes": "17KiB"}, {"shard_bytes": "64MiB"}], ids=str)
def test_the_same_corpus_for_any_workers_and_shard_size(reference, inputs, tmp_path, changes):
    build, _ = building.make(recipe_over(inputs, **changes), tmp_path, workers=4 if not changes else 1)
    assert building.curated(build) == building.curated(reference)


@pytest.mark.slow
def test_the_same_corpus_for_any_order_of_the_input_files(reference, inputs, tmp_path):
    """The same files created in another order, so that a directory lists them differently."""
    shuffled = tmp_path / "inputs"
    (shuffled / "tree").mkdir(parents=True)
    paths = sorted(path for path in inputs.rglob("*") if path.is_file())
    random.Random(3).shuffle(paths)
    for path in paths:
        (shuffled / path.relative_to(inputs)).write_bytes(path.read_bytes())
    build, _ = building.make(recipe_over(shuffled), tmp_path / "build")
    assert building.curated(build) == building.curated(reference)


@pytest.mark.slow
def test_an_unchanged_build_does_nothing_and_a_changed_rule_redoes_only_what_follows(inputs, tmp_path):
    building.make(recipe_over(inputs), tmp_path)
    before = building.outputs(tmp_path)
    building.make(recipe_over(inputs), tmp_path)
    assert building.outputs(tmp_path) == before
    building.make(recipe_over(inputs, minhash={"threshold": 0.95}), tmp_path)
    after = building.outputs(tmp_path)
    rewritten = {
        name.split("/")[1] for name in before if after.get(name) != before[name] and name.startswith("ledgers/")
    }
    assert "minhash" in rewritten
    assert not rewritten & {"language", "heuristics", "perplexity", "exact"}


@pytest.mark.slow
def test_an_output_of_any_kind_that_is_lost_is_made_again(reference, inputs, tmp_path):
    root = Path(shutil.copytree(reference.root, tmp_path / "build"))
    wanted = {name: digest for name, digest in building.contents(root).items() if not name.startswith("work/")}
    checked = [name for name in sorted(wanted) if not name.endswith(".md")]  # people may edit cards
    kinds = {(str(Path(name).parent), Path(name).suffix): name for name in checked}
    assert len(kinds) >= 15
    for name in kinds.values():
        (root / name).unlink()
        assert [fault.split(": ")[0] for fault in verify(str(root)).faults] == [str(root / name)]
        with locked(str(root)):
            building.make(recipe_over(inputs), root)
        assert building.contents(root).items() >= wanted.items(), f"without {name}"
        assert verify(str(root)).faults == []


@pytest.mark.slow
def test_killed_at_any_write_it_resumes_to_the_same_bytes_and_redoes_no_finished_file(inputs, tmp_path):
    """One build is killed in every step, each time by what resumes the one before, and then left to its end."""
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(recipe_values(inputs)))
    command = [sys.executable, "-m", "tests.helpers.building", str(recipe)]
    whole = subprocess.run([*command, str(tmp_path / "whole")], capture_output=True, text=True, check=True)
    writes = Counter(whole.stdout.split())
    assert len(writes) >= 12
    moments = [f"{step}:{count // 2}" for step, count in writes.items()]
    root = tmp_path / "killed"
    done = subprocess.run([*command, str(root), *moments], capture_output=True, text=True, check=True)
    killed = [json.loads(line) for line in done.stdout.splitlines()]
    assert [run["moment"] for run in killed] == moments
    assert {run["status"] for run in killed} == {signal.SIGKILL}
    _, outcomes = building.make(recipes.load(recipe, recipes.Recipe), root)
    assert building.contents(root) == building.contents(tmp_path / "whole")
    assert verify(str(root)).faults == []
    then = [run["finished"] for run in killed[1:]]
    then.append({name: list(state) for name, state in building.outputs(root).items()})
    for run, later in zip(killed, then, strict=True):
        step, finished = run["moment"].split(":")[0], run["finished"]
        if len(outcomes[step]) == 1:  # the one item of this step was not finished, whatever files it had written
            finished = {name: state for name, state in finished.items() if not name.startswith(f"work/{step}/")}
        assert {name: later.get(name) for name in finished} == finished, f"killed in {step}"


def test_above_the_error_budget_the_build_stops_and_says_why(inputs, tmp_path):
    with pytest.raises(ErrorBudgetExceeded, match=r"(?s)'json': 3 of \d+ records.*b\.jsonl, record") as raised:
        building.make(recipe_over(inputs, error_budget=0.001), tmp_path)
    assert "error_budget" in str(raised.value)
    assert not (tmp_path / "corpus").exists()


@pytest.mark.slow
def test_a_damaged_ledger_is_told_and_never_taken_for_good(inputs, tmp_path):
    build, _ = building.make(recipe_over(inputs), tmp_path)
    path = Path(build.ledger_path("heuristics", build.shards()[0]))
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(shards.DamagedFile, match=path.name):
        building.make(recipe_over(inputs, exact={"normalise": "none"}), tmp_path)
