"""Small tables whose gradients are products."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from training.models import tables


@pytest.mark.parametrize("compiled", [False, True])
def test_the_gradient_of_a_small_table_is_that_of_looking_up(compiled: bool) -> None:
    torch.manual_seed(0)
    table = nn.Embedding(7, 16)
    plain = nn.Sequential(table, nn.Linear(16, 3))
    other = copy.deepcopy(plain)
    tables.sum_by_products(other)
    ids = torch.tensor([[0, 0, 0, 3, 6], [1, 0, 0, 3, 3]])
    run = torch.compile(other, backend="aot_eager", fullgraph=True) if compiled else other
    for call in (plain, run):
        call(ids).square().sum().backward()
    assert torch.equal(plain(ids), other(ids))
    expected, gradient = table.weight.grad, next(other.parameters()).grad
    assert expected is not None
    assert gradient is not None
    torch.testing.assert_close(gradient, expected)
    assert not gradient[[2, 4, 5]].any()


@pytest.mark.parametrize("compiled", [False, True])
def test_sums_of_many_tokens_are_as_exact_under_autocast(compiled: bool) -> None:
    torch.manual_seed(0)
    table = nn.Embedding(2, 16)
    other = copy.deepcopy(table)
    tables.sum_by_products(other)
    ids, factors = torch.arange(1000)[None] % 2, torch.randn(1, 1000, 16)
    run = torch.compile(other, backend="aot_eager", fullgraph=True) if compiled else other
    for call in (table, run):
        with torch.autocast("cpu", torch.bfloat16):
            outputs = call(ids)
        (outputs * factors).sum().backward()
    assert table.weight.grad is not None
    assert other.weight.grad is not None
    torch.testing.assert_close(other.weight.grad, table.weight.grad, rtol=1e-5, atol=1e-4)


def test_vocabularies_and_padded_tables_stay_as_they_are() -> None:
    model = nn.ModuleList([nn.Embedding(tables.LARGEST + 1, 4), nn.Embedding(8, 4, padding_idx=0), nn.Embedding(8, 4)])
    tables.sum_by_products(model)
    assert [type(part) is nn.Embedding for part in model] == [True, True, False]
