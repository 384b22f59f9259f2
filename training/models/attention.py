"""Attention within the documents of a pack, and not across them.

``mask`` says who sees whom, ``attend`` computes it for every model of transformers' (as the attention called "packed").
On a GPU the mask is a flex-attention BlockMask (Dong et al. 2024, "Flex Attention"): blocks of 128 x 128 that lie in no
document are skipped, and attention makes no length x length matrix, T5's position bias apart. It is a boolean matrix
for scaled_dot_product_attention on a CPU, and for attention with dropout, which flex attention lacks.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention.flex_attention import BlockMask, flex_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "packed"
BLOCK = 128


def mask(segments: Tensor, causal: bool, blocks: bool, reach: int | None = None) -> Tensor | BlockMask:
    """Who sees whom, for ``segments`` int64 [batch, length]: equal segments, and no later positions if ``causal``.

    With ``reach``, none further away than that is seen. A BlockMask if ``blocks``, else boolean [batch, 1, length,
    length]: true where a query (third axis) may see a key (last axis).
    """
    if blocks:
        return block_mask(segments, segments, causal, reach)
    seen = segments[:, None, :, None] == segments[:, None, None, :]
    if reach is not None:
        place = torch.arange(segments.shape[1], device=segments.device)
        seen = seen & ((place[:, None] - place).abs() <= reach)
    return seen.tril() if causal else seen


def across(queries: Tensor, keys: Tensor, blocks: bool) -> Tensor | BlockMask:
    """Which tokens of an encoder, of segments ``keys`` [batch, source], a decoder's of ``queries`` [batch, target] see.

    A token whose segment has none there sees the first, or by a boolean matrix all: its label is ignored, and what
    attends to nothing has no gradient.
    """
    seen = queries[:, None, :, None] == keys[:, None, None, :]
    if blocks:
        return block_mask(torch.where(seen.any(-1)[:, 0], queries, keys[:, :1]), keys)
    return seen | ~seen.any(-1, keepdim=True)


def block_mask(queries: Tensor, keys: Tensor, causal: bool = False, reach: int | None = None) -> BlockMask:
    """The BlockMask of the segments ``queries`` and ``keys``, int64 [batch, length] each, on their device.

    Which blocks are empty, and which are full, is told from the first and the last segment of each block of tokens: no
    matrix of length x length is made.
    """

    def sees(row: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        seen = queries[row, query] == keys[row, key]
        if reach is not None:
            seen = seen & ((query - key).abs() <= reach)
        return seen & (query >= key) if causal else seen

    lists = torch.ops.corpusmill.visible_blocks(queries, keys, causal, reach)
    made = BlockMask((queries.shape[1], keys.shape[1]), *lists, BLOCK_SIZE=(BLOCK, BLOCK), mask_mod=sees)
    made.ndim = 4  # type: ignore[attr-defined]  # GPT-2 asks every mask for it
    return made


@torch.library.custom_op(
    "corpusmill::visible_blocks",
    mutates_args=(),
    schema="(Tensor queries, Tensor keys, bool causal, int? reach) -> Tensor[]",
)
def _visible_blocks(queries: Tensor, keys: Tensor, causal: bool, reach: int | None) -> list[Tensor]:
    """Which blocks of keys each block of queries sees in part and in full, and the other way round: int32, in pairs.

    A pair is how many they are, [batch, 1, rows], and which, [batch, 1, rows, columns]. An operator of its own, because
    flex attention reads such lists as rows one after another, and torch.compile may lay out what it makes in columns.
    """
    low, high, begin, end = (bound[:, :, None] for bound in _bounds(queries))
    low_key, high_key, begin_key, end_key = (bound[:, None, :] for bound in _bounds(keys))
    some = (low <= high_key) & (low_key <= high)
    every = (low == high) & (low_key == high_key) & (low == low_key)
    every &= (end < queries.shape[1]) & (end_key < keys.shape[1])  # none sticks out
    if causal:
        some, every = some & (begin_key <= end), every & (end_key <= begin)
    if reach is not None:
        some &= (begin_key - end <= reach) & (begin - end_key <= reach)
        every &= (end - begin_key <= reach) & (end_key - begin <= reach)
    kinds = (some & ~every, some & every)
    return [
        listed for by in (lambda kind: kind, lambda kind: kind.mT) for kind in kinds for listed in _listed(by(kind))
    ]


@_visible_blocks.register_fake
def _(queries: Tensor, keys: Tensor, _causal: bool, _reach: int | None) -> list[Tensor]:
    rows, columns = (-(-side.shape[1] // BLOCK) for side in (queries, keys))
    sizes = [(rows,), (rows, columns)] * 2 + [(columns,), (columns, rows)] * 2
    return [queries.new_empty((len(queries), 1, *size), dtype=torch.int32) for size in sizes]


def _bounds(segments: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Least and greatest segment of each block [batch, blocks]; its first and last position [1, blocks]."""
    count = -(-segments.shape[1] // BLOCK)
    filler = segments[:, -1:].expand(-1, count * BLOCK - segments.shape[1])
    blocks = torch.cat([segments, filler], 1).unflatten(1, (count, BLOCK))
    begin = torch.arange(count, device=segments.device)[None] * BLOCK
    return blocks.amin(-1), blocks.amax(-1), begin, begin + BLOCK - 1


def _listed(blocks: Tensor) -> tuple[Tensor, Tensor]:
    """How many ``blocks`` [batch, rows, columns] of each row are true, and first among its columns: which; int32."""
    order = torch.argsort(blocks.int(), dim=-1, descending=True, stable=True)
    return blocks.sum(-1, dtype=torch.int32)[:, None].contiguous(), order.int()[:, None].contiguous()


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
