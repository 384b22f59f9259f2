"""The model that a run starts from: drawn, or one that was trained before, here or by anybody.

Of a base everything is taken as it is: weights, all positions, spare rows of its vocabulary (they are cut when it is
published), and its configuration but for dropout, which the recipe says, and the ids of special tokens, which are the
tokenizer's. So the first loss is what transformers computes for it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel
from transformers.utils import logging as transformers_logging

from pipeline import MillError
from pipeline.store import files
from training.models import architectures, attention
from training.objectives.base import Objective, Task
from training.recipe import pretrain_base
from training.recipe.model_shapes import dropout_fields

#: Fields that a configuration derives from its shape, by which layers differ.
_DERIVED = ("layer_types", "sliding_window")


def module(objective: Objective, task: Task) -> nn.Module:
    """What ``objective`` trains: of weights drawn from the task's seed, or of those of its base.

    Raises MillError where the base cannot be opened or is no such model.
    """
    if task.config.base is None:
        return objective.create(task)
    with torch.device("meta"):
        drawn = objective.create(task)
    if not isinstance(drawn, PreTrainedModel):
        raise MillError(f"objective {objective.name!r} trains more than one model, and has no base; leave out `base`")
    return _opened(drawn, task, task.config.base, task.vocabulary.size + len(objective.added_tokens(task)))


def _opened(drawn: PreTrainedModel, task: Task, base: str, tokens: int) -> PreTrainedModel:
    """The model in ``base`` as one of the class of ``drawn``, which the recipe describes, for at least ``tokens``."""
    at = f"pretrain {task.config.name!r}: base"
    folder = files.local(base)
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    _is_of_its_shape(at, task, config, drawn.config)
    _fits_tokens(at, task, config, drawn.config, tokens)
    for name in drawn.config.to_dict():
        if name.endswith("_token_id") or name in dropout_fields(config.model_type):
            setattr(config, name, getattr(drawn.config, name))
    architectures.in_one_kernel(config)
    opened, report = _read(at, type(drawn), base, folder, config)
    if lacking := sorted(report["missing_keys"]):
        more = f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""
        raise MillError(
            f"{at} {base!r} has no weights {lacking[0]}{more}, which objective {task.config.objective!r} trains; take"
            " the objective that the base was trained by, or another base"
        )
    return opened.float().train()


def _is_of_its_shape(at: str, task: Task, config: PreTrainedConfig, wanted: PreTrainedConfig) -> None:
    actual = {name: getattr(config, name, None) for name in task.config.shape}
    if problem := pretrain_base.other_shape(task.config, actual):
        raise MillError(f"{at} {problem}")
    for name in _DERIVED:
        own, other = getattr(wanted, name, None), getattr(config, name, None)
        if own != other:
            raise MillError(
                f"{at} {task.config.base!r} has {name} {other}, and `model` makes {own}, which is all that this program"
                " trains; take another base"
            )


def _fits_tokens(at: str, task: Task, config: PreTrainedConfig, wanted: PreTrainedConfig, tokens: int) -> None:
    if config.model_type == "roberta" and config.pad_token_id != wanted.pad_token_id:
        raise MillError(
            f"{at} {task.config.base!r} pads with id {config.pad_token_id}, behind which its positions begin, and"
            f" tokenizer {task.config.tokenizer!r} with {wanted.pad_token_id}; name the tokenizer that the base was"
            " trained with"
        )
    if config.vocab_size < tokens:
        raise MillError(
            f"{at} {task.config.base!r} has embeddings of {config.vocab_size} tokens, and tokenizer"
            f" {task.config.tokenizer!r} has {tokens}; name the tokenizer that the base was trained with"
        )


def _read(
    at: str, kind: type[PreTrainedModel], base: str, folder: Path, config: PreTrainedConfig
) -> tuple[PreTrainedModel, dict[str, Any]]:
    files.check_folder(str(folder))
    transformers_logging.disable_progress_bar()
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()  # it would list a head that is left out
    try:
        opened: Any = kind.from_pretrained(
            folder,
            config=config,
            dtype=torch.float32,
            attn_implementation=attention.NAME,
            use_safetensors=True,
            output_loading_info=True,
        )
        return opened
    except (RuntimeError, OSError) as error:
        raise MillError(
            f"{at} {base!r} cannot be opened: {str(error).strip().splitlines()[0]}; its config.json and weights do not"
            " belong together, or a file is damaged: save the model again"
        ) from error
    finally:
        transformers_logging.set_verbosity(verbosity)
