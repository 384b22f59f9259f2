"""Parameters that learn at parts of the rate."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import nn

from training.batches.batch import Batch
from training.loop import loop
from training.recipe.run import OptimiserConfig


def test_a_group_moves_by_its_part_of_the_rate_and_not_at_all_while_it_is_frozen(tmp_path: Path) -> None:
    """Without decay, AdamW's first step is the rate itself, whatever the gradient's size."""
    layers = [nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False), nn.Linear(2, 1, bias=False)]
    model = nn.Sequential(*layers)
    before = [layer.weight.detach().clone() for layer in layers]
    frozen: list[bool] = []

    def loss(module: nn.Module, arrays: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        frozen.append(not layers[0].weight.requires_grad)
        return {"loss": module(arrays["x"]).square().sum()}

    work = loop.Work(
        batch=lambda _step: Batch({"x": np.ones((1, 2), np.float32)}, {"loss": 1}, 1),
        loss=loss,
        weights={"loss": 1.0},
        evaluate=lambda _measure: {"loss": 0.0},
        documents=lambda _step: [],
        flops_per_token=1,
        rates=loop.Rates(lambda name: int(name[0]), lambda group, step: (0.0 if step < 1 else 1.0, 0.5, 1.0)[group]),
    )
    optimiser = OptimiserConfig(learning_rate=1e-3, schedule="constant", warmup=0, weight_decay=0)
    plan = loop.Plan(str(tmp_path), "rates", 1, 0, 1, optimiser, "fp32")
    loop.train(model, work, plan)
    moved = [(layer.weight - was).abs() for layer, was in zip(layers, before, strict=True)]
    assert frozen == [True]
    assert torch.equal(moved[0], torch.zeros(2, 2))
    assert torch.allclose(moved[1], torch.full((2, 2), 0.5e-3), rtol=1e-2)
    assert torch.allclose(moved[2], torch.full((1, 2), 1e-3), rtol=1e-2)
