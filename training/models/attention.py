"""Attention within the documents of a pack, and not across them.

``mask`` says who sees whom, ``attend`` computes it for every model of transformers' (as the attention called "packed").
On a GPU the mask is a flex-attention BlockMask (Dong et al. 2024, "Flex Attention"): blocks of 128 x 128 that lie in no
document are skipped, and attention makes no length x length matrix, T5's position bias apart. It is a boolean matrix
for scaled_dot_product_attention on a CPU, from a decoder to its encoder, and for attention with dropout, which flex
attention lacks.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "packed"


def mask(segments: Tensor, causal: bool, blocks: bool) -> Tensor | BlockMask:
    """Who sees whom, for ``segments`` int64 [batch, length]: equal segments, and no later positions if ``causal``.

    A BlockMask if ``blocks``, else boolean [batch, 1, length, length]: true where a query (third axis) may see a key
    (last axis).
    """
    if blocks:
        return block_mask(segments, causal)
    seen = segments[:, None, :, None] == segments[:, None, None, :]
    return seen.tril() if causal else seen


def block_mask(segments: Tensor, causal: bool) -> BlockMask:
    """The BlockMask of ``segments`` int64 [batch, length], on their device."""

    def sees(row: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        same = segments[row, query] == segments[row, key]
        return same & (query >= key) if causal else same

    batch, length = segments.shape
    made = create_block_mask(sees, batch, None, length, length, device=segments.device)
    made.ndim = 4  # type: ignore[attr-defined]  # GPT-2 asks every mask for it
    return made


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | BlockMask | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    position_bias: Tensor | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Outputs [batch, length, heads, width] of ``query``, ``key``, ``value`` [batch, heads, length, width].

    ``position_bias`` [1, heads, length, length] is added to the scores, as in T5. Raises ValueError for dropout under a
    BlockMask.
    """
    if not isinstance(attention_mask, BlockMask):
        return sdpa_attention_forward(
            module,
            query,
            key,
            value,
            attention_mask,
            scaling=scaling,
            dropout=dropout,
            position_bias=position_bias,
            **kwargs,
        )
    if dropout > 0:
        raise ValueError("flex attention has no dropout: make the mask with blocks=False")
    score = None if position_bias is None else _biased(position_bias)
    run = flex_attention if torch.compiler.is_compiling() or not query.is_cuda else _compiled()
    grouped = key.shape[1] != query.shape[1]
    output = run(query, key, value, score, attention_mask, scaling, enable_gqa=grouped)
    return output.transpose(1, 2).contiguous(), None  # type: ignore[union-attr]


def _biased(bias: Tensor) -> Any:
    def score(value: Tensor, _row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return value + bias[0, head, query, key]

    return score


@lru_cache(maxsize=1)
def _compiled() -> Any:
    return torch.compile(flex_attention, dynamic=False)


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, sdpa_mask)
