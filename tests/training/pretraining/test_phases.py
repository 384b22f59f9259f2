"""Phases of a run: shorter sequences and other batches first, and the rest as if it had been so from the start."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from pipeline.store.packed_tokens import PackedTokens
from tests.training.conftest import END, make_build, pack, pretrain_section, sentences
from tests.training.loop.test_resume import run_until
from tests.training.objectives.conftest import task
from training import objectives
from training.batches.windows import NOTHING
from training.pretraining.lineage import of_model
from training.pretraining.phases import Phases
from training.pretraining.pretrain import pretrain

FIRST = [{"steps": 4, "sequence_length": 16, "batch_size": 6}, {"steps": 2, "batch_size": 4}]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> PackedTokens:
    return pack(str(tmp_path_factory.mktemp("documents")), sentences(100), END)


def phases(corpus: PackedTokens, **fields) -> Phases:
    own = task("causal", length=64, **{"first": FIRST, "steps": 9, "batch_size": 3, **fields})
    return Phases(objectives.load("causal"), own, corpus)


def test_each_step_reads_the_sequences_of_its_phase(corpus: PackedTokens) -> None:
    read = phases(corpus)
    shapes = [read.batch(step).arrays["labels"].shape for step in range(9)]
    assert shapes == [(6, 16)] * 4 + [(4, 64)] * 2 + [(3, 64)] * 3
    assert [read.length(step) for step in (0, 3, 4, 8)] == [16, 16, 64, 64]
    two = [read.part(5, rank, 2).arrays["labels"] for rank in (0, 1)]
    assert np.array_equal(np.concatenate(two), read.batch(5).arrays["labels"])


def test_a_phase_goes_on_where_the_one_before_stopped(corpus: PackedTokens) -> None:
    """In the corpus laid end to end no token is read twice, and less than a sequence is left out between phases."""
    read, plain = phases(corpus), phases(corpus, first=[])
    tokens, whole = (
        np.concatenate([which.windows(step).tokens[:, 1:].ravel() for step in range(steps)])
        for which, steps in ((read, 9), (plain, 12))
    )
    at = 4 * 6 * 16
    assert np.array_equal(tokens[:at], whole[:at])
    rest = tokens[at:]
    assert any(np.array_equal(rest, whole[at + left :][: len(rest)]) for left in range(64))


def test_the_run_is_as_long_as_asked(corpus: PackedTokens) -> None:
    before = 4 * 6 * 16 + 2 * 4 * 64
    assert phases(corpus).steps() == 9
    assert phases(corpus, steps=None, tokens=before + 5 * 3 * 64).steps() == 6 + 5
    assert phases(corpus, steps=None, tokens=before + 1).steps() == 6 + 1
    epochs = phases(corpus, steps=None, epochs=1.5)
    assert 1.5 <= epochs.epochs(epochs.steps()) < 1.5 + 3 / epochs.order.windows_per_epoch + 1e-9
    with pytest.raises(ValueError, match="read all that the run is to; give it more"):
        phases(corpus, steps=None, tokens=before).steps()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"steps": 6}, "the phases in `first` have 6 steps and the run 6; raise `steps`"),
        (
            {"first": [{"steps": 1, "sequence_length": 65}]},
            "65 tokens, and the model has positions for 64",
        ),
    ],
)
def test_phases_that_do_not_fit_are_refused(fields: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        task("causal", length=64, **{"first": FIRST, "steps": 9, **fields})
    assert "first" not in task("causal").config.of_weights()  # runs of before keep their fingerprints


def test_a_run_stopped_in_either_phase_ends_with_equal_bits_and_counts_its_tokens(
    packed_build: str, tmp_path: Path
) -> None:
    first = [{"steps": 5, "sequence_length": 16, "batch_size": 4}]
    section = pretrain_section("mlm", steps=9, first=first, log_every=1, checkpoint_every=2, packing="best_fit")
    ends, summaries = [], []
    for name, stops in (("whole", ()), ("stopped", (3, 8))):
        root = str(shutil.copytree(packed_build, tmp_path / name))
        for step in stops:
            run_until(make_build(root, section), "mlm", step)
        summaries.append(pretrain(make_build(root, section), "mlm"))
        ends.append(load_file(f"{root}/models/mlm/model.safetensors"))
    assert all(torch.equal(tensor, ends[1][name]) for name, tensor in ends[0].items())
    (tmp_path / "whole/recipe.json").write_text(make_build("", section).recipe.model_dump_json())
    lineage, _ = of_model(str(tmp_path / "whole/models/mlm"))
    read = sum(int((lineage.windows(step).segments != NOTHING).sum()) for step in range(1, 10))
    assert summaries[0]["trained_tokens"] == summaries[1]["trained_tokens"] == read
    assert lineage.windows(5).tokens.shape == (4, 16)
    assert lineage.documents(9)
