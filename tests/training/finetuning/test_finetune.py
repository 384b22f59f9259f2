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
from training.finetuning import tasks
from training.finetuning.finetune import Encoded, batch, finetune
from training.pretraining.pretrain import pretrain
from training.recipe.sections import BuildRecipe, FinetuneConfig

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
    run = {**SETTINGS, "epochs": 4, "optimiser": {"learning_rate": 3e-3}, **changed}
    return make_build(root, pretrain_section("mlm", steps=20), finetune=[run])


def config(**changed) -> FinetuneConfig:
    return FinetuneConfig.model_validate({**SETTINGS, **changed})


def test_it_learns_the_task_and_reports_it_beside_its_baselines(pretrained: str) -> None:
    summary = finetune(build_of(pretrained), "family")
    assert summary["labels"] == ["family-0", "family-1"]
    assert summary["scores"]["model"]["accuracy"]["value"] > 0.9
    assert summary["scores"]["bag_of_words"]["accuracy"]["value"] > 0.9
    assert summary["scores"]["majority"]["accuracy"]["value"] < 0.7
    for row in summary["scores"].values():
        assert row["accuracy"]["low"] <= row["accuracy"]["value"] <= row["accuracy"]["high"]
    assert np.sum(summary["confusion"]) == summary["documents"]["test"]
    model = AutoModelForSequenceClassification.from_pretrained(f"{pretrained}/models/family")
    assert model.config.id2label == {0: "family-0", 1: "family-1"}
    assert finetune(build_of(pretrained), "family") == summary  # current: read, not made again


def test_a_resumed_run_has_equal_weights(pretrained: str, tmp_path: Path) -> None:
    class Killed(BaseException):
        pass

    def stop(step: int, _steps: int, _metrics: dict) -> None:
        if step >= 110:
            raise Killed

    roots = [str(tmp_path / name) for name in ("whole", "stopped")]
    for root in roots:
        shutil.copytree(pretrained, root)
    builds = [build_of(root, epochs=6, batch_size=8, seed=7) for root in roots]
    finetune(builds[0], "family")
    with pytest.raises(Killed):
        finetune(builds[1], "family", stop)
    finetune(builds[1], "family")
    whole, resumed = (load_file(f"{root}/models/family/model.safetensors") for root in roots)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_no_group_is_on_both_sides_and_no_document_is_lost(pretrained: str) -> None:
    task = tasks.load(build_of(pretrained), config(), 0)
    assert set(task.train.groups).isdisjoint(task.test.groups)
    assert len(task.train) + len(task.test) == 200  # the licence is no docstring
    assert set(task.train.ids).isdisjoint(task.test.ids)


def test_the_packages_names_are_cut_from_every_text(pretrained: str) -> None:
    task = tasks.load(build_of(pretrained), config(), 0)
    text = " ".join(task.train.texts + task.test.texts).lower()
    assert "alpha" not in text
    assert "beta" not in text
    assert "sees" in text


def test_words_are_cut_whole_and_in_any_case() -> None:
    cut = tasks.cut_words("Torch, torch.nn and torchvision; PyTorch", frozenset({"torch"}))
    assert cut == ", .nn and torchvision; PyTorch"


def test_the_sample_does_not_depend_on_the_order_of_the_corpus(pretrained: str, tmp_path: Path) -> None:
    chosen = tasks.load(build_of(pretrained), config(documents=60), 0)
    assert len(chosen.train) + len(chosen.test) == 60
    root = str(tmp_path / "build")
    table = shards.read_table(f"{pretrained}/corpus/data-0.arrow")
    shards.write_table(f"{root}/corpus/data-0.arrow", table.take(list(range(len(table)))[::-1]), "corpus")
    files.write_json(f"{root}/corpus/manifest.json", {"shards": ["data-0.arrow"], "fingerprint": "corpus"})
    again = tasks.load(build_of(root), config(documents=60), 0)
    assert (again.train.ids, again.test.ids) == (chosen.train.ids, chosen.test.ids)


def test_too_few_labels_are_refused_with_the_counts(pretrained: str) -> None:
    with pytest.raises(tasks.TooFewDocuments, match=r"counts of 'domain': \{'family-0': 100, 'family-1': 100\}"):
        tasks.load(build_of(pretrained), config(smallest_class=150), 0)


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


@pytest.mark.parametrize(
    ("metadata", "changed", "message"),
    [
        ({"topic": "a"}, {"label": "topics"}, r"the field 'topics' that `label` names. Fields there .*topic \(in 9\)"),
        ({"topic": "a"}, {"group": "module"}, r"no document has the field 'module' that `group` names"),
        ({"topic": "a"}, {"hide": ["package"]}, r"no document has the field 'package' that `hide` names"),
        ({"topic": "a"}, {"only": {"kind": "docstring"}}, r"no document has the field 'kind' that `only` names"),
        ({"topic": "a", "kind": "b"}, {"only": {"kind": "c"}}, r"of 0 documents that `only` \(.*'c'.*\) leaves, none"),
        ({"topic": ["a"]}, {}, r"'topic' of document 'd0' is \[\"a\"\], and a label is one text"),
        ({"topic": {"of": 1}}, {}, r"is \{\"of\": 1\}, and a label is one text"),
        ({"topic": "a"}, {}, r"all 9 documents that take part have the label 'a' in 'topic'"),
    ],
)  # fmt: skip
def test_labels_that_cannot_be_learned_are_refused(tmp_path: Path, metadata: dict, changed: dict, message: str) -> None:
    root = str(tmp_path)
    write_documents(root, [(f"d{number}", "a text", metadata) for number in range(9)])
    wanted = FinetuneConfig.model_validate({"name": "x", "base": "mlm", "label": "topic", **changed})
    with pytest.raises(MillError, match=message):
        tasks.load(build_of(root), wanted, 0)


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


def test_batches_are_padded_as_the_model_pads() -> None:
    data = Encoded([np.array([5, 6, 7]), np.array([8])], ["abc", "d"], pad=259)
    found = batch(data, np.array([0, 1]), np.array([0, 1])).arrays
    assert found["tokens"].tolist() == [[5, 6, 7], [8, 259, 259]]
    assert found["mask"].tolist() == [[1, 1, 1], [1, 0, 0]]


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
