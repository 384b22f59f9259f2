"""Whole runs on texts that are longer than a sequence: what is published, and what it says when it is opened again."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification

from tests.helpers import foreign_models
from tests.training.finetuning.strategies.conftest import STRATEGIES, job
from training.finetuning import bases
from training.finetuning.finetune import run
from training.finetuning.job import Job
from training.finetuning.tasks.classify import Classify
from training.prediction import model as predictions
from training.prediction import scorer
from training.prediction.rows import Row
from training.recipe.finetuning import FinetuneConfig

SHORT = 10  # bytes; the rows have 9 to 15
WAYS: dict[str, Any] = {
    **{name: name for name in ("tail", "head_tail")},
    **{name: {"kind": "chunks", "pooling": name} for name in ("max", "mean", "attention")},
    "hierarchical": {"kind": "hierarchical", "layers": 1},
}
POOLS = ("attention", "hierarchical")


def short(root: Path, base: str, how: str, strategy: Any = "full", **changed: Any) -> Job:
    return job(root, base, strategy, long_text=WAYS[how], sequence_length=SHORT, epochs=2, **changed)


def says(made: Job, summary: dict[str, Any]) -> None:
    """The published folder, opened again, has the score that the run came to."""
    rows = made.rows.test
    said: list[Any] = predictions.open(made.result).predict([Row(text) for text in rows["text"].to_pylist()])
    right = np.mean([entry.label == label for entry, label in zip(said, rows["label"].to_pylist(), strict=True)])
    assert right == pytest.approx(summary["scores"]["model"]["accuracy"]["value"])


@pytest.mark.parametrize("how", WAYS)
def test_a_published_model_says_how_it_reads_and_predicts_the_same(
    bases_of: dict[str, str], tmp_path: Path, how: str
) -> None:
    made = short(tmp_path, bases_of["bert"], how)
    summary = run(made)
    says(made, summary)
    texts = made.rows.test["text"].to_pylist()[:4]
    said: list[Any] = predictions.open(made.result).predict([Row(text) for text in texts])
    shares = [entry.scores["sees"] for entry in said]  # of texts in one batch, where the scorer has one each
    assert scorer.probabilities(texts, made.result, ["sees"]) == pytest.approx(shares, abs=1e-5)
    kept = json.loads(Path(made.result, "long_text.json").read_text())
    assert kept["long_text"]["kind"] == made.config.long_text.kind
    assert kept["sequence_length"] == SHORT
    assert Path(made.result, "long_text.safetensors").exists() == (how in POOLS)
    weights = load_file(Path(made.result, "model.safetensors"))
    assert not any(name.startswith("long_text") for name in weights)
    _, told = AutoModelForSequenceClassification.from_pretrained(made.result, output_loading_info=True)
    assert not any(told[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    card = Path(made.result, "README.md").read_text()
    assert "transformers alone, with `truncation=True, max_length=10`, reads the first 10 tokens" in card
    assert "2 epochs of sequences of 10 tokens" in card
    assert ("long_text.safetensors, which transformers does not open" in card) == (how in POOLS)


def test_a_model_that_reads_the_head_has_no_file_for_it(bases_of: dict[str, str], tmp_path: Path) -> None:
    made = job(tmp_path, bases_of["bert"], "full", sequence_length=SHORT, epochs=1)
    says(made, run(made))
    assert not Path(made.result, "long_text.json").exists()
    card = Path(made.result, "README.md").read_text()
    assert "1 epochs of texts cut to 10 tokens" in card
    assert "long_text" not in card


@pytest.mark.parametrize("strategy", ["features", "lora", "unmerged", "prefix", "prompt", "partial", "adapters"])
def test_it_goes_with_every_kind_of_strategy(bases_of: dict[str, str], tmp_path: Path, strategy: str) -> None:
    made = short(tmp_path, bases_of["bert"], "attention", STRATEGIES[strategy])
    says(made, run(made))


@pytest.mark.parametrize("how", POOLS)
def test_a_run_that_was_stopped_has_equal_weights(bases_of: dict[str, str], tmp_path: Path, how: str) -> None:
    class Stopped(BaseException):
        pass

    def stop(step: int, _steps: int, _metrics: dict) -> None:
        if step >= 6:
            raise Stopped

    one, other = (short(tmp_path / name, bases_of["bert"], how, dropout=0.1) for name in ("whole", "stopped"))
    run(one)
    with pytest.raises(Stopped):
        run(other, stop)
    run(other)
    for file in ("model.safetensors", "long_text.safetensors"):
        expected, found = (load_file(Path(folder.result, file)) for folder in (one, other))
        assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_what_chunks_leave_of_a_text_is_said(bases_of: dict[str, str], tmp_path: Path) -> None:
    made = job(
        tmp_path, bases_of["bert"], "full", long_text={"kind": "chunks", "most": 2}, sequence_length=SHORT, epochs=1
    )  # 10 bytes, and 2 x (10 // 4) more
    summary = run(made)
    sides = {"train": made.rows.train, "dev": made.rows.dev, "test": made.rows.test}
    longer = {side: [len(text) > 14 for text in rows["text"].to_pylist()] for side, rows in sides.items()}
    counts = {side: sum(found) for side, found in longer.items()}
    assert all(0 < count < len(longer[side]) for side, count in counts.items())
    assert summary["audit"]["truncated"] == {side: np.mean(found) for side, found in longer.items()}
    what = "texts that go on after chunk 2"
    assert summary["unread"] == {side: {what: count} for side, count in counts.items()}
    assert " | ".join(["| " + what, *map(str, counts.values())]) in Path(made.result, "README.md").read_text()


def far(draw: np.random.Generator) -> dict[str, Any]:
    """A text whose last word decides."""
    words = draw.choice(["cat", "dog", "bird"], 30).tolist()
    return {"text": " ".join([*words, word := str(draw.choice(["sees", "hears"]))]), "label": word, "labels": [word],
            "score": float(word == "sees")}  # fmt: skip


@pytest.mark.parametrize("task", ["multi_label", "regression"])
def test_other_tasks_of_one_text_read_long_ones_too(tmp_path: Path, task: str) -> None:
    draw = np.random.default_rng(0)
    train, dev, test = ([far(draw) for _ in range(count)] for count in (96, 24, 24))
    base = foreign_models.bert(tmp_path, [row["text"] for row in train])
    labels = ["hears", "sees"] if task == "multi_label" else []
    given = foreign_models.rows(task, labels, train, dev, test)
    summary = run(foreign_models.job(tmp_path, base, given, sequence_length=8, long_text="tail", epochs=10))
    assert next(iter(summary["scores"]["model"].values()))["value"] > 0.5  # of the head it is chance
    folder = str(tmp_path / "model")
    said: Any = predictions.open(folder).predict([Row(train[0]["text"])])[0]
    assert (set(said.scores) == set(labels)) if labels else math.isfinite(said.score)
    chunked = foreign_models.job(
        tmp_path / "chunks", base, given, sequence_length=8, long_text=WAYS["attention"], epochs=1
    )
    run(chunked)
    said = predictions.open(chunked.result).predict([Row(test[0]["text"])])[0]
    assert all(map(math.isfinite, said.scores.values() if labels else [said.score]))


def test_a_text_of_a_hundred_thousand_tokens_is_read_in_bounded_memory(
    bases_of: dict[str, str], tmp_path: Path
) -> None:
    made = job(tmp_path, bases_of["bert"], "full", long_text="chunks", sequence_length=64)
    task = Classify(made.config, made.rows)
    reader = bases.reader(bases_of["bert"], bases_of["bert"], 64)
    data = task.encode(reader, made.rows.test.slice(0, 1).set_column(3, "text", [["it sees " * 12_500]]))
    assert data.lengths.tolist() == [64 * FinetuneConfig.model_validate(made.config).long_text.most]  # type: ignore
    assert data.unread == {"texts that go on after chunk 32": 1}
