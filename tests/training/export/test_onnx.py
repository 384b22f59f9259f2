"""A fine-tuned model as ONNX: the same answers under onnxruntime alone, or a refusal with both figures."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from typer.testing import CliRunner

from flows.cli import app
from pipeline.store import files
from tests.helpers import foreign_models, published
from training.export import onnx as exporting
from training.export.check import Check, Examples, Limits, compare
from training.finetuning.finetune import run
from training.labelled.rows import Labelled
from training.prediction import model as models

GUIDE = Path(__file__).parents[3] / "docs" / "guide.md"
ANY = Limits(max_flips=1.0, allow_slower=True)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Labelled]:
    folder, rows, _ = published.publish(tmp_path_factory.mktemp("classifier"), "classify")
    return folder, rows


@pytest.fixture(scope="module")
def exported(classifier: tuple[str, Labelled], tmp_path_factory: pytest.TempPathFactory) -> str:
    folder, rows = classifier
    out = str(tmp_path_factory.mktemp("exported") / "model")
    exporting.export(models.open(folder), folder, out, Examples(rows.test, "test rows"), limits=ANY, threads=1)
    return out


def arrays(model: models.Model, batch: int, length: int) -> dict[str, np.ndarray]:
    """Ids of a batch whose rows have other lengths, the first one ``length``."""
    draw = np.random.default_rng(batch)
    lengths = np.maximum(1, length - 3 * np.arange(batch))
    mask = (np.arange(length) < lengths[:, None]).astype(np.int64)
    ids = np.where(mask == 1, draw.integers(5, model.model.config.vocab_size, (batch, length)), model.reader.pad)
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}


def check_outputs(folder: str, out: str) -> None:
    """The graph in ``out`` gives what the model in ``folder`` gives, for batches and lengths that were not traced."""
    model = models.open(folder)
    session = onnxruntime.InferenceSession(str(Path(out, "model.onnx")), providers=["CPUExecutionProvider"])
    given = {entry.name for entry in session.get_inputs()}
    wrapped = exporting.Outputs(model.model, model.task)
    assert [entry.name for entry in session.get_outputs()] == wrapped.made
    for batch, length in ((1, 3), (5, 31)):
        inputs = arrays(model, batch, length)
        seen = inputs["attention_mask"] == 1
        found: Any = session.run(None, {name: inputs[name] for name in given})
        for one, other in zip(found, wrapped.run(inputs), strict=True):
            sides = [part[seen] if part.shape[:2] == seen.shape else part for part in (one, other)]
            assert sides[0].shape == sides[1].shape
            np.testing.assert_allclose(sides[0], sides[1], atol=2e-5)


def test_the_graph_gives_torchs_logits_for_any_batch_and_length(classifier: tuple[str, Labelled], exported: str):
    check_outputs(classifier[0], exported)


@pytest.mark.slow
@pytest.mark.parametrize("task", ["tokens", "answers", "similarity"])
def test_other_tasks_export(task: str, tmp_path: Path):
    folder, rows, _ = published.publish(tmp_path, task, epochs=1)
    out = str(tmp_path / "out")
    said = exporting.export(models.open(folder), folder, out, Examples(rows.test, "test rows"), limits=ANY, threads=1)
    assert said["check"]["flipped"] == 0
    assert said["check"]["largest_difference"] < 1e-3
    check_outputs(folder, out)


def test_the_folder_says_what_it_is_and_was_checked_on(classifier: tuple[str, Labelled], exported: str):
    folder, rows = classifier
    said = files.read_json(str(Path(exported, "export.json")))
    assert (said["task"], said["precision"], said["opset"]) == ("classify", "fp32", 18)
    assert said["check"]["rows"] == len(rows.test)
    assert said["check"]["flipped"] == 0
    assert said["check"]["torch_per_second"] > 0
    assert said["check"]["exported_per_second"] > 0
    assert set(said["versions"]) == {"corpusmill", "torch", "onnx", "onnxscript", "onnxruntime"}
    for name in ("tokenizer.json", "config.json"):
        assert Path(exported, name).read_bytes() == Path(folder, name).read_bytes()
    files.check_folder(exported)


@pytest.mark.slow
def test_int8_is_smaller_and_takes_any_batch_and_length(
    classifier: tuple[str, Labelled], exported: str, tmp_path: Path
):
    folder, rows = classifier
    model, out = models.open(folder), str(tmp_path / "out")
    said = exporting.export(model, folder, out, Examples(rows.test, "test rows"), int8=True, limits=ANY, threads=1)
    assert said["precision"] == "int8"
    assert Path(out, "model.onnx").stat().st_size < Path(exported, "model.onnx").stat().st_size
    assert sum(node.op_type == "MatMulInteger" for node in onnx.load(Path(out, "model.onnx")).graph.node) >= 12
    assert 0 < said["check"]["largest_difference"] < 1
    session = onnxruntime.InferenceSession(str(Path(out, "model.onnx")), providers=["CPUExecutionProvider"])
    for batch, length in ((1, 3), (5, 31)):
        found: Any = session.run(None, arrays(model, batch, length))
        assert found[0].shape == (batch, 2)


def test_labels_that_flip_are_counted(classifier: tuple[str, Labelled], exported: str):
    folder, rows = classifier
    model = models.open(folder)
    examples, graph = Examples(rows.test, "test rows"), exporting.Session(Path(exported, "model.onnx"), 1)
    wrapped = exporting.Outputs(model.model, model.task)
    same = compare(wrapped, graph, model, examples, 1)
    assert (same.rows, same.decisions, same.flipped) == (len(rows.test), len(rows.test), 0)
    with torch.no_grad():
        for parameter in model.model.get_submodule("classifier").parameters():
            parameter.neg_()
    assert compare(wrapped, graph, model, examples, 1).flipped == 1


@pytest.mark.slow
def test_both_figures_are_told_and_nothing_is_written_where_it_is_refused(
    classifier: tuple[str, Labelled], tmp_path: Path
):
    folder, rows = classifier
    none = Limits(max_flips=-1.0, allow_slower=True)
    with pytest.raises(
        exporting.ExportRefused, match=r"more labels differ than --max-flips.*labels differ.*rows a second, torch"
    ):
        exporting.export(
            models.open(folder), folder, str(tmp_path / "out"), Examples(rows.test, "test rows"), limits=none, threads=1
        )
    assert list(tmp_path.iterdir()) == []


def test_what_is_slower_is_refused_unless_allowed():
    found = Check(
        rows=10, decisions=10, flipped=0.0, largest_difference=0.0, torch_per_second=2.0, exported_per_second=1.0
    )
    (fault,) = Limits(0.0).broken(found)
    assert "slower than torch" in fault
    assert Limits(0.0, allow_slower=True).broken(found) == []
    assert Limits(0.0).broken(replace(found, exported_per_second=2.0)) == []


def test_text_to_text_is_refused_with_the_reason(tmp_path: Path):
    folder, _, _ = published.publish(tmp_path, "text2text", epochs=1)
    with pytest.raises(exporting.CannotExport, match="token by token"):
        exporting.require(models.open(folder))


@pytest.fixture
def edu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """models/edu in the working directory, and reviews.csv beside it, of which its test rows are."""
    monkeypatch.chdir(tmp_path)
    rows = published.labelled("classify")
    for name, table in (("train", rows.train), ("dev", rows.dev), ("test", rows.test)):
        lines = [f"{row['text']},{row['label']}" for row in table.to_pylist()]
        Path(f"{name}.csv").write_text("\n".join(["text,label", *lines, ""]))
    Path("reviews.csv").write_text(Path("test.csv").read_text())
    base = foreign_models.bert(tmp_path / "base", rows.train["text"].to_pylist())
    data = {"train": "train.csv", "dev": "dev.csv", "test": "test.csv"}
    run(
        replace(
            foreign_models.job(tmp_path / "run", base, rows, epochs=2, data=data, allow_near_copies=True),
            result="models/edu",
        )
    )
    return tmp_path / "models"


@pytest.mark.slow
def test_the_commands_of_the_guide_run_and_say_no_more_than_their_result(edu: Path, capfd: pytest.CaptureFixture[str]):
    commands = re.findall(r"^    mill (export .*)$", GUIDE.read_text("utf-8"), re.MULTILINE)
    assert len(commands) == 2
    for command in commands:
        done = CliRunner().invoke(app, [*shlex.split(command), "--allow-slower", "--max-flips", "0.1"])
        assert done.exit_code == 0, done.output
        assert "rows a second, torch" in done.output
        assert "warn" not in "".join([done.output, *capfd.readouterr()]).lower()
    assert json.loads((edu / "edu-onnx" / "export.json").read_text())["check"]["rows_from"] == "test rows of train.csv"
    assert (
        json.loads((edu / "edu-onnx-int8" / "export.json").read_text())["check"]["rows_from"] == "rows of reviews.csv"
    )
    again = CliRunner().invoke(app, ["export", "models/edu", "--onnx", "--out", "base"])
    assert again.exit_code != 0
    assert "base is there and no export" in again.output
