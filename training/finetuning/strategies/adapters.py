"""Adapters: Houlsby et al. 2019, "Parameter-Efficient Transfer Learning for NLP".

After each sub-layer, before its residual sum, x + up(gelu(down(x))): 2 m d + d + m parameters, two of them a layer and
three in a decoder that reads an encoder. Trained with the layer norms and the head.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from training.finetuning.strategies.base import Ready, WrongStrategy, head, train_only
from training.finetuning.strategies.depth import layers
from training.recipe.strategies import Adapters

#: Where a sub-layer ends, by architecture: the dropout before the residual sum, or what comes before it.
_ENDS = {
    **dict.fromkeys(("bert", "roberta", "xlm-roberta", "camembert", "electra"), ("output.dropout",)),
    "distilbert": ("attention.out_lin", "ffn"),
    "albert": ("attention.output_dropout", "ffn_output"),
    "gpt2": ("attn.resid_dropout", "mlp.dropout"),
    **dict.fromkeys(("llama", "qwen3"), ("self_attn.o_proj", "mlp.down_proj")),
    "modernbert": ("attn.Wo", "mlp.Wo"),
    "t5": ("layer.0.dropout", "layer.1.dropout", "layer.2.dropout"),
    "bart": ("self_attn.out_proj", "encoder_attn.out_proj", "fc2"),
}
_DEVIATION = 1e-2


class Adapter(nn.Module):
    """A bottleneck of ``size`` with a residual connection; near to the identity at first."""

    def __init__(self, width: int, size: int) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(width, size), nn.Linear(size, width)
        for layer in (self.down, self.up):
            nn.init.trunc_normal_(layer.weight, std=_DEVIATION, a=-2 * _DEVIATION, b=2 * _DEVIATION)
            nn.init.zeros_(layer.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        return hidden + self.up(F.gelu(self.down(hidden)))


def adapters(model: PreTrainedModel, config: Adapters, seed: int) -> Ready:
    """Raises WrongStrategy for an architecture whose sub-layers are not known."""
    kind, above = model.config.model_type, head(model)
    if kind not in _ENDS:
        raise WrongStrategy(
            f"strategy adapters: the sub-layers of {kind} are not known (known: {', '.join(_ENDS)}); take lora instead"
        )
    torch.manual_seed(seed)
    norms = {
        f"{name}.{own}"
        for name, module in model.named_modules()
        if type(module).__name__.endswith(("LayerNorm", "RMSNorm"))
        for own, _ in module.named_parameters(recurse=False)
    }
    for name in layers(model):
        for inner, module in list(model.get_submodule(name).named_modules()):
            if inner.endswith(_ENDS[kind]):
                module.add_module("adapter", Adapter(model.config.hidden_size, config.size))
                module.register_forward_hook(_adapted)
    wanted = above | norms
    return Ready(train_only(model, lambda name: name in wanted or ".adapter." in name), adapter=True, plain=False)


def _adapted(module: Any, _inputs: tuple, output: Tensor) -> Tensor:
    return module.adapter(output)
