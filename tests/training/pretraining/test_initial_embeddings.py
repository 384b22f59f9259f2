from __future__ import annotations

import itertools
import math
import shutil
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch

from tests.training.conftest import SPECIAL, make_build, pack, pretrain_section, sentences, vocabulary
from training.models import architectures
from training.pretraining import initial_embeddings
from training.pretraining.pretrain import pretrain
from training.recipe.sections import PretrainConfig


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory):
    return pack(str(tmp_path_factory.mktemp("tokens")), sentences(200), SPECIAL)


def information(documents: list[list[int]], size: int) -> np.ndarray:
    """Positive pointwise mutual information by its definition, context shares to the power of 0.75."""
    counts = np.zeros((size, size))
    for tokens in documents:
        for at, token in enumerate(tokens):
            for back in range(1, min(5, at) + 1):
                counts[token, tokens[at - back]] += 1 / back
                counts[tokens[at - back], token] += 1 / back
    contexts = counts.sum(0) ** 0.75 / (counts.sum(0) ** 0.75).sum()
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.log(counts / counts.sum() / (counts.sum(1) / counts.sum())[:, None] / contexts)
    return np.where(counts > 0, np.maximum(found, 0), 0)


def test_the_vectors_are_the_truncated_svd_of_the_positive_information(packed) -> None:
    vectors = initial_embeddings.of_tokens(packed, 8, seed=0)
    starts = packed.starts
    documents = [packed.tokens(a, b).tolist() for a, b in itertools.pairwise(starts)]
    left, values, _ = np.linalg.svd(information(documents, packed.vocab_size))
    wanted = left[:, :8] * values[:8]
    gram = (vectors * np.sqrt(values[:8])) @ (vectors * np.sqrt(values[:8])).T  # signs of columns are free
    np.testing.assert_allclose(gram, wanted @ wanted.T, atol=1e-2 * np.abs(wanted).max() ** 2)


def test_tokens_without_company_keep_what_was_drawn(packed) -> None:
    config = PretrainConfig.model_validate(pretrain_section("mlm", steps=1))
    shape = architectures.configuration(config.shape, vocabulary(SPECIAL), 32)
    model = architectures.create("masked", shape, seed=0)
    table = cast(torch.nn.Embedding, model.get_input_embeddings()).weight.detach()
    before = table.clone()
    initial_embeddings.set_in(model, packed, seed=0)
    after = table
    alone = [*SPECIAL.values(), ord("#"), *range(packed.vocab_size, len(after))]
    assert torch.equal(before[alone], after[alone])
    assert not torch.equal(before[ord("e")], after[ord("e")])
    assert torch.isfinite(after).all()


def test_a_run_learns_sooner_from_them_and_a_run_made_before_stays_current(packed_build: str, tmp_path: Path) -> None:
    root = str(shutil.copytree(packed_build, tmp_path / "build"))
    drawn = pretrain_section("mlm", steps=30)
    placed = {**drawn, "initial_embeddings": "cooccurrence"}
    losses = [pretrain(make_build(root, section), "mlm")["evaluation"]["loss"] for section in (drawn, placed)]
    assert losses[1] < losses[0]
    assert math.isfinite(losses[1])
    config = PretrainConfig.model_validate(drawn)
    assert "initial_embeddings" not in config.of_result()
