"""The loss of token frequencies alone: the bar that a model that learns must come below."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.training.conftest import END, make_build, pack, pretrain_section, sentences
from training.pretraining import unigram_loss
from training.pretraining.pretrain import pretrain


def test_it_is_the_cross_entropy_of_smoothed_frequencies(tmp_path: Path) -> None:
    texts, others = sentences(20), sentences(6, seed=1)
    train, heldout = pack(str(tmp_path / "train"), texts, END), pack(str(tmp_path / "heldout"), others, END)
    rows = np.array([1, 4])
    seen = [token for text in texts for token in [*text.encode(), END["eos"]]]
    asked = [token for row in rows for token in [*others[row].encode(), END["eos"]]]
    expected = -sum(math.log((seen.count(token) + 1) / (len(seen) + 260)) for token in asked) / len(asked)
    assert unigram_loss.loss(train, heldout, rows, []) == pytest.approx(expected)


def test_what_a_masked_model_is_never_asked_for_does_not_count(tmp_path: Path) -> None:
    train = pack(str(tmp_path / "train"), sentences(20), END)
    heldout = pack(str(tmp_path / "heldout"), ["ab"], END)
    left = unigram_loss.loss(train, heldout, np.array([0]), [END["eos"]])
    total = len(train) - 20 + 259
    counts = [sum(text.encode().count(token) for text in sentences(20)) + 1 for token in b"ab"]
    assert left == pytest.approx(-sum(math.log(count / total) for count in counts) / 2)


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["causal", "mlm_nsp"])
def test_a_run_that_has_learned_nothing_is_warned_of_and_one_that_has_is_not(
    packed_build: str, tmp_path: Path, objective: str
) -> None:
    root = shutil.copytree(packed_build, tmp_path / "build")
    poor = pretrain(make_build(str(root), pretrain_section(objective, steps=2)), objective)
    (warning,) = poor["warnings"]
    assert f"token frequencies alone ({poor['unigram_loss']:.3f})" in warning
    good = pretrain(make_build(str(root), pretrain_section(objective, steps=250)), objective)
    assert good["warnings"] == []
    assert good["unigram_loss"] == poor["unigram_loss"]
    assert 2.0 < good["unigram_loss"] < math.log(260)  # letters of a small grammar
    assert "loss of token frequencies alone" in (tmp_path / "build/models" / objective / "README.md").read_text()


def test_objectives_that_do_not_predict_single_tokens_have_no_such_bar(packed_build: str, tmp_path: Path) -> None:
    root = shutil.copytree(packed_build, tmp_path / "build")
    summary = pretrain(make_build(str(root), pretrain_section("electra", steps=1)), "electra")
    assert summary["unigram_loss"] is None
    assert summary["warnings"] == []
