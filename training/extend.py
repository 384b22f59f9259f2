"""Embeddings for new tokens: each starts as the mean of those of the pieces that its word was written in before.

So a model knows something of its new words before the first step, where drawn weights would have it start from nothing
(Hewitt 2021). Input and output embeddings, and the output's bias, are treated alike; tied weights stay tied.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import transformers
from torch import nn
from transformers import AutoConfig, PreTrainedModel

from training.models import VOCABULARY_MULTIPLE


def load(folder: Path) -> PreTrainedModel:
    """The model in ``folder`` with the class that its config names. Raises ValueError if that is none of ours."""
    names = AutoConfig.from_pretrained(folder).architectures or []
    found = getattr(transformers, names[0], None) if names else None
    if not (isinstance(found, type) and issubclass(found, PreTrainedModel)):
        raise ValueError(f"{folder}: its config.json names no model of transformers; found {names or 'nothing'}")
    return found.from_pretrained(folder)


def extend_embeddings(model: PreTrainedModel, first: int, pieces: Sequence[Sequence[int]]) -> PreTrainedModel:
    """``model`` with rows for tokens ``first`` to ``first + len(pieces)``, the vocabulary padded to a multiple of 64.

    ``pieces[i]`` are the old ids of token i. Rows in use before are not touched. Raises ValueError where the model
    knows fewer tokens than ``first``.
    """
    known = model.get_input_embeddings().weight.shape[0]  # pyright: ignore
    if known < first:
        raise ValueError(f"the model has embeddings of {known} tokens, its tokenizer has {first}: they do not belong")
    size = -(-(first + len(pieces)) // VOCABULARY_MULTIPLE) * VOCABULARY_MULTIPLE
    if size > known:
        model.resize_token_embeddings(size, mean_resizing=False)
    with torch.no_grad():
        for table in _tables(model):
            for index, ids in enumerate(pieces):
                table[first + index] = table[list(ids)].mean(0)
    return model


def _tables(model: PreTrainedModel) -> list[torch.Tensor]:
    """What has an entry for each token: input and output embeddings, and the output's bias; each once."""
    head = model.get_output_embeddings()
    layers: list[nn.Module | None] = [model.get_input_embeddings(), head]
    found = [layer.weight for layer in layers if layer is not None]
    if head is not None and getattr(head, "bias", None) is not None:
        found.append(head.bias)  # pyright: ignore
    return list({table.data_ptr(): table for table in found}.values())  # pyright: ignore
