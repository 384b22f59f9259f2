from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pytest

from pipeline import MillError
from pipeline.store import files
from training.finetuning import advice, cost_ladder, deadline
from training.finetuning.cost_ladder import Rung, Sets
from training.finetuning.rungs.base import Examples, Fit
from training.labelled.rows import Labelled


def rows(count: int, seed: int) -> Examples:
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, 2, count)
    texts = [f"{('cold', 'warm')[label]} {draw.integers(50)} {draw.integers(50)}" for label in labels.tolist()]
    return Examples(texts, labels, [str(row) for row in range(count)])


@pytest.fixture(scope="module")
def sets() -> Sets:
    return Sets(rows(400, 0), rows(200, 1), rows(300, 2), ["cold", "warm"])


@dataclass
class Knowing:
    """Right in a stated share of the rows, by their texts."""

    share: float

    def predict_proba(self, texts: list[str]) -> np.ndarray:
        right = np.random.default_rng(7).random(len(texts)) < self.share
        label = np.array([text.startswith("warm") for text in texts]) == right
        return np.stack([1 - label, label], 1) * 0.8 + 0.1

    def save(self, folder: str) -> None:
        files.write_json(files.join(folder, "share.json"), self.share)


def knowing(share: float) -> Fit:
    return lambda *_: Knowing(share)


def fixed(seconds: float) -> Callable[[Sets], float]:
    return lambda _: seconds


def test_the_table_holds_what_was_measured(sets: Sets) -> None:
    ladder = cost_ladder.climb(sets, cost_ladder.cheap_rungs(), minutes=5)
    assert [each.name for each in ladder.measured] == ["majority", "tf_idf", "fasttext"]
    for each in ladder.measured:
        right = (each.test.argmax(1) == sets.test.labels).mean()
        assert each.accuracy.value == pytest.approx(right)
        assert each.accuracy.low <= right <= each.accuracy.high
        assert each.bytes > 0
        assert each.documents_per_second > 0
    assert ladder.rung("majority").accuracy.high < 0.65
    assert ladder.rung("tf_idf").accuracy.value > 0.97
    assert cost_ladder.recommend(ladder, sets).name == "tf_idf"


def test_a_rung_that_does_not_fit_the_time_is_left_out_and_named(sets: Sets) -> None:
    rungs = [Rung("a", "cheap", knowing(0.7), fixed(1)), Rung("b", "dear", knowing(0.9), fixed(61))]
    ladder = cost_ladder.climb(sets, rungs, minutes=1)
    assert [each.name for each in ladder.measured] == ["a"]
    assert ladder.left_out.keys() == {"dear"}
    assert "needs about 61 s" in ladder.left_out["dear"]


def test_a_rung_for_which_no_time_is_left_is_not_said_to_have_been_stopped(sets: Sets) -> None:
    def slow(*_: object) -> Knowing:
        time.sleep(0.2)
        return Knowing(0.7)

    begun: list[str] = []
    rungs = [Rung("a", "slow", slow, fixed(0)), Rung("b", "next", knowing(0.9), fixed(0))]
    ladder = cost_ladder.climb(sets, rungs, minutes=0.1 / 60, say=begun.append)
    assert [each.name for each in ladder.measured] == ["a"]
    assert ladder.left_out == {"next": "the time was up before it"}
    assert begun == ["slow"]


def test_a_rung_that_takes_longer_than_estimated_is_stopped_and_named(sets: Sets) -> None:
    def endless(*_: object) -> Knowing:
        while True:
            deadline.check()

    rungs = [Rung("a", "cheap", knowing(0.7), fixed(0)), Rung("b", "endless", endless, fixed(0))]
    started = time.perf_counter()
    ladder = cost_ladder.climb(sets, [*rungs, Rung("c", "late", knowing(0.9), fixed(0))], minutes=0.02)
    assert time.perf_counter() - started < 10
    assert [each.name for each in ladder.measured] == ["a"]
    assert ladder.left_out["endless"].startswith("stopped after ")
    assert ladder.left_out["late"] == "the time was up before it"
    deadline.check()  # the time was up for the ladder alone


def test_the_cheapest_that_is_not_surely_worse_is_recommended(sets: Sets) -> None:
    rungs = [
        Rung("poor", "poor", knowing(0.6), fixed(0)),
        Rung("good", "good", knowing(0.895), fixed(0)),
        Rung("best", "best", knowing(0.9), fixed(0)),
    ]
    ladder = cost_ladder.climb(sets, rungs, minutes=1)
    found = cost_ladder.recommend(ladder, sets)
    assert (found.name, found.best) == ("good", "best")
    assert found.lead.low <= 0 < found.lead.value
    surely = cost_ladder.recommend(cost_ladder.climb(sets, [rungs[0], rungs[2]], minutes=1), sets)
    assert (surely.name, surely.lead.value) == ("best", 0)


@pytest.mark.parametrize(
    ("rows_to_choose_by", "right", "why"),
    [
        (10, 0.75, r"^10 development rows are too few .*: reader leads it by \d+\.\d points .*, about \d+ rows would"),
        (200, 0.5, r"^no model is more accurate on 200 development rows than the most frequent label; reader leads by"),
    ],
)
def test_where_no_model_is_surely_better_than_the_most_frequent_label_none_is_recommended(
    sets: Sets, rows_to_choose_by: int, right: float, why: str
) -> None:
    few = Sets(sets.train, rows(rows_to_choose_by, 1), sets.test, sets.labels)
    most = [Rung(cost_ladder.MAJORITY, "most frequent label", knowing(0.6), fixed(0))]
    ladder = cost_ladder.climb(few, [*most, Rung("a", "reader", knowing(right), fixed(0))], minutes=1)
    found = cost_ladder.recommend(ladder, few)
    assert (found.name, found.best) == (None, "a")
    assert found.lead.low <= 0
    assert re.search(why, advice.why(ladder, found, len(few.dev)))


def test_no_rung_at_all_is_said(sets: Sets) -> None:
    ladder = cost_ladder.climb(sets, [Rung("a", "dear", knowing(0.7), fixed(61))], minutes=1)
    with pytest.raises(MillError, match="--minutes"):
        cost_ladder.recommend(ladder, sets)


def test_only_classes_of_texts_have_a_ladder() -> None:
    empty = pa.table({"text": []})
    with pytest.raises(MillError, match="'tokens'"):
        cost_ladder.sets_of(Labelled("tokens", [], empty, empty, empty, "", {}))
