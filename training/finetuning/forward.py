"""What a model is given of a batch, and what stands for a base whose states are known."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutputWithPoolingAndCrossAttentions as Outputs


def inputs(model: nn.Module, arrays: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What the forward pass of ``model`` takes of a batch: token types where it tells them apart.

    Of a batch with ``features``, the states that a frozen base made of the tokens, these alone.
    """
    if "features" in arrays:
        return {"inputs_embeds": arrays["features"], "attention_mask": arrays["mask"]}
    tensors = {"input_ids": arrays["tokens"], "attention_mask": arrays["mask"]}
    if typed(model):
        tensors["token_type_ids"] = arrays["types"]
    return tensors


def typed(model: nn.Module) -> bool:
    """Whether ``model`` has more than one token type."""
    config: Any = model.config
    return getattr(config, "type_vocab_size", 0) > 1 and "token_type_ids" in inspect.signature(model.forward).parameters


class Known(nn.Module):
    """Stands for a base whose states are known: it is given them as embeddings. Its pooler is the base's own."""

    def __init__(self, base: Any) -> None:
        super().__init__()
        self.config, self.pooler = base.config, getattr(base, "pooler", None)
        self.pooler_activation = getattr(base, "pooler_activation", None)  # ALBERT's

    def forward(self, *_ids: None, inputs_embeds: Tensor, **_more: Any) -> Outputs:
        if self.pooler is None:
            pooled = None
        elif self.pooler_activation is None:
            pooled = self.pooler(inputs_embeds)
        else:
            pooled = self.pooler_activation(self.pooler(inputs_embeds[:, 0]))
        return Outputs(last_hidden_state=inputs_embeds, pooler_output=pooled)  # type: ignore[arg-type]
