"""Muon for hidden matrices beside AdamW for the rest."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from training.loop import optimisers
from training.recipe.run import OptimiserConfig

MUON = OptimiserConfig(algorithm="muon", learning_rate=0.01, weight_decay=0.3)


def reference_step(weight: torch.Tensor, momentum: torch.Tensor, gradient: torch.Tensor) -> None:
    """Muon by the letter of Jordan's post and Liu 2025, in float64."""
    momentum.mul_(0.95).add_(gradient, alpha=0.05)
    update = gradient * 0.05 + momentum * 0.95
    x = update / update.norm()
    for _ in range(5):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    weight.mul_(1 - 0.01 * 0.3).sub_(0.01 * 0.2 * math.sqrt(max(weight.shape)) * x)


@pytest.mark.parametrize("shape", [(24, 24), (16, 40), (40, 16)])
def test_a_step_is_that_of_the_papers_and_moves_every_direction_alike(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    model = nn.Linear(shape[1], shape[0], bias=False)
    optimiser = optimisers.make(model, MUON)[0]
    weight, momentum = model.weight.detach().double(), torch.zeros(shape, dtype=torch.float64)
    for step in range(3):
        left, right = (torch.linalg.qr(torch.randn(side, side))[0] for side in shape)
        rank = min(shape)
        gradient = left[:, :rank] * torch.logspace(0, -1.3, rank) @ right[:rank]  # from 1 to 1 / 20
        model.weight.grad = gradient
        before = model.weight.detach().clone()
        reference_step(weight, momentum, gradient.double())
        optimiser.step()
        moved = before * (1 - 0.01 * 0.3) - model.weight.detach()
        if step == 0:
            values = torch.linalg.svdvals(moved) / (0.01 * 0.2 * math.sqrt(max(shape)))
            assert values.min() > 0.6
            assert values.max() < 1.3
        # as large as AdamW's, by Liu's account
        assert 0.15 < moved.square().mean().sqrt() / 0.01 < 0.25
    scale = 0.01 * 0.2 * math.sqrt(max(shape))
    torch.testing.assert_close(model.weight.detach().double(), weight, rtol=0, atol=3 * 0.03 * scale)  # bf16


def test_fingerprints_of_runs_with_adamw_know_nothing_of_muon() -> None:
    assert "algorithm" not in OptimiserConfig().model_dump()
    assert MUON.model_dump()["algorithm"] == "muon"
