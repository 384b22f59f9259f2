"""The model that a fine-tuning starts from: a folder as transformers writes it, of ours or of anybody."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoTokenizer, PreTrainedConfig, PreTrainedModel
from transformers.utils import logging as transformers_logging

from pipeline import MillError
from pipeline.store import files
from training.finetuning.encoded import Reader
from training.models import architectures
from training.recipe import base_folder
from training.recipe.model_shapes import dropout_fields

#: Tokens of a sequence for a model without positions of its own.
_UNBOUNDED = 512


class WrongBase(MillError):
    """A folder that no fine-tuning can start from; the message says what it lacks."""


def check(base: str) -> None:
    """Raise WrongBase unless ``base`` is the folder of a model with safetensors and a tokenizer."""
    if problem := base_folder.problem(base):
        raise WrongBase(problem)


@contextlib.contextmanager
def opening(base: str) -> Iterator[None]:
    """Whatever libraries raise in the block over what the folder of a model holds becomes WrongBase."""
    try:
        yield
    except MillError:
        raise
    except Exception as error:  # tokenizers and huggingface_hub raise bare ones
        if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno is not None):
            raise
        why = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise WrongBase(f"{base}: it cannot be opened as a model ({why}); save it again, or name another") from error


def tokenizer_folder(base: str, work: str) -> str:
    """A folder with the tokenizer.json of ``base``: itself, or one in ``work`` where older files make it."""
    folder = files.local(base)
    if (folder / "tokenizer.json").is_file():
        return str(folder)
    made = Path(files.local(files.join(work, "tokenizer")))
    if not (made / "tokenizer.json").is_file():
        with opening(base), files.replacing_folder(str(made)) as aside:
            AutoTokenizer.from_pretrained(folder, trust_remote_code=False).save_pretrained(str(aside))
    return str(made)


def reader(base: str, tokenizer: str, length: int) -> Reader:
    """How ``base`` reads sequences of up to ``length`` tokens. Raises WrongBase where it has fewer positions."""
    with opening(base):
        config = AutoConfig.from_pretrained(files.local(base), trust_remote_code=False)
        opened_tokenizer: Any = AutoTokenizer.from_pretrained(files.local(tokenizer), trust_remote_code=False)
    most = architectures.positions(config)
    if most is not None and length > most:
        raise WrongBase(f"{base}: it has {most} positions, and `sequence_length` is {length}; lower it")
    pad = config.pad_token_id if getattr(config, "pad_token_id", None) is not None else opened_tokenizer.pad_token_id
    backend = opened_tokenizer.backend_tokenizer
    backend.no_padding()
    end = getattr(config, "eos_token_id", None)
    return Reader(backend, length, pad or 0, end if isinstance(end, int) else None)


def longest(base: str, config: PreTrainedConfig) -> int:
    """Tokens that the model in ``base`` reads at most: its positions, and what its tokenizer says."""
    tokenizer: Any = AutoTokenizer.from_pretrained(files.local(base), trust_remote_code=False)
    return min(architectures.positions(config) or _UNBOUNDED, tokenizer.model_max_length, _UNBOUNDED)


def load(auto: Any, base: str, fields: dict[str, Any], dropout: float, seed: int) -> PreTrainedModel:
    """The model in ``base`` as ``auto`` opens it, configured with ``fields``; float32, new layers by ``seed``."""
    folder = files.local(base)
    with opening(base):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    if type(config) not in auto._model_mapping:
        raise WrongBase(
            f"{base}: transformers has no {auto.__name__.removeprefix('Auto')} of the architecture"
            f" {config.model_type!r}, which this task needs; take another base (for text2text: T5 or BART)"
        )
    for name, value in fields.items():
        setattr(config, name, value)
    for name in dropout_fields(config.model_type):
        if hasattr(config, name):
            setattr(config, name, dropout)
    return opened(auto, base, config, seed)


def opened(auto: Any, base: str, config: PreTrainedConfig, seed: int) -> PreTrainedModel:
    """The model in ``base`` with the configuration ``config``."""
    torch.manual_seed(seed)
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()  # it would list the new layers' weights as missing
    try:
        with opening(base):
            model = auto.from_pretrained(
                files.local(base),
                config=config,
                dtype=torch.float32,
                attn_implementation="sdpa",
                use_safetensors=True,
                trust_remote_code=False,
            )
    finally:
        transformers_logging.set_verbosity(verbosity)
    return model.train()
