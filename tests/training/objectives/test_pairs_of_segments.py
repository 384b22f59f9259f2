"""BERT with next-sentence prediction and ALBERT with sentence order."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import binomtest, chisquare

from tests.training.conftest import SPECIAL
from training import masking, objectives
from training.order import IGNORE, NOTHING

from .conftest import losses, read, task, tensors

KINDS = {"mlm_nsp": "next_sentence_label", "mlm_sop": "sentence_order_label"}


@pytest.mark.parametrize("objective", KINDS)
def test_equal_to_transformers_own_loss(documents, objective: str) -> None:
    """BertForPreTraining and AlbertForPreTraining: the mean over masked tokens plus the mean over pairs."""
    found = task(objective)
    model = objectives.load(objective).create(found).eval()
    batch = read(found, documents["masked"], np.arange(8))
    arrays = tensors(batch.arrays)
    labels = torch.full(arrays["tokens"].shape, IGNORE)
    for row in range(8):
        there = arrays["labels"][row] != IGNORE
        labels[row, arrays["picked"][row, there]] = arrays["labels"][row, there]
    expected = model(
        input_ids=arrays["tokens"],
        attention_mask=(arrays["segments"] != NOTHING).long(),
        token_type_ids=arrays["types"],
        labels=labels,
        **{KINDS[objective]: arrays["pairs"]},
    ).loss
    sums = losses(model, objective, batch.arrays)
    assert sum(sums[name] / batch.counts[name] for name in sums) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("objective", KINDS)
def test_half_of_the_pairs_are_true(documents, objective: str) -> None:
    batch = read(task(objective), documents["masked"], np.arange(1200))
    counts = batch.arrays["pairs"].sum()
    if objective == "mlm_nsp":  # documents of one sentence have nothing that follows
        assert counts >= 500
    else:
        assert binomtest(int(counts), 1200).pvalue > 1e-3
    assert set(np.unique(batch.arrays["pairs"])) == {0, 1}


@pytest.mark.parametrize("objective", KINDS)
def test_special_tokens_and_padding_are_never_masked(documents, objective: str) -> None:
    batch = read(task(objective), documents["masked"], np.arange(200))
    assert not np.isin(batch.arrays["labels"], list(SPECIAL.values())).any()
    ordinary = ((batch.arrays["segments"] != NOTHING).sum(1) - 3) * 0.15
    picked = (batch.arrays["labels"] != IGNORE).sum(1)
    np.testing.assert_array_equal(picked, np.maximum(1, np.rint(ordinary)))


def test_runs_of_n_tokens_are_drawn_with_odds_of_one_over_n() -> None:
    """Runs that stand alone among 2000 tokens, by their lengths; neighbours are rare, cuts one a row."""
    counts = np.zeros(3)
    tokens, candidates = np.zeros((1, 2000), np.int64), np.ones((1, 2000), bool)
    for seed in range(40):
        drawn = np.random.default_rng(seed).random((1, 3, 2000))
        picked, labels = masking.pick_runs(tokens, candidates, drawn, 0.02, 3)
        assert (labels != IGNORE).sum() == 40
        places = np.sort(picked[0])
        assert len(np.unique(places)) == 40
        sizes = np.diff(np.flatnonzero(np.diff(places, prepend=-9, append=9999) != 1))
        counts += np.bincount(np.minimum(sizes, 3), minlength=4)[1:]
    odds = np.array([1, 1 / 2, 1 / 3])
    assert chisquare(counts, counts.sum() * odds / odds.sum()).pvalue > 1e-3


def test_runs_take_every_candidate_alike() -> None:
    counts = np.zeros(60)
    tokens, candidates = np.arange(60)[None], np.ones((1, 60), bool)
    candidates[0, ::6] = False
    for seed in range(4000):
        picked, labels = masking.pick_runs(tokens, candidates, np.random.default_rng(seed).random((1, 3, 60)), 0.15, 3)
        np.testing.assert_array_equal(picked[labels != IGNORE], labels[labels != IGNORE])
        np.add.at(counts, labels[labels != IGNORE], 1)
    assert (counts[::6] == 0).all()
    inner = counts[candidates[0]]
    assert inner.std() / inner.mean() < 0.1
