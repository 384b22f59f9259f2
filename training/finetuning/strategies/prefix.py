"""Prefix tuning: Li and Liang 2021. Each attention sees ``tokens`` trained keys and values before the text's own.

Ours, because peft's goes by a decoder's cache and so reaches no encoder. Here it is within the attention itself, of an
encoder, a decoder, and from one to the other: 2 x width parameters a token for each. Positions stay the text's own.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from training.finetuning.strategies.base import Ready, WrongStrategy, head, train_only
from training.recipe.strategies import Prefix

NAME = "prefixed"
_DEVIATION = 0.02


class Pair(nn.Module):
    """Keys and values, [heads, tokens, width of a head] each."""

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        super().__init__()
        self.keys, self.values = nn.Parameter(keys), nn.Parameter(values)

    def forward(self) -> tuple[Tensor, Tensor]:
        return self.keys, self.values


class Network(nn.Module):
    """Keys and values as the output of a network: embeddings and inner layer are shared by all attentions."""

    def __init__(self, inner: nn.Module, hidden: int, heads: int, tokens: int, width: int) -> None:
        super().__init__()
        self.inner, self.shape = inner, (tokens, 2, heads, width)
        self.outer = nn.Linear(hidden, 2 * heads * width)

    def forward(self) -> tuple[Tensor, Tensor]:
        keys, values = self.outer(self.inner()).view(self.shape).permute(1, 2, 0, 3)
        return keys, values


class Inner(nn.Module):
    """Embeddings [tokens, width], through a layer with tanh: [tokens, hidden]."""

    def __init__(self, tokens: int, width: int, hidden: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(tokens, width)
        self.layer = nn.Linear(width, hidden)

    def forward(self) -> Tensor:
        return torch.tanh(self.layer(self.embedding.weight))


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    position_bias: Tensor | None = None,
    is_causal: bool | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Outputs [batch, length, heads, width]; the module's ``prefix``, if it has one, is seen by every query."""
    prefix = getattr(module, "prefix", None)
    if prefix is not None:
        causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
        if attention_mask is None and causal and query.shape[2] > 1:
            seen = torch.ones(query.shape[2], key.shape[2], dtype=torch.bool, device=query.device)
            attention_mask = seen.tril(key.shape[2] - query.shape[2])[None, None]
        keys, values = (part.to(key.dtype).expand(len(key), -1, -1, -1) for part in prefix())
        key, value = torch.cat([keys, key], 2), torch.cat([values, value], 2)
        tokens, is_causal = keys.shape[2], False
        if attention_mask is not None:
            attention_mask = F.pad(attention_mask, (tokens, 0), value=attention_mask.dtype == torch.bool)
        if position_bias is not None:
            position_bias = F.pad(position_bias, (tokens, 0))
    return sdpa_attention_forward(
        module, query, key, value, attention_mask, is_causal=is_causal, position_bias=position_bias, **kwargs
    )


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, sdpa_mask)


def prefix(model: PreTrainedModel, config: Prefix, seed: int) -> Ready:
    """Raises WrongStrategy for an architecture whose attention transformers does not let be exchanged."""
    above, attentions = head(model), _attentions(model)
    if not attentions:
        raise WrongStrategy(
            f"strategy prefix: the attention of {model.config.model_type} cannot be extended; take lora instead"
        )
    torch.manual_seed(seed)
    inner = Inner(config.tokens, model.config.hidden_size, config.hidden) if config.reparametrised else None
    for module, (heads, width) in attentions.items():
        if inner is not None:
            module.prefix = Network(inner, config.hidden, heads, config.tokens, width)
        else:
            drawn = torch.randn(2, heads, config.tokens, width) * _DEVIATION
            module.prefix = Pair(drawn[0].clone(), drawn[1].clone())
    for part in model.modules():
        if isinstance(part, PreTrainedModel):
            part.config._attn_implementation = NAME

    @torch.no_grad()
    def simplify() -> None:
        for module in attentions:
            made: Any = module.prefix
            module.prefix = Pair(*(part.detach().clone() for part in made()))

    count = train_only(model, lambda name: name in above or ".prefix." in name)
    return Ready(count, simplify=simplify, adapter=True, plain=False)


@torch.no_grad()
def _attentions(model: PreTrainedModel) -> dict[nn.Module, tuple[int, int]]:
    """The modules that attend, with their heads (of keys) and the width of one, as a pass over two tokens shows."""
    attentions: dict[nn.Module, tuple[int, int]] = {}

    def look(module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Any, **kwargs: Any) -> Any:
        attentions[module] = (key.shape[1], key.shape[3])
        return sdpa_attention_forward(module, query, key, value, mask, **kwargs)

    parts = [part for part in model.modules() if isinstance(part, PreTrainedModel)]
    before = [part.config._attn_implementation for part in parts]
    AttentionInterface.register("looked at", look)
    AttentionMaskInterface.register("looked at", sdpa_mask)
    for part in parts:
        part.config._attn_implementation = "looked at"
    two = torch.zeros(1, 2, dtype=torch.int64, device=model.device)
    decoder = {"decoder_input_ids": two} if model.config.is_encoder_decoder else {}
    model.base_model(input_ids=two, attention_mask=torch.ones_like(two), **decoder)
    for part, name in zip(parts, before, strict=True):
        part.config._attn_implementation = name
    return attentions
