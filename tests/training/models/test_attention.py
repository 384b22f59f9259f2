"""The two ways to keep the documents of a pack apart give the same outputs."""

from __future__ import annotations

import pytest
import torch
from torch.nn.attention.flex_attention import BlockMask

from tests.training.conftest import SPECIAL, TINY, vocabulary
from training.models import architectures, attention

pytestmark = pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")


def segments(batch: int = 2, length: int = 48) -> torch.Tensor:
    cuts = torch.tensor([[5, 19, 20], [1, 30, 47]])[:batch]
    return (torch.arange(length)[None, :, None] >= cuts[:, None, :]).sum(-1)


def by_hand(query, key, value, seen, bias=None):
    scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
    scores = scores if bias is None else scores + bias
    return (scores.masked_fill(~seen, -torch.inf).softmax(-1) @ value).transpose(1, 2)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("blocks", [True, False])
@pytest.mark.parametrize("biased", [True, False])
def test_attention_is_softmax_over_the_own_document(causal: bool, blocks: bool, biased: bool) -> None:
    torch.manual_seed(0)
    parts = segments()
    query, key, value = (torch.randn(2, 3, 48, 16, requires_grad=not blocks) for _ in range(3))
    bias = torch.randn(1, 3, 48, 48, requires_grad=not blocks) if biased else None
    leaves = [query, key, value, *([] if bias is None else [bias])]
    seen = torch.tensor(
        [[[a == b and (not causal or i >= j) for j, b in enumerate(row)] for i, a in enumerate(row)] for row in parts]
    )[:, None]
    expected = by_hand(query, key, value, seen, bias)
    mask = attention.mask(parts, causal, blocks)
    assert isinstance(mask, BlockMask) == blocks
    found, _ = attention.attend(torch.nn.Module(), query, key, value, mask, scaling=0.25, position_bias=bias)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    if blocks:
        return  # flex attention has no gradient on a CPU
    weights = torch.randn_like(expected)
    wanted = torch.autograd.grad((expected * weights).sum(), leaves)
    for one, other in zip(torch.autograd.grad((found * weights).sum(), leaves), wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "shape"), [("causal", "gpt2"), ("causal", "llama"), ("masked", "bert")])
def test_a_model_gives_the_same_states_under_either_mask(
    kind: str, shape: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = architectures.create(kind, architectures.configuration(TINY[shape], vocabulary(SPECIAL), 48), seed=0)
    model.requires_grad_(False)
    parts = segments()
    tokens = torch.randint(0, 256, parts.shape, generator=torch.Generator().manual_seed(0))
    places = torch.arange(48).expand_as(parts)
    dense = architectures.hidden_states(model, tokens, parts, places, kind == "causal")
    make = attention.mask
    made: list[bool] = []

    def with_blocks(parts, causal, blocks):
        made.append(blocks)
        return make(parts, causal, True)

    monkeypatch.setattr(attention, "mask", with_blocks)
    found = architectures.hidden_states(model, tokens, parts, places, kind == "causal")
    assert made == [False]  # blocks are for the GPU
    traced = torch.compile(architectures.hidden_states, backend="eager", fullgraph=True, dynamic=False)
    torch.testing.assert_close(traced(model, tokens, parts, places, kind == "causal"), found)
    torch.testing.assert_close(found, dense, rtol=0, atol=1e-5)


def test_flex_attention_refuses_dropout_rather_than_leaving_it_out() -> None:
    same = torch.randn(2, 3, 48, 16)
    mask = attention.mask(segments(), causal=True, blocks=True)
    with pytest.raises(ValueError, match="blocks=False"):
        attention.attend(torch.nn.Module(), same, same, same, mask, dropout=0.1)
