"""`mill check`: every problem at once, those of a build in its words, and estimates that hold what was measured."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from flows.execution.open_build import open_build
from pipeline import MillError
from pipeline.build.build import Build
from pipeline.curation import forecast
from pipeline.curation import recipe as recipes
from pipeline.store import files
from tests.flows.commands.test_cli import offline
from training.labelled import preflight
from training.recipe.sections import BuildRecipe

TEXT = "The quick brown fox jumps over the lazy dog, and the dog does not mind it at all. " * 5


def records(path: Path, *values: dict[str, Any]) -> None:
    path.write_text("".join(json.dumps(value) + "\n" for value in values))


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    records(tmp_path / "good.jsonl", *({"id": str(n), "text": f"{n} {TEXT}"} for n in range(50)))
    records(tmp_path / "body.jsonl", *({"id": n, "body": TEXT} for n in range(3)))
    (tmp_path / "table.csv").write_text("id,body\n" + "1,a\n" * 5)
    (tmp_path / "picture.txt").write_bytes(b"\x89PNG\r\n\x1a\n\0\0")
    return tmp_path


def write(folder: Path, *sources: dict[str, Any], **sections: Any) -> Path:
    named = [{"name": f"s{at}", "kind": "jsonl", **source} for at, source in enumerate(sources)]
    path = folder / "r.yaml"
    path.write_text(yaml.safe_dump({"name": "r", "sources": named, **sections}, sort_keys=False))
    return path


def flat(text: str) -> str:
    return " ".join(text.split())


def test_all_problems_are_found_in_one_go_and_nothing_is_written(folder):
    recipe = write(
        folder,
        {"path": "body.jsonl"},
        {"path": "table.csv"},
        {"path": "picture.txt", "kind": "text"},
        {"path": "nothing-*.jsonl"},
        bad_words={"lists": {"*": "words.txt"}},
        decontaminate={"sets": [{"name": "gsm", "path": "gsm.jsonl", "question_fields": ["q"]}]},
    )
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    found = offline("check", recipe)
    told = flat(found.stderr)
    assert found.exit_code == 1
    assert "sources[0] (s0): " in told
    assert "no field 'text' in the first 3 records; set `text_field`" in told
    assert "'id', 'body'" in told
    assert "table.csv, record 1: " in told
    assert "the file looks like a table of text (CSV): set `kind: csv`" in told
    assert "picture.txt is binary data, not plain text (`kind: text`)" in told
    assert "no file matches 'nothing-*.jsonl'" in told
    assert "bad_words" in told
    assert "words.txt" in told
    assert "decontaminate.sets[0]" in told
    assert told.count("error ") >= 6
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


@pytest.mark.parametrize(
    ("source", "sections"),
    [
        ({"path": "nothing.jsonl"}, {}),
        ({"path": "body.jsonl"}, {}),
        ({"path": "good.jsonl"}, {"minhash": {"bnads": 3}}),
        ({"path": "good.jsonl"}, {"quality": {"model": "nothing.bin", "label": "hq", "minimum": 0.1}}),
        ({"path": "table.csv", "kind": "csv", "text_field": "body", "url_field": "link"}, {}),
        ({"path": "good.jsonl"}, {"references": [{"name": "gpt", "path": "nothing"}]}),
        ({"path": "good.jsonl"}, {"exact": {}, "against": ["nothing/index"]}),
        ({"path": "good.jsonl"}, {"finetune": [{"name": "f", "base": "./nothing", "label": "x"}]}),
        (
            {"path": "good.jsonl"},
            {"finetune": [{"name": "f", "base": "./b", "label": "l", "data": {"train": "no.csv"}}]},
        ),
    ],
)
def test_what_build_refuses_before_work_check_refuses_in_the_same_words(folder, source, sections):
    recipe = write(folder, source, **sections)
    with pytest.raises(MillError) as told:
        preflight.check(open_build(recipe, Path("b")))
    refused, checked = offline("build", recipe, "--builds", "b"), offline("check", recipe, "--builds", "b")
    assert (refused.exit_code, checked.exit_code) == (1, 1)
    for line in str(told.value).splitlines():
        assert flat(line) in flat(refused.stderr)
        assert flat(line) in flat(checked.stderr)


def test_a_recipe_without_fault_has_its_estimates_with_their_origins(folder):
    found = offline("check", write(folder, {"path": "good.jsonl"}, exact={}, minhash={}), "--workers", 2)
    told = flat(found.stdout)
    assert (found.exit_code, found.stderr) == (0, "")
    for name in ("text", "time to curate", "disk", "memory to curate"):
        assert f"{name} " in told
    assert "docs/benchmarks.md for all stages; 2 at a time" in told
    assert told.endswith("no problems; build it with: mill build " + str(folder / "r.yaml"))
    assert not (folder / "data").exists()


def test_files_that_are_odd_but_read_are_warned_of(folder):
    (folder / "good-2.jsonl").write_text("")
    records(folder / "good-3.jsonl", {"id": 1})
    found = offline("check", write(folder, {"path": "good*.jsonl"}))
    told = flat(found.stdout)
    assert found.exit_code == 0
    assert "1 file without content, such as good-2.jsonl" in told
    assert "good-3.jsonl, record 1: no field 'text'" in told


def test_other_machines_are_asked_only_with_remote(folder):
    recipe = write(folder, {"path": "good.jsonl"}, {"path": "http://127.0.0.1:9/x.jsonl"})
    found = offline("check", recipe)
    assert found.exit_code == 0
    assert "sizes are not known, as sources lie elsewhere" in flat(found.stdout)
    asked = offline("check", recipe, "--remote")
    assert asked.exit_code == 1
    assert "http://127.0.0.1:9/x.jsonl" in asked.stderr


def test_a_disk_without_room_is_refused(folder, monkeypatch):
    recipe = write(folder, {"path": "good.jsonl"})
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: SimpleNamespace(free=2000))
    monkeypatch.setattr("pipeline.curation.preflight._ROOM", 1000)
    found = offline("check", recipe)
    assert found.exit_code == 1
    assert "2.00 kB are free on the disk of" in flat(found.stderr)
    assert "free some space, or choose another folder" in flat(found.stderr)


def test_what_an_earlier_build_took_lies_in_the_ranges_and_is_named(folder):
    recipe = recipes.load(write(folder, {"path": "good.jsonl"}, exact={}, minhash={}), BuildRecipe)
    root, text = folder / "b" / "monday", 50_000_000
    steps = {
        "ingest": 10.0,
        "exact.hashes": 1.0,
        "exact": 2.0,
        "minhash.signatures": 30.0,
        "corpus": 5.0,
        "funnel": 1.0,
    }
    files.write_json(str(root / "funnel.json"), {"stages": [{"bytes": text}, {"bytes": text}]})
    runs = [{"steps": steps}, {"steps": dict.fromkeys(steps, 0.01)}]  # the second run found all up to date
    files.write_json(str(root / "build.json"), {"recipe": "x", "runs": runs})
    (root / "shard").write_bytes(bytes(3_000_000))
    size = forecast.Range("text", text, text, "bytes", "")
    time, disk, _ = forecast.of(Build(str(folder / "b" / "r"), recipe), size, 2)
    assert time.low < sum(steps.values()) < time.high
    assert time.high < 10 * sum(steps.values())
    assert time.origin == "the rates of monday, 1 MB/s in all; 2 at a time"
    assert disk.low < 3_000_000 < disk.high
    assert "as monday takes" in disk.origin


def test_the_plan_of_a_model_names_its_tokens_and_memory(folder):
    sections = {
        "tokenizers": [{"name": "bpe", "algorithm": "bpe", "vocab_size": 512}],
        "pretrain": [
            {"name": "m", "objective": "causal", "tokenizer": "bpe", "model": "gpt2-demo", "steps": 5, "batch_size": 2}
        ],
    }
    found = offline("check", write(folder, {"path": "good.jsonl"}, **sections), "--builds", "b")
    told = flat(found.stdout)
    assert found.exit_code == 0
    # 4 layers of 12 x 256^2 weights with their biases and norms, and embeddings of 512 entries and 256 places
    total = 4 * (12 * 256**2 + 13 * 256) + 2 * 256 + (512 + 256) * 256
    assert f"m {total / 1e6:.2f}M parameters read 2,560 tokens" in told
    assert f"20 a parameter are {total * 20 / 1e6:.1f}M" in told
    assert "fewer than half of what that size asks for" in told
    assert "memory to train m" in told
    assert "parameters x 16 bytes (weights, gradients, AdamW)" in told
