"""How a published model reads long texts, beside its weights, so that it can be asked as it was trained.

long_text.json          what is read, and the tokens of a sequence; absent where the head of a text is read
long_text.safetensors   the parameters that pool chunks, where there are some
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
from pydantic import Field, ValidationError
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from pipeline import MillError
from pipeline.store import files
from pipeline.store.recipe_file import Config
from training.finetuning.long_text import pooling
from training.recipe.long_text import Head, LongText

NAME, WEIGHTS = "long_text.json", "long_text.safetensors"


class How(Config):
    """How a model reads a text."""

    long_text: Annotated[LongText, Field(description="what is read of a text of more tokens")]
    sequence_length: Annotated[int, Field(ge=8, description="tokens in a sequence")]


def write(folder: Path, model: PreTrainedModel, how: How) -> None:
    """Write into ``folder`` how ``model`` reads, and take what pools out of it: the rest opens without us."""
    if isinstance(how.long_text, Head):
        return
    files.write_json(str(folder / NAME), how.model_dump(mode="json"))
    if hasattr(model, pooling.NAME):
        tensors = {name: tensor.contiguous() for name, tensor in model.get_submodule(pooling.NAME).state_dict().items()}
        delattr(model, pooling.NAME)
        if tensors:
            save_file(tensors, folder / WEIGHTS)


def read(folder: str) -> How | None:
    """How the model in ``folder`` reads; None where that is the head of a text. Raises MillError for a wrong file."""
    path = files.join(folder, NAME)
    if not files.exists(path):
        return None
    try:
        return How.model_validate(files.read_json(path))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise MillError(
            f"{path}: {where}: {first['msg']}; copy the file again from where the model was made"
        ) from error


def restore(folder: str, model: PreTrainedModel) -> How | None:
    """Let ``model``, opened from ``folder``, pool chunks as it was trained; how it reads, None for a text's head."""
    how = read(folder)
    if how is None:
        return None
    pooling.attach(model, how.long_text, 0.0, 0)
    path = files.join(folder, WEIGHTS)
    pool = getattr(model, pooling.NAME, None)
    if pool is not None and pool.state_dict():
        files.check(path)
        with files.finding(path, "Copy it again from where the model was made."), torch.no_grad():
            pool.load_state_dict(load_file(files.local(path)))
    return how
