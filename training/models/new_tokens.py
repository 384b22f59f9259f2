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
from transformers.utils import logging as transformers_logging

from pipeline import MillError
from pipeline.store import files, model_folder

_MOST_SPARE = 1024  # rows of a model's table beyond its tokenizer's entries; Qwen 2 has 271


def load(folder: Path) -> PreTrainedModel:
    """The model in ``folder`` with the class that its config names. Raises MillError if that is none of ours."""
    if not (folder / "config.json").is_file():
        raise MillError(f"{folder}: no model there; give a folder with config.json and model.safetensors")
    if problem := model_folder.weights_problem(str(folder)):
        raise MillError(problem)
    files.check_folder(str(folder))
    names = AutoConfig.from_pretrained(folder, trust_remote_code=False).architectures or []
    kind = getattr(transformers, names[0], None) if names else None
    if not (isinstance(kind, type) and issubclass(kind, PreTrainedModel)):
        raise MillError(f"{folder}: its config.json names no model of transformers; found {names or 'nothing'}")
    transformers_logging.disable_progress_bar()
    return kind.from_pretrained(folder, use_safetensors=True)


def extend_embeddings(model: PreTrainedModel, first: int, pieces: Sequence[Sequence[int]]) -> PreTrainedModel:
    """``model`` with rows for tokens ``first`` to ``first + len(pieces)`` and no spare ones: each id is a token's.

    ``pieces[i]`` are the old ids of token i. Rows in use before are not touched. Raises MillError where the model
    knows fewer tokens than ``first``, or too many more to be spare rows.
    """
    known = model.get_input_embeddings().weight.shape[0]  # pyright: ignore
    if not first <= known < first + _MOST_SPARE:
        raise MillError(f"the model has embeddings of {known} tokens, its tokenizer has {first}: they do not match")
    model.resize_token_embeddings(first + len(pieces), mean_resizing=False)
    with torch.no_grad():
        for table in vocabulary_tables(model):
            for index, ids in enumerate(pieces):
                table[first + index] = table[list(ids)].mean(0)
    return model


def vocabulary_tables(model: PreTrainedModel) -> list[torch.Tensor]:
    """What has an entry for each token: input and output embeddings, and the output's bias; each once."""
    head = model.get_output_embeddings()
    layers: list[nn.Module | None] = [model.get_input_embeddings(), head]
    tables = [layer.weight for layer in layers if layer is not None]
    if head is not None and getattr(head, "bias", None) is not None:
        tables.append(head.bias)  # pyright: ignore
    return list({table.data_ptr(): table for table in tables}.values())  # pyright: ignore
