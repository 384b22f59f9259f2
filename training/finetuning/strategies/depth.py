"""How deep in a model a parameter stands: what rates and freezing go by."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn
from transformers import PreTrainedModel


def layers(model: PreTrainedModel) -> list[str]:
    """Names of the model's layers, from the first; an encoder's before a decoder's.

    A layer is an entry of a list of modules that is in no other list; one that runs several times is one.
    """
    names: list[str] = []
    lists: list[str] = []
    for name, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and not any(name.startswith(f"{outer}.") for outer in lists):
            lists.append(name)
            names += [f"{name}.{at}" for at in range(len(module))]
    return names


def depth(model: PreTrainedModel) -> Callable[[str], int]:
    """The depth of a parameter by name: embeddings 0, layers from 1, what stands above them one more than the last."""
    at = {name: number for number, name in enumerate(layers(model), 1)}
    tables = {name for name, module in model.named_modules() if isinstance(module, nn.Embedding)}

    def of(name: str) -> int:
        parts = name.split(".")
        prefixes = [".".join(parts[:end]) for end in range(1, len(parts))]
        places = [at[prefix] for prefix in prefixes if prefix in at]
        if places:
            return places[0]
        return 0 if "embed" in name or ".".join(parts[:-1]) in tables else len(at) + 1

    return of
