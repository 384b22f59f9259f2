"""What a model says of a text in chunks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter
from transformers import PreTrainedModel

from pipeline import MillError
from tests.training.finetuning.strategies.conftest import classifier
from training.finetuning.encoded import Encoded
from training.finetuning.long_text import pooling
from training.recipe.long_text import LongText

PAD = 259
POOLED = {
    **{name: {"kind": "chunks", "pooling": name} for name in ("max", "mean", "attention")},
    "hierarchical": {"kind": "hierarchical", "layers": 1},
}


def reading(base: str, name: str) -> PreTrainedModel:
    """A model that pools, whose own parameters are not where they begin."""
    model = classifier(base).eval()
    model.config.pad_token_id = PAD
    pooling.attach(model, TypeAdapter(LongText).validate_python(POOLED[name]), 0.0, seed=1)
    with torch.no_grad():
        for parameter in model.get_submodule(pooling.NAME).parameters():
            parameter.normal_(std=0.3)
    return model


def batch(*texts: list[int]) -> dict[str, torch.Tensor]:
    """Texts of windows of these lengths, of random tokens."""
    draw = np.random.default_rng(1)
    tokens = [np.concatenate([[256, *draw.integers(0, 250, n - 2), 257] for n in lengths]) for lengths in texts]
    windows = [np.array(lengths) for lengths in texts]
    data = Encoded(tokens, [np.zeros_like(t) for t in tokens], np.arange(len(texts)), {"windows": windows}, PAD)
    return {name: torch.from_numpy(array) for name, array in data.arrays(np.arange(len(texts))).items()}


@torch.no_grad()
def plain(model: Any, arrays: dict[str, torch.Tensor]) -> torch.Tensor:
    return model(input_ids=arrays["tokens"], attention_mask=arrays["mask"]).logits


@pytest.mark.parametrize("name", ["max", "mean", "attention"])
@pytest.mark.parametrize(
    "kind", ["bert", "roberta", "distilbert", "albert", "electra", "modernbert", "gpt2", "llama", "qwen3"]
)
def test_of_one_chunk_it_is_what_the_plain_model_says(bases_of: dict[str, str], kind: str, name: str) -> None:
    model, arrays = reading(bases_of[kind], name), batch([20], [9])
    with torch.no_grad():
        assert torch.allclose(pooling.logits(model, arrays), plain(model, arrays), atol=1e-5)


@pytest.mark.parametrize("name", POOLED)
def test_places_for_chunks_that_a_text_has_not_change_nothing(bases_of: dict[str, str], name: str) -> None:
    model = reading(bases_of["bert"], name)
    whole = batch([20, 20, 9], [12], [20] * 7)
    with torch.no_grad():
        found = pooling.logits(model, whole)
        for row, (tokens, windows) in enumerate(((49, 3), (12, 1), (140, 7))):
            alone = {n: a[row : row + 1, : windows if n == "windows" else tokens] for n, a in whole.items()}
            assert torch.allclose(pooling.logits(model, alone)[0], found[row], atol=1e-5)


@pytest.mark.parametrize("name", ["max", "mean"])
def test_it_is_the_head_on_the_mean_or_the_largest_of_the_chunks_states(bases_of: dict[str, str], name: str) -> None:
    model: Any = reading(bases_of["bert"], name)
    arrays = batch([20, 20, 9])
    parts = arrays["tokens"][0].split([20, 20, 9])
    with torch.no_grad():
        states = torch.stack([model.bert(part[None]).last_hidden_state[0, 0] for part in parts])
        one = states.amax(0) if name == "max" else states.mean(0)
        expected = model.classifier(model.bert.pooler(one[None, None]))
        assert torch.allclose(pooling.logits(model, arrays), expected, atol=1e-5)


def test_attention_is_at_first_the_mean_and_learns_weights(bases_of: dict[str, str]) -> None:
    model, arrays = reading(bases_of["bert"], "attention"), batch([20, 20, 9])
    attention: Any = model.get_submodule(pooling.NAME)
    with torch.no_grad():
        weighted = pooling.logits(model, arrays)
        attention.query.zero_()
        even = pooling.logits(model, arrays)
        assert torch.allclose(even, pooling.logits(reading(bases_of["bert"], "mean"), arrays), atol=1e-5)
    assert not torch.allclose(weighted, even, atol=1e-3)
    pooling.logits(model, arrays).square().sum().backward()
    assert attention.query.grad.abs().sum() > 0


def read_at_once(model: Any, run: Callable[[], Any]) -> list[int]:
    """Tokens in each forward pass of the base of ``model``."""
    seen: list[int] = []
    hook = model.base_model.register_forward_pre_hook(
        lambda _module, _inputs, named: seen.append(named["input_ids"].numel()), with_kwargs=True
    )
    run()
    hook.remove()
    return seen


def test_a_long_text_is_read_by_parts_with_the_same_loss_and_gradients(
    bases_of: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arrays = batch([20] * 30, [9], [20, 14])
    found = []
    for most in (100_000, 100):
        monkeypatch.setattr(pooling, "_AT_ONCE", most)
        model = reading(bases_of["bert"], "attention").train()

        def backward(model: Any = model) -> None:
            pooling.logits(model, arrays).square().sum().backward()

        seen = read_at_once(model, backward)
        assert max(seen) <= most
        assert (len(seen) > 1) == (most == 100)
        found.append([parameter.grad for parameter in model.parameters() if parameter.grad is not None])
    assert all(torch.allclose(one, other, atol=1e-4) for one, other in zip(*found, strict=True))


def test_the_tokens_that_are_read_at_once_have_a_bound_whatever_the_text(bases_of: dict[str, str]) -> None:
    model, arrays = reading(bases_of["bert"], "mean"), batch([40] * 400, [40] * 300)
    with torch.no_grad():
        seen = read_at_once(model, lambda: pooling.logits(model, arrays))
    assert max(seen) <= 8_192
    assert sum(seen) == 40 * 700


@pytest.mark.parametrize("kind", ["t5", "bart"])
def test_a_head_that_reads_more_than_one_state_is_refused(bases_of: dict[str, str], kind: str) -> None:
    with pytest.raises(MillError, match="does not read the state of one token"):
        reading(bases_of[kind], "mean")
