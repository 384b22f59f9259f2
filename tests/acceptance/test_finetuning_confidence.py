"""Real labelled sets: confidence that is true, label errors that are found, and the cheapest model that will do."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from training.finetuning import cost_ladder
from training.finetuning.confidence import assess, conformal, label_audit, temperature
from training.finetuning.cost_ladder import Sets
from training.finetuning.rungs import classical
from training.finetuning.rungs.base import Examples, logits

Rows = list[tuple[str, str]]


def ag_news(shared: Path) -> Rows:
    with gzip.open(shared / "finetune" / "ag_news_test.csv.gz", "rt", encoding="utf-8") as handle:
        return [(f"{title} {text}", label) for label, title, text in csv.reader(handle)]


def sst2(shared: Path) -> Rows:
    text = gzip.decompress((shared / "finetune" / "sst2" / "train.tsv.gz").read_bytes()).decode()
    rows = csv.reader(io.StringIO(text), delimiter="\t", quoting=csv.QUOTE_NONE)
    next(rows)
    return [(sentence, label) for sentence, label in rows]


def movie_reviews(shared: Path) -> Rows:
    with gzip.open(shared / "finetune" / "movie_reviews.jsonl.gz") as handle:
        return [(row["text"], row["label"]) for row in map(json.loads, handle)]


def cola(shared: Path) -> Rows:
    with gzip.open(shared / "finetune" / "cola" / "in_domain_train.tsv.gz", "rt", encoding="utf-8") as handle:
        return [(row[3], row[1]) for row in (line.rstrip("\n").split("\t") for line in handle)]


def split(rows: Rows, train: int, dev: int, test: int, seed: int = 0) -> Sets:
    """A random part of ``rows`` in three."""
    labels = sorted({label for _, label in rows})
    order = np.random.default_rng(seed).permutation(len(rows))[: train + dev + test]
    texts = [rows[row][0] for row in order]
    numbers = np.array([labels.index(rows[row][1]) for row in order])
    whole = Examples(texts, numbers, [str(row) for row in order])
    ends = np.split(np.arange(len(order)), [train, train + dev])
    return Sets(*(whole.take(part) for part in ends), labels=labels)


@pytest.fixture(scope="module")
def news(shared: Path) -> tuple[Sets, classical.TfIdf]:
    sets = split(ag_news(shared), 3_000, 1_600, 3_000)
    return sets, classical.tf_idf(sets.train, sets.dev, sets.classes)


def assessed(sets: Sets, fitted: classical.TfIdf) -> dict:
    dev, test = (logits(fitted.predict_proba(side.texts)) for side in (sets.dev, sets.test))
    return assess.assess(dev, sets.dev.labels, test, sets.test.labels, sets.test.groups)


def test_the_calibration_error_of_ag_news_is_small(news: tuple[Sets, classical.TfIdf]) -> None:
    found = assessed(*news)["ece"]
    assert found["after"] < 0.03
    assert found["after"] < 2 * found["by_chance"]


def test_the_calibration_error_of_sst2_is_small(shared: Path) -> None:
    sets = split(sst2(shared), 5_000, 1_500, 4_000)
    found = assessed(sets, classical.tf_idf(sets.train, sets.dev, 2))["ece"]
    assert found["after"] < 0.03


@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.2])
def test_conformal_sets_hold_the_label_as_often_as_they_say(news: tuple[Sets, classical.TfIdf], alpha: float) -> None:
    """Over 200 splits of the rows that the model never saw, coverage is within a point of 1 - alpha."""
    sets, fitted = news
    shares = temperature.probabilities(logits(fitted.predict_proba(sets.test.texts)), 1.0)
    draw, coverage = np.random.default_rng(0), []
    for _ in range(200):
        held, asked = np.split(draw.permutation(len(sets.test)), 2)
        q = conformal.quantile(shares[held], sets.test.labels[held], alpha)
        coverage.append(conformal.covered(conformal.sets(shares[asked], q), sets.test.labels[asked]).mean())
    assert abs(np.mean(coverage) - (1 - alpha)) < 0.01


def test_injected_label_errors_are_found(shared: Path) -> None:
    """Of 5 % wrong labels at least 60 % are in a list of suspects of which at least half are right."""
    rows = ag_news(shared)
    sets = split(rows, 3_800, 950, 0)
    texts = sets.train.texts + sets.dev.texts
    true = np.concatenate([sets.train.labels, sets.dev.labels])
    draw = np.random.default_rng(1)
    wrong = draw.choice(len(true), len(true) // 20, replace=False)
    given = true.copy()
    given[wrong] = (true[wrong] + draw.integers(1, 4, len(wrong))) % 4
    train = Examples(texts[:3_800], given[:3_800], sets.train.groups)
    fitted = classical.tf_idf(train, Examples(texts[3_800:], given[3_800:], sets.dev.groups), 4)
    groups = sets.train.groups + sets.dev.groups
    shares = label_audit.out_of_fold(fitted.features(texts), given, groups, fitted.head.strength)
    hits = np.isin(label_audit.audit(shares, given).rows, wrong)
    precision = hits.cumsum() / np.arange(1, len(hits) + 1)
    found = hits.cumsum()[precision >= 0.5].max() / len(wrong)
    assert found >= 0.6


@pytest.mark.parametrize(
    ("read", "sizes"),
    [
        (ag_news, (1_500, 500, 1_000)),
        (sst2, (1_500, 500, 1_000)),
        (movie_reviews, (700, 300, 600)),
        (cola, (1_500, 500, 1_000)),
    ],
)
def test_the_recommended_rung_is_within_an_interval_of_the_best(
    shared: Path, read: Callable[[Path], Rows], sizes: tuple[int, int, int]
) -> None:
    sets = split(read(shared), *sizes)
    ladder = cost_ladder.climb(sets, cost_ladder.cheap_rungs(), minutes=5)
    assert not ladder.left_out
    chosen = ladder.rung(cost_ladder.recommend(ladder, sets).name or cost_ladder.MAJORITY)
    best = max(ladder.measured, key=lambda each: each.accuracy.value)
    assert chosen.accuracy.value >= best.accuracy.low
