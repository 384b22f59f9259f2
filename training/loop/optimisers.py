"""What moves the weights: AdamW, or Muon for the hidden matrices beside AdamW for all else.

Muon (Jordan 2024, https://kellerjordan.github.io/posts/muon) makes the momentum of a matrix nearly orthogonal, by five
Newton-Schulz iterations in bf16 (torch.optim.Muon), so that every direction of it moves alike. Its step is scaled by
0.2 x sqrt(max(rows, columns)) (Liu 2025, "Muon is Scalable for LLM Training", section 2.2), which makes its root mean
square that of AdamW's: so learning rate, schedule and weight decay are the same for both. It is also the same
whichever way round a matrix is stored, as GPT-2's are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn
from transformers import PreTrainedModel

from training.recipe.run import OptimiserConfig

#: Layers that make scores of a few classes out of hidden states, in the names of their parameters.
_SCORES = frozenset(
    {
        *("classifier", "classification_head", "score", "qa_outputs"),
        *("seq_relationship", "sop_classifier", "dense_prediction"),
    }
)


def make(
    model: nn.Module, config: OptimiserConfig, group: Callable[[str], int] = lambda _name: 0
) -> list[torch.optim.Optimizer]:
    """The optimisers of ``model``: AdamW (Loshchilov 2019), fused, and Muon before it where ``config`` says so.

    Weights decay, but biases, gains and other vectors do not. Parameter groups name the ``group`` that their parameters
    are of.
    """
    matrices = hidden_matrices(model) if config.algorithm == "muon" else frozenset()
    groups: dict[tuple[bool, int, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups.setdefault((name in matrices, group(name), parameter.dim() < 2), []).append(parameter)
    sides = {
        muon: [
            {"params": groups[key], "group": key[1], "weight_decay": 0.0 if key[2] else config.weight_decay}
            for key in sorted(groups)
            if key[0] == muon
        ]
        for muon in (True, False)
    }
    made: list[torch.optim.Optimizer] = []
    if sides[True]:
        made.append(torch.optim.Muon(sides[True], lr=config.learning_rate, adjust_lr_fn="match_rms_adamw"))
    if sides[False]:
        betas = (config.beta1, config.beta2)
        made.append(
            torch.optim.AdamW(sides[False], lr=config.learning_rate, betas=betas, eps=config.epsilon, fused=True)
        )
    return made


def hidden_matrices(model: nn.Module) -> frozenset[str]:
    """Names of the parameters from hidden states to hidden states: neither tables, nor heads, nor vectors."""
    others = {id(part.weight) for part in model.modules() if isinstance(part, nn.Embedding)}
    for part in model.modules():
        head = part.get_output_embeddings() if isinstance(part, PreTrainedModel) else None
        others |= {id(parameter) for parameter in head.parameters()} if isinstance(head, nn.Module) else set()
    return frozenset(
        name
        for name, parameter in model.named_parameters()
        if parameter.dim() == 2 and id(parameter) not in others and not _SCORES & set(name.split("."))
    )


def of_parameters(optimisers: Sequence[torch.optim.Optimizer]) -> dict[nn.Parameter, torch.optim.Optimizer]:
    """The optimiser of each parameter."""
    return {
        parameter: optimiser
        for optimiser in optimisers
        for group in optimiser.param_groups
        for parameter in group["params"]
    }
