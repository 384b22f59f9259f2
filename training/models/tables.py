"""Gradients of small tables that are looked up, as a product.

Where sums have an order (``loop.hardware.sum_in_order``), CUDA adds up the gradients of an entry one after another: a
table of token types, with all tokens of a batch in one entry, takes longer than the layers above it. A matrix that says
which token has which entry, times the gradients, is the same sum at the speed of matrices.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LARGEST = 1024  # entries of a table; positions and types, but no vocabulary


class _Lookup(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, ids: Tensor, table: Tensor) -> Tensor:
        ctx.save_for_backward(ids)
        ctx.entries = len(table)
        return F.embedding(ids, table)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor]:  # type: ignore[override]
        (ids,) = ctx.saved_tensors
        entries = torch.arange(ctx.entries, device=ids.device)
        which = (entries[:, None] == ids.flatten()).to(gradient.dtype)
        with torch.autocast(ids.device.type, enabled=False):  # torch.compile traces backward under forward's autocast
            return None, which @ gradient.flatten(0, -2)


class _Table(nn.Embedding):
    def forward(self, ids: Tensor) -> Tensor:  # type: ignore[override]
        return _Lookup.apply(ids, self.weight)


def sum_by_products(model: nn.Module) -> None:
    """Let the tables of ``model`` with up to LARGEST entries take their gradients so; values are as before."""
    for part in model.modules():
        if type(part) is nn.Embedding and part.num_embeddings <= LARGEST and part.padding_idx is None:
            part.__class__ = _Table
