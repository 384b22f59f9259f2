"""The two ways to keep the documents of a pack apart give the same outputs."""

from __future__ import annotations

import pytest
import torch
from torch.nn.attention.flex_attention import BlockMask, create_block_mask

from tests.training.conftest import SPECIAL, TINY, vocabulary
from training.batches.windows import NOTHING
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


def cut(*lengths: int) -> list[int]:
    return [at for at, length in enumerate(lengths) for _ in range(length)]


#: Windows of 700 tokens: short and long documents, one that fills blocks, and padding.
WINDOWS = torch.tensor(
    [cut(100, 28, 400, 172), cut(256, 256, 188), cut(700), [*cut(90, 300), *[NOTHING] * 310], cut(*[7] * 100)]
)


@pytest.mark.parametrize(("causal", "reach"), [(True, None), (False, None), (False, 64), (False, 300), (True, 200)])
def test_blocks_are_those_that_a_look_at_every_pair_gives(causal: bool, reach: int | None) -> None:
    found = attention.mask(WINDOWS, causal, True, reach)
    seen = attention.mask(WINDOWS, causal, False, reach)
    assert isinstance(found, BlockMask)
    assert isinstance(seen, torch.Tensor)
    expected = create_block_mask(lambda b, _h, q, k: seen[b, 0, q, k], len(WINDOWS), None, 700, 700, device="cpu")
    assert expected.full_kv_num_blocks is not None
    assert found.full_kv_num_blocks is not None
    assert bool(expected.full_kv_num_blocks.any()) == (reach in (None, 300))
    for name in ("", "full_"):
        numbers, listed = (getattr(mask, f"{name}kv_num_blocks") for mask in (found, expected))
        assert torch.equal(numbers, listed)
        rows = [getattr(mask, f"{name}kv_indices") for mask in (found, expected)]
        used = torch.arange(rows[0].shape[-1]) < numbers[..., None]
        assert torch.equal(*(row.where(used, -1) for row in rows))
    assert found.seq_lengths == expected.seq_lengths
    # what flex attention's kernels read has to lie row by row, compiled or not
    for lists in (
        found,
        torch.compile(attention.mask, backend="aot_eager", fullgraph=True)(WINDOWS, causal, True, reach),
    ):
        named = [
            f"{full}{side}_{what}"
            for full in ("", "full_")
            for side in ("q", "kv")
            for what in ("num_blocks", "indices")
        ]
        assert all(getattr(lists, name).is_contiguous() for name in named)


@pytest.mark.parametrize("causal", [False, True])
def test_lists_of_blocks_are_one_operator_of_a_compiled_model(causal: bool) -> None:
    torch.library.opcheck(torch.ops.corpusmill.visible_blocks.default, (WINDOWS, WINDOWS, causal, None))


def test_a_decoder_sees_its_own_document_of_the_encoder_in_either_way() -> None:
    torch.manual_seed(0)
    keys, queries = segments(length=48), segments(length=48)[:, :40]
    keys = torch.where(keys == 1, NOTHING, keys)  # nothing answers the second document
    query, key, value = torch.randn(2, 3, 40, 16), torch.randn(2, 3, 48, 16), torch.randn(2, 3, 48, 16)
    found, expected = (
        attention.attend(torch.nn.Module(), query, key, value, attention.across(queries, keys, blocks), scaling=0.25)[0]
        for blocks in (True, False)
    )
    answered = queries != 1
    mask = attention.across(queries, keys, True)
    assert isinstance(mask, BlockMask)
    rows, places, sources = torch.arange(2)[:, None, None], torch.arange(40)[:, None], torch.arange(48)
    assert mask.mask_mod(rows, torch.tensor(0), places, sources).any(-1).all()  # each has a gradient
    torch.testing.assert_close(found[answered], expected[answered], rtol=0, atol=1e-5)
    assert found.isfinite().all()


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "shape"), [("causal", "gpt2"), ("causal", "qwen3"), ("masked", "modernbert")])
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

    def with_blocks(parts, causal, blocks, *reach):
        made.append(blocks)
        return make(parts, causal, True, *reach)

    monkeypatch.setattr(attention, "mask", with_blocks)
    found = architectures.hidden_states(model, tokens, parts, places, kind == "causal")
    assert set(made) == {False}  # blocks are for the GPU
    traced = torch.compile(architectures.hidden_states, backend="eager", fullgraph=True, dynamic=False)
    torch.testing.assert_close(traced(model, tokens, parts, places, kind == "causal"), found)
    torch.testing.assert_close(found, dense, rtol=0, atol=1e-5)


def test_flex_attention_refuses_dropout_rather_than_leaving_it_out() -> None:
    same = torch.randn(2, 3, 48, 16)
    mask = attention.mask(segments(), causal=True, blocks=True)
    with pytest.raises(ValueError, match="blocks=False"):
        attention.attend(torch.nn.Module(), same, same, same, mask, dropout=0.1)
