from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.training.conftest import END, SPECIAL, TINY, pack, pretrain_section, sentences, vocabulary
from training.batches.batch import Batch
from training.batches.windows import IGNORE
from training.models import architectures
from training.objectives import causal
from training.objectives.base import Task
from training.recipe.sections import PretrainConfig


def task(architecture: str = "gpt2", length: int = 32) -> Task:
    section = pretrain_section(model=TINY[architecture], sequence_length=length)
    return Task(PretrainConfig.model_validate(section), vocabulary(END), seed=0)


def examples(folder: Path, texts: list[str], length: int = 32, whole: bool = False) -> Batch:
    found = task(length=length)
    order = causal.order(found, pack(str(folder), texts, END), seed=0)
    windows = order.head(10**6)[0] if whole else order.read(np.arange(order.windows_per_epoch))
    return causal.examples(found, windows)


def tensors(batch: Batch) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(array) for name, array in batch.arrays.items()}


def test_every_token_is_predicted_once_from_the_one_before(tmp_path: Path) -> None:
    texts = sentences(30)
    batch = examples(tmp_path, texts, whole=True)
    labels = batch.arrays["labels"].ravel()
    labels = labels[labels != IGNORE]
    documents = np.split(labels, np.flatnonzero(labels == 256) + 1)[:-1]
    assert sorted(bytes(d[:-1].tolist()).decode() for d in documents) == sorted(texts)
    inputs = batch.arrays["tokens"].ravel()[: len(labels)]
    np.testing.assert_array_equal(inputs[1:], labels[:-1])
    assert inputs[0] == 256  # the first document of all is begun like any other


def test_a_wide_window_scores_all_but_nothing_twice(tmp_path: Path) -> None:
    batch = examples(tmp_path, sentences(30), whole=True)
    assert batch.counts["causal"] == (batch.arrays["labels"] != IGNORE).sum() == batch.tokens


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_equal_to_transformers_own_loss(architecture: str) -> None:
    """One document a sequence, so that transformers' plain forward means the same."""
    model = causal.create(task(architecture))
    text = "the cat sees the dog and the dog sees the cat, all day."
    ids = torch.tensor([[256, *text.encode()[:31]]])
    expected = model(input_ids=ids, labels=ids).loss
    arrays = {
        "tokens": ids[:, :-1],
        "labels": ids[:, 1:],
        "segments": torch.zeros_like(ids[:, 1:]),
        "positions": torch.arange(31)[None],
    }
    torch.testing.assert_close(causal.loss(model, arrays)["causal"] / 31, expected)


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_a_document_does_not_see_the_others_in_its_pack(tmp_path: Path, architecture: str) -> None:
    model = causal.create(task(architecture, 128)).eval()
    second = "the bird hears the fish."
    logits = []
    for name, first in (("a", "the cat sees the dog."), ("b", "THE DOG SEES THE CAT!")):
        batch = examples(tmp_path / name, [first, second, second, second], 64, whole=True)
        arrays = tensors(batch)
        with torch.no_grad():
            hidden = architectures.hidden_states(model, arrays["tokens"], arrays["segments"], arrays["positions"], True)
        logits.append((arrays["tokens"], architectures.output_head(model)(hidden)))
    changed = (logits[0][0] != logits[1][0]).numpy()
    assert changed.any()
    segments = arrays["segments"].numpy()
    touched = {(row, segments[row, place]) for row, place in zip(*np.nonzero(changed), strict=True)}
    others = np.array([[(r, s) not in touched for s in row] for r, row in enumerate(segments)])
    assert others.sum() > 20
    torch.testing.assert_close(logits[0][1][others], logits[1][1][others], rtol=0, atol=1e-6)
    assert not torch.allclose(logits[0][1][~others], logits[1][1][~others])


def test_a_document_in_a_pack_has_the_logits_it_has_alone(tmp_path: Path) -> None:
    model = causal.create(task("gpt2", 64)).eval()
    batch = tensors(examples(tmp_path, ["the cat.", "the dog sees the fish.", "a", "birds"], 40))
    with torch.no_grad():
        hidden = architectures.hidden_states(model, batch["tokens"], batch["segments"], batch["positions"], True)
        for segment in batch["segments"][0].unique():
            piece = batch["segments"][0] == segment
            alone = model.base_model(batch["tokens"][0, piece][None]).last_hidden_state[0]
            torch.testing.assert_close(hidden[0, piece], alone, rtol=1e-4, atol=1e-5)


def test_a_tokenizer_without_a_begin_is_refused(tmp_path: Path) -> None:
    found = task()
    bare = Task(found.config, vocabulary({"pad": SPECIAL["pad"]}), 0)
    with pytest.raises(ValueError, match="bos or eos token"):
        causal.order(bare, pack(str(tmp_path), sentences(10), {}), seed=0)
