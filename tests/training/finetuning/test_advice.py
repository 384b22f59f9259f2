from __future__ import annotations

import json
import time

import numpy as np
import pyarrow as pa
import pytest

from training.finetuning import advice, cost_ladder
from training.finetuning.advice import Advice
from training.finetuning.confidence import label_audit
from training.finetuning.rungs import head
from training.labelled.rows import Labelled

TOPICS = {"sea": ("wave", "boat", "salt", "fish"), "sky": ("cloud", "wind", "bird", "star")}
WRONG = 4  # training rows whose label is that of the other topic


def table(rows: int, seed: int, name: str, wrong: int = 0) -> pa.Table:
    draw = np.random.default_rng(seed)
    labels = [("sea", "sky")[each] for each in draw.integers(0, 2, rows)]
    texts = [" ".join(draw.choice(TOPICS[label], 3)) + f" {draw.integers(30)}" for label in labels]
    given = ["sky" if label == "sea" else "sea" for label in labels[:wrong]] + labels[wrong:]
    ids = [f"{name}{row:03d}" for row in range(rows)]
    places = [f"{name}.csv:{row + 2}" for row in range(rows)]
    return pa.table({"id": ids, "group": ids, "place": places, "text": texts, "label": given})


@pytest.fixture(scope="module")
def advised() -> Advice:
    labelled = Labelled(
        "classify", ["sea", "sky"], table(200, 0, "train", WRONG), table(80, 1, "dev"), table(120, 2, "test"), "", {}
    )
    unlabelled = ["wave boat salt", "cloud wind bird", "wave cloud", "fish star", "boat boat salt"]
    return advice.advise(labelled, cost_ladder.cheap_rungs(), 5, unlabelled, 2)


def test_all_of_it_can_be_written_down(advised: Advice) -> None:
    said = advised.said
    assert json.loads(json.dumps(said)) == said
    assert [each["name"] for each in said["rungs"]] == ["majority", "tf_idf", "fasttext"]
    assert said["recommended"]["name"] == "tf_idf"
    assert "tf-idf + logistic regression is the" in said["recommended"]["why"]
    assert said["documents"] == {"train": 200, "dev": 80, "test": 120}


def test_wrong_labels_are_the_first_suspects(advised: Advice) -> None:
    found = advised.said["suspects"]
    assert {row["id"] for row in found["rows"][:WRONG]} == {f"train{row:03d}" for row in range(WRONG)}
    first = found["rows"][0]
    assert first["label"] != first["suggested"]
    assert first["place"].startswith("train.csv:")
    assert first["id"] not in {near["id"] for near in first["neighbours"]}
    assert [near["label"] for near in first["neighbours"]].count(first["suggested"]) >= 4
    assert 1 - 2 * WRONG / found["audited"] <= found["unseen_right"] < 1  # but for the wrong ones, nearly all


def test_the_curve_is_that_of_the_recommended_rung(advised: Advice) -> None:
    curve = advised.said["learning_curve"]
    assert curve["rung"] == "tf-idf + logistic regression"
    assert [point["labels"] for point in curve["points"]] == [16, 32, 64, 128, 200]
    assert curve["gain"]["low"] <= curve["gain"]["value"] <= curve["gain"]["high"]


def test_texts_between_the_classes_are_labelled_first(advised: Advice) -> None:
    assert set(advised.next_rows) == {2, 3}


@pytest.mark.parametrize(
    ("seconds_a_row", "climbed", "audited", "drawn"),
    [(0.02, True, True, True), (0.5, True, False, False), (0.7, False, False, False)],
)
def test_all_of_it_ends_within_the_minutes(
    monkeypatch: pytest.MonkeyPatch, seconds_a_row: float, climbed: bool, audited: bool, drawn: bool
) -> None:
    """By a clock that only the fits of heads move: nothing is begun that would end late."""
    now = [0.0]

    class Slow(head.LogisticRegression):
        def fit(self, features, labels):
            now[0] += seconds_a_row * len(labels)
            return super().fit(features, labels)

    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(head, "LogisticRegression", Slow)
    monkeypatch.setattr(label_audit, "LogisticRegression", Slow)
    labelled = Labelled(
        "classify", ["sea", "sky"], table(200, 0, "train"), table(80, 1, "dev"), table(120, 2, "test"), "", {}
    )
    said = advice.advise(labelled, cost_ladder.cheap_rungs()[:2], 10).said
    assert now[0] <= 600
    assert [rung["name"] for rung in said["rungs"]] == ["majority", "tf_idf"][: 1 + climbed]
    assert bool(said["suspects"] and "count" in said["suspects"]) == audited
    assert (said["learning_curve"]["rung"] is not None) == drawn


def test_a_rung_that_takes_long_has_no_curve_and_says_so() -> None:
    labelled = Labelled(
        "classify", ["sea", "sky"], table(60, 0, "train"), table(40, 1, "dev"), table(40, 2, "test"), "", {}
    )
    rungs = [rung for rung in cost_ladder.cheap_rungs() if rung.name == "majority"]
    said = advice.advise(labelled, rungs, 1).said
    assert said["learning_curve"]["rung"] is None
    assert said["suspects"] is None  # the most frequent label looks at no text
