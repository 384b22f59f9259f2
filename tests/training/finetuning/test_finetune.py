from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from pipeline import MillError
from pipeline.build.build import Build
from pipeline.store import files, shards
from tests.training.conftest import make_build, pretrain_section
from training.finetuning import build_ladder
from training.finetuning.finetune import finetune
from training.labelled import corpus
from training.pretraining.pretrain import pretrain
from training.recipe.sections import BuildRecipe

SETTINGS = {
    **{"name": "family", "base": "mlm", "label": "domain", "smallest_class": 10, "sequence_length": 32},
    **{"only": {"kind": "docstring"}, "group": "module", "hide": ["package"], "precision": "fp32"},
}


def write_corpus(root: str, documents: int = 200) -> None:
    """Two families, told apart by a verb and (which must not count) by the package's name."""
    draw = np.random.default_rng(0)
    rows = []
    for number in range(documents):
        family = number % 2
        package = ("alpha", "beta")[family]
        verb = ("sees", "hears")[family]
        text = f"{package.title()} {verb} the {draw.integers(1000)}."
        module = f"{package}.m{draw.integers(20)}"
        metadata = {"kind": "docstring", "package": package, "module": module}
        rows.append((f"d{number:04d}", text, "env", f"family-{family}", json.dumps(metadata)))
    rows.append(("licence", "sees sees", "env", "licences", json.dumps({"kind": "licence"})))
    columns = ("id", "text", "source", "domain", "metadata")
    table = pa.table({name: [row[at] for row in rows] for at, name in enumerate(columns)})
    shards.write_table(f"{root}/corpus/data-0.arrow", table, "corpus")
    files.write_json(f"{root}/corpus/manifest.json", {"shards": ["data-0.arrow"], "fingerprint": "corpus"})


@pytest.fixture(scope="module")
def pretrained(packed_build: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    root = str(tmp_path_factory.mktemp("finetune") / "build")
    shutil.copytree(packed_build, root)
    write_corpus(root)
    pretrain(make_build(root, pretrain_section("mlm", steps=20)), "mlm")
    return root


def build_of(root: str, **changed) -> Build[BuildRecipe]:
    run = {
        **SETTINGS,
        "epochs": 4,
        "optimiser": {"learning_rate": 3e-3, "schedule": "cosine", "warmup": 0.05, "weight_decay": 0.1, "beta2": 0.95},
        **changed,
    }
    return make_build(root, pretrain_section("mlm", steps=20), finetune=[run])


def test_it_learns_the_task_and_reports_it_beside_its_baselines(pretrained: str) -> None:
    summary = finetune(build_of(pretrained), "family")
    assert summary["labels"] == ["family-0", "family-1"]
    assert summary["scores"]["model"]["accuracy"]["value"] > 0.9
    assert summary["scores"]["bag_of_words"]["accuracy"]["value"] > 0.9
    assert summary["scores"]["majority"]["accuracy"]["value"] < 0.7
    for row in summary["scores"].values():
        assert row["accuracy"]["low"] <= row["accuracy"]["value"] <= row["accuracy"]["high"]
    assert np.sum(summary["confusion"]) == summary["documents"]["test"]
    assert sum(b["rows"] for b in summary["confidence"]["reliability"]["after"]) == summary["documents"]["test"]
    assert 0 <= summary["confidence"]["conformal"]["coverage"]["value"] <= 1
    wrong = summary["documents"]["test"] - np.trace(summary["confusion"])
    assert len(summary["errors"]) == min(20, wrong)
    assert all(error["label"] != error["predicted"] for error in summary["errors"])
    forgotten = summary["strategies"][0]["forgetting"]  # on the held-out tokens of the base's run
    assert forgotten["kind"] == "masked tokens"
    assert 0 < forgotten["before"] != forgotten["after"]
    model = AutoModelForSequenceClassification.from_pretrained(f"{pretrained}/models/family")
    assert model.config.id2label == {0: "family-0", 1: "family-1"}
    assert finetune(build_of(pretrained), "family") == summary  # current: read, not made again


@pytest.mark.slow
def test_a_resumed_run_has_equal_weights(pretrained: str, tmp_path: Path) -> None:
    class Killed(BaseException):
        pass

    def stop(step: int, _steps: int, _metrics: dict) -> None:
        if step >= 110:
            raise Killed

    roots = [str(tmp_path / name) for name in ("whole", "stopped")]
    for root in roots:
        shutil.copytree(pretrained, root)
    builds = [build_of(root, epochs=8, batch_size=8, seed=7) for root in roots]
    finetune(builds[0], "family")
    with pytest.raises(Killed):
        finetune(builds[1], "family", stop)
    finetune(builds[1], "family")
    whole, resumed = (load_file(f"{root}/models/family/model.safetensors") for root in roots)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_the_cost_ladder_of_a_run_is_climbed_once_for_the_same_rows_and_base(
    pretrained: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = build_of(pretrained, cost_ladder_minutes=5, epochs=1)
    heard: list[int] = []
    said = build_ladder.climb(build, "family", lambda step, _steps, _metrics: heard.append(step))
    named = ["majority", "tf_idf", "fasttext", "frozen", "pairs", "lora", "full"]
    assert [rung["name"] for rung in said["rungs"]] == named
    assert heard == list(range(1, len(named) + 3))
    assert (said["recommended"]["name"] or said["recommended"]["best"]) in named
    assert files.read_json(f"{pretrained}/cost_ladders/family.json") == said
    monkeypatch.setattr(corpus, "load", None)
    assert build_ladder.climb(build, "family") == said  # current: no document is read
    with pytest.raises(TypeError):
        build_ladder.climb(build_of(pretrained, cost_ladder_minutes=5, epochs=2), "family")


def test_a_run_that_is_current_reads_no_document(pretrained: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = finetune(build_of(pretrained), "family")

    def reads(*_arguments: object) -> None:
        raise AssertionError("the corpus was read")

    monkeypatch.setattr(corpus, "load", reads)
    assert finetune(build_of(pretrained), "family") == made
    with pytest.raises(AssertionError, match="the corpus was read"):
        finetune(build_of(pretrained, dropout=0.2), "family")


def test_a_missing_base_names_the_command(packed_build: str) -> None:
    with pytest.raises(MillError, match="run `mill pretrain` first"):
        finetune(build_of(packed_build), "family")


def test_any_labelled_data_is_learned_at_the_defaults(pretrained: str, tmp_path: Path) -> None:
    root = str(shutil.copytree(pretrained, tmp_path / "build"))
    rows = [
        (f"d{number:03d}", f"{('water', 'stone')[number % 2]} number {number}", {"topic": ("wet", "hard")[number % 2]})
        for number in range(160)
    ]
    write_documents(root, rows)
    run = {"name": "topics", "base": "mlm", "label": "topic", "sequence_length": 32, "epochs": 1}
    summary = finetune(make_build(root, pretrain_section("mlm", steps=20), finetune=[run]), "topics")
    assert summary["labels"] == ["hard", "wet"]
    assert sum(summary["documents"].values()) == 160


def write_documents(root: str, rows: list[tuple[str, str, dict]]) -> None:
    columns = {
        "id": [id_ for id_, _, _ in rows],
        "text": [text for _, text, _ in rows],
        "source": ["env"] * len(rows),
        "domain": ["all"] * len(rows),
        "metadata": [json.dumps(metadata) for _, _, metadata in rows],
    }
    shards.write_table(f"{root}/corpus/data-0.arrow", pa.table(columns), "documents")
    files.write_json(f"{root}/corpus/manifest.json", {"shards": ["data-0.arrow"], "fingerprint": "documents"})


def test_the_folder_tells_what_the_classifier_is_and_truncates_to_its_positions(pretrained: str) -> None:
    summary = finetune(build_of(pretrained), "family")
    folder = f"{pretrained}/models/family"
    told = Path(folder, "README.md").read_text()
    assert "pipeline_tag: text-classification" in told
    assert "AutoModelForSequenceClassification.from_pretrained" in told
    score = summary["scores"]["model"]["accuracy"]
    assert f"| this model | {score['value']:.3f} ({score['low']:.3f} to {score['high']:.3f}) |" in told
    for part in (
        "fine-tuned from `mlm`",
        "predicts `domain`",
        "| bag of words |",
        "| 0 | family-0 |",
        "kind: docstring",
    ):
        assert part in told
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    inputs = tokenizer(["the cat sees the dog. " * 20, "it"], return_tensors="pt", truncation=True, padding=True)
    assert model(**inputs).logits.shape == (2, 2)
    assert inputs["input_ids"].shape == (2, 32)
    assert "token_type_ids" in inputs


def test_a_recipe_learns_of_labelled_files(pretrained: str, tmp_path: Path) -> None:
    path = tmp_path / "topics.jsonl"
    rows = [{"body": f"{('water', 'stone')[n % 2]} number {n}", "topic": ("wet", "hard")[n % 2]} for n in range(120)]
    path.write_text("\n".join(map(json.dumps, rows)))
    run = {"name": "files", "base": "mlm", "text": "body", "label": "topic", "sequence_length": 32, "epochs": 1}
    build = make_build(pretrained, pretrain_section("mlm", steps=20), finetune=[{**run, "data": {"train": str(path)}}])
    summary = finetune(build, "files")
    assert sum(summary["documents"].values()) == 120
    assert summary["audit"]["truncated"].keys() == {"train", "dev", "test"}
    assert summary["made_from"]["data"] == str(path)
    assert "corpus" not in summary["made_from"]
    assert finetune(build, "files") == summary
    path.write_text(path.read_text().replace("water number 4", "water number 1004"))
    assert finetune(build, "files")["fingerprint"] != summary["fingerprint"]  # never stale
