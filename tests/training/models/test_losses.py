from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from training.batches.windows import IGNORE
from training.models.losses import linear_cross_entropy


def leaves(bias: bool) -> list[torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    made = [torch.randn(shape, generator=draw) for shape in ((37, 8), (50, 8), (50,))]
    return [tensor.requires_grad_() for tensor in (made if bias else made[:2])]


def labels() -> torch.Tensor:
    drawn = torch.randint(0, 50, (37,), generator=torch.Generator().manual_seed(1))
    drawn[::5] = IGNORE
    return drawn


def plain(hidden, weight, wanted, bias=None):
    return F.cross_entropy(F.linear(hidden, weight, bias).float(), wanted, ignore_index=IGNORE, reduction="sum")


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("chunk", [1, 10, 37, 100])
def test_chunks_give_the_loss_and_the_gradients_of_the_whole(bias: bool, chunk: int) -> None:
    tensors = leaves(bias)
    hidden, weight = tensors[:2]
    offset = tensors[2] if bias else None
    expected = plain(hidden, weight, labels(), offset)
    found = linear_cross_entropy(hidden, weight, labels(), offset, chunk)
    torch.testing.assert_close(found, expected)
    wanted = torch.autograd.grad(expected / 7, tensors)
    for one, other in zip(torch.autograd.grad(found / 7, tensors), wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
    with torch.no_grad():
        torch.testing.assert_close(linear_cross_entropy(hidden, weight, labels(), offset, chunk), expected)


def test_under_autocast_the_products_are_bf16_and_the_softmax_float32() -> None:
    hidden, weight = leaves(False)
    with torch.autocast("cpu", torch.bfloat16):
        expected = plain(hidden, weight, labels())
        found = linear_cross_entropy(hidden, weight, labels(), chunk=10)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected)
    wanted = torch.autograd.grad(expected, (hidden, weight))
    for one, other in zip(torch.autograd.grad(found, (hidden, weight)), wanted, strict=True):
        assert one.dtype == torch.float32
        torch.testing.assert_close(one, other, rtol=0.02, atol=0.05)


def test_rows_without_a_label_alone_cost_nothing() -> None:
    hidden, weight = leaves(False)
    loss = linear_cross_entropy(hidden, weight, torch.full((37,), IGNORE), chunk=10)
    assert loss.item() == 0
    assert all(not gradient.any() for gradient in torch.autograd.grad(loss, (hidden, weight)))
