"""BERT with next-sentence prediction and ALBERT with sentence order."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, chisquare

from tests.training.conftest import SPECIAL
from tests.training.objectives.conftest import losses, read, task, tensors
from training import objectives
from training.batches.windows import IGNORE, NOTHING
from training.objectives import masking

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
    sums, weights = losses(model, objective, batch.arrays), objectives.load(objective).weights(found)
    assert sum(weights[name] * sums[name] / batch.counts[name] for name in sums) == pytest.approx(
        float(expected), rel=1e-5
    )


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
        drawn = np.random.default_rng(seed).random((1, 4, 2000))
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
        picked, labels = masking.pick_runs(tokens, candidates, np.random.default_rng(seed).random((1, 4, 60)), 0.15, 3)
        np.testing.assert_array_equal(picked[labels != IGNORE], labels[labels != IGNORE])
        np.add.at(counts, labels[labels != IGNORE], 1)
    assert (counts[::6] == 0).all()
    inner = counts[candidates[0]]
    assert inner.std() / inner.mean() < 0.1


@given(st.integers(0, 10**6), st.integers(1, 80), st.floats(0.05, 0.5), st.floats(0, 0.9))
@settings(max_examples=60, deadline=None)
def test_words_are_masked_as_wholes(seed: int, length: int, share: float, continued: float) -> None:
    """Each word is masked or not; only one that is longer than all that may be masked is cut."""
    draw = np.random.default_rng(seed)
    continuing = draw.random(50) < continued
    tokens, candidates = draw.integers(0, 50, (1, length)), draw.random((1, length)) < 0.9
    picked, labels = masking.pick_runs(tokens, candidates, draw.random((1, 4, length)), share, 3, continuing)
    chosen = np.sort(picked[0, labels[0] != IGNORE])
    assert len(np.unique(chosen)) == len(chosen) <= masking.slots(length, share)
    assert (len(chosen) > 0) == candidates.any()
    assert candidates[0, chosen].all()
    masked = np.isin(np.arange(length), chosen)
    joined = continuing[tokens[0, 1:]] & candidates[0, 1:] & candidates[0, :-1]
    cut = np.flatnonzero(joined & (masked[1:] != masked[:-1]))
    assert len(cut) == 0 or (len(cut) == 1 and len(chosen) == masking.slots(length, share))


def test_whole_words_hold_the_share_but_for_a_twentieth_of_it() -> None:
    draw = np.random.default_rng(0)
    continuing, tokens = np.arange(50) >= 30, draw.integers(0, 50, (400, 512))
    candidates = np.ones_like(tokens, bool)
    _, labels = masking.pick_runs(tokens, candidates, draw.random((400, 4, 512)), 0.15, 3, continuing)
    assert 0.95 * 0.15 < (labels != IGNORE).sum() / tokens.size <= 0.15 * 513 / 512
