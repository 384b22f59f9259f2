"""Tasks of whole texts: one label, any number of labels, a number."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.metrics import f1_score
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer, pipeline

from tests.helpers.foreign_models import job, rows
from tests.training.conftest import NAMES, VERBS
from training.finetuning import bases
from training.finetuning.finetune import run
from training.finetuning.forward import inputs
from training.finetuning.tasks import task_of
from training.finetuning.tasks.multi_label import MultiLabel


def sentence(draw: np.random.Generator) -> tuple[str, str, str]:
    first, second = NAMES[draw.integers(4)], NAMES[draw.integers(4)]
    return f"the {first} {VERBS[draw.integers(4)]} the {second}.", first, second


def made(count: int, seed: int, row) -> list[dict]:
    draw = np.random.default_rng(seed)
    return [row(draw) for _ in range(count)]


def entailed(draw: np.random.Generator) -> dict:
    text, first, second = sentence(draw)
    named = draw.random() < 0.5
    name = first if named else next(name for name in NAMES if name not in (first, second))
    return {"text": text, "pair": f"a {name}", "label": "yes" if named else "no"}


def of_pairs():
    return rows("classify", ["no", "yes"], made(64, 0, entailed), made(16, 1, entailed), made(16, 2, entailed))


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_the_second_text_of_a_pair_has_a_token_type_of_its_own_where_the_model_knows_types(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    base = request.getfixturevalue(kind)
    pair = of_pairs()
    task = task_of(job(tmp_path, base, pair).config, pair)
    found = task.encode(bases.reader(base, base, 32), pair.train)
    model = bases.load(task.auto, base, task.fields(), 0.0, 0)
    given = inputs(model, {name: torch.from_numpy(array) for name, array in found.arrays(np.array([0])).items()})
    row = pair.train.to_pylist()[0]
    expected = AutoTokenizer.from_pretrained(base)(row["text"], row["pair"], return_token_type_ids=True)
    assert given["input_ids"][0].tolist() == expected["input_ids"]
    if kind == "roberta":
        assert "token_type_ids" not in given
        return
    assert given["token_type_ids"][0].tolist() == expected["token_type_ids"]
    assert set(expected["token_type_ids"]) == {0, 1}


def test_transformers_reads_pairs_of_the_published_model_as_they_were_trained_on(bert: str, tmp_path: Path) -> None:
    pair = of_pairs()
    summary = run(job(tmp_path, bert, pair, epochs=2))
    folder = str(tmp_path / "model")
    classifier: Any = pipeline("text-classification", model=folder)
    given = [{"text": row["text"], "text_pair": row["pair"]} for row in pair.test.to_pylist()]
    found = np.array([answer["label"] for answer in classifier(given)])
    assert (found == np.array(pair.test["label"].to_pylist())).mean() == summary["scores"]["model"]["accuracy"]["value"]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.model_max_length == 64
    assert "token_type_ids" in tokenizer("a", "b")
    assert AutoConfig.from_pretrained(folder).id2label == {0: "no", 1: "yes"}


def named(draw: np.random.Generator) -> dict:
    text, first, second = sentence(draw)
    return {"text": text, "labels": sorted({first, second} - {"fish"})}


def test_several_labels_are_learned_and_scored_as_scikit_learn_scores_them(bert: str, tmp_path: Path) -> None:
    labels: list[str] = sorted(set(NAMES) - {"fish"})
    given = rows("multi_label", labels, made(200, 0, named), made(40, 1, named), made(60, 2, named))
    start = job(tmp_path, bert, given, epochs=8)
    summary = run(start)
    scores = {name: {of: found["value"] for of, found in row.items()} for name, row in summary["scores"].items()}
    assert scores["model"]["micro_f1"] > scores["majority"]["micro_f1"] + 0.2
    classifier: Any = pipeline("text-classification", model=str(tmp_path / "model"), top_k=None)
    marks = MultiLabel(start.config, given).marks(given.test)
    found = [
        {entry["label"]: entry["score"] for entry in answer} for answer in classifier(given.test["text"].to_pylist())
    ]
    chosen = summary["chosen"]["thresholds"]
    predicted = np.array([[row[label] >= chosen[label] for label in labels] for row in found])
    assert scores["model"]["micro_f1"] == pytest.approx(f1_score(marks, predicted, average="micro"))
    assert scores["model"]["macro_f1"] == pytest.approx(f1_score(marks, predicted, average="macro"))
    assert scores["model"]["exact_match"] == pytest.approx((marks == predicted).all(1).mean())
    assert "|  | Micro F1 | Macro F1 | Exact match |" in (tmp_path / "model" / "README.md").read_text()


def rated(draw: np.random.Generator) -> dict:
    text, first, _ = sentence(draw)
    return {"text": text, "score": 1_000.0 + 50 * NAMES.index(first) + draw.normal()}


@pytest.mark.slow
def test_numbers_of_any_scale_are_learned_and_the_published_model_gives_them(bert: str, tmp_path: Path) -> None:
    given = rows("regression", [], made(200, 0, rated), made(40, 1, rated), made(60, 2, rated))
    summary = run(job(tmp_path, bert, given, epochs=8, label="price"))
    scores = summary["scores"]["model"]
    true = given.test["score"].to_pylist()
    folder = str(tmp_path / "model")
    scorer: Any = pipeline("text-classification", model=folder, function_to_apply="none")
    answers = scorer(given.test["text"].to_pylist())
    found = [answer["score"] for answer in answers]
    assert {answer["label"] for answer in answers} == {"price"}
    assert scores["spearman"]["value"] == pytest.approx(stats.spearmanr(found, true)[0], abs=1e-3)
    assert scores["pearson"]["value"] == pytest.approx(stats.pearsonr(found, true)[0], abs=1e-4)
    assert scores["mae"]["value"] == pytest.approx(np.abs(np.array(found) - true).mean(), rel=1e-2)
    assert scores["spearman"]["value"] > 0.8
    assert scores["mae"]["value"] < summary["scores"]["mean"]["mae"]["value"] / 2
    config = AutoModelForSequenceClassification.from_pretrained(folder).config
    assert (config.problem_type, config.num_labels, config.id2label) == ("regression", 1, {0: "price"})
