"""Cross-entropy of an output head without the logits of a whole batch in memory.

A head over 50,000 entries makes logits far larger than all hidden states together. They are made a few thousand rows at
a time, turned into the loss and into the gradients of the head and of the hidden states at once, and forgotten; the
arithmetic is that of ``cross_entropy(linear(hidden, weight, bias))``.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from training.batches.windows import IGNORE

CHUNK, CUDA_CHUNK = 4096, 16_384  # rows of logits at a time; a GPU multiplies large matrices faster


def linear_cross_entropy(
    hidden: Tensor, weight: Tensor, labels: Tensor, bias: Tensor | None = None, chunk: int | None = None
) -> Tensor:
    """Sum over rows of the cross-entropy in nats, of ``hidden`` [n, d] under a head ``weight`` [v, d], ``bias`` [v].

    ``labels`` int64 [n]; rows with IGNORE count nothing. Products are made in autocast's type where it is on, the
    softmax and the sum in float32.
    """
    device = hidden.device.type
    chunk = chunk or (CUDA_CHUNK if hidden.is_cuda else CHUNK)
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
    if len(hidden) <= chunk:  # nothing to save, so autograd does it with a copy of the gradients less
        logits = F.linear(hidden, weight, bias).float()
        return F.cross_entropy(logits, labels, ignore_index=IGNORE, reduction="sum")
    with torch.autocast(device, enabled=False):
        if not torch.is_grad_enabled():
            return _loss_and_gradients(hidden.to(dtype), weight.to(dtype), bias, labels, chunk, False)[0]
        return _LinearCrossEntropy.apply(hidden, weight, bias, labels, dtype, chunk)


def _loss_and_gradients(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor, chunk: int, backward: bool
) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
    """The loss and, if ``backward``, its gradients for hidden states (in their type), weight and bias (float32)."""
    total = torch.zeros((), device=hidden.device)
    d_hidden = torch.empty_like(hidden) if backward else None
    d_weight = d_bias = None
    for start in range(0, len(hidden), chunk):
        rows, wanted = hidden[start : start + chunk], labels[start : start + chunk]
        logits = F.linear(rows, weight, None if bias is None else bias.to(weight.dtype)).float()
        counted = (wanted != IGNORE)[:, None]
        label, level = torch.where(counted, wanted[:, None], 0), torch.logsumexp(logits, dim=-1, keepdim=True)
        total = total + torch.where(counted, level - logits.gather(1, label), 0.0).sum()
        if d_hidden is None:
            continue
        shares = logits.sub_(torch.where(counted, level, torch.inf)).exp_()  # 0 where nothing counts
        d_logits = _less_one(shares, label, counted).to(weight.dtype)
        d_hidden[start : start + chunk] = d_logits @ weight
        part = (d_logits.t() @ rows).float()
        d_weight = part if d_weight is None else d_weight.add_(part)
        if bias is not None:
            part = d_logits.float().sum(0)
            d_bias = part if d_bias is None else d_bias.add_(part)
    return total, d_hidden, d_weight, d_bias


def _less_one(shares: Tensor, label: Tensor, counted: Tensor) -> Tensor:
    """``shares`` [n, v] less 1 at the ``label`` [n, 1] of each row that is ``counted`` [n, 1]."""
    if shares.is_cuda:  # a comparison becomes part of the kernel around it, a scatter writes and reads all of them
        entries = torch.arange(shares.shape[1], device=shares.device)
        return torch.where((entries == label) & counted, shares - 1.0, shares)
    return shares.scatter_add_(1, label, torch.where(counted, -1.0, 0.0))


class _LinearCrossEntropy(torch.autograd.Function):
    """Its gradients are made on the way forward, because the logits are gone on the way back."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        labels: Tensor,
        dtype: torch.dtype,
        chunk: int,
    ) -> Tensor:
        loss, d_hidden, d_weight, d_bias = _loss_and_gradients(
            hidden.to(dtype), weight.to(dtype), bias, labels, chunk, True
        )
        ctx.save_for_backward(d_hidden, d_weight, d_bias)
        ctx.types = hidden.dtype, weight.dtype, None if bias is None else bias.dtype
        return loss

    @staticmethod
    def backward(ctx: Any, d_loss: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        scaled = [
            None if gradient is None else (gradient * d_loss).to(dtype)
            for gradient, dtype in zip(ctx.saved_tensors, ctx.types, strict=True)
        ]
        return (*scaled, None, None, None)
