"""Causal language modelling: predict each token from those before it in its document.

Radford et al. 2019, "Language Models are Unsupervised Multitask Learners" (GPT-2 shapes); Touvron et al. 2023, "LLaMA".
Every token of a document is predicted once, its end token too; the first one from the begin token, which is the end
token where the tokenizer has no other, as in GPT-2. No document sees another.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import numpy as np
from torch import Tensor, nn
from transformers import PreTrainedModel

from pipeline import MillError
from pipeline.store.packed_tokens import PackedTokens
from training.batches.batch import Batch
from training.batches.best_fit import arrange
from training.batches.windows import IGNORE, NOTHING, Layout, Reader, Windows
from training.models import architectures
from training.models.losses import linear_cross_entropy
from training.objectives.base import Objective, Task


def order(task: Task, packed: PackedTokens, seed: int, repeat: bool = True) -> Reader:
    """Windows with the token before each: a label's input.

    Raises MillError where the tokenizer has no token to begin a document with.
    """
    if task.vocabulary.opening is None:
        raise MillError("objective causal needs a tokenizer with a bos or eos token, to begin a document with")
    return arrange(packed, Layout(behind=1), task.config, seed, repeat)


def create(task: Task) -> PreTrainedModel:
    config = architectures.configuration(task.config.shape, task.vocabulary, task.config.sequence_length)
    return architectures.create("causal", config, task.seed)


def examples(task: Task, windows: Windows) -> Batch:
    """``tokens``, ``labels``, ``segments``, ``positions``, int64 [n, length]; a label's input is the token before."""
    assert task.vocabulary.opening is not None  # the order's check
    segments = windows.segments[:, 1:].astype(np.int64)
    inside = segments != NOTHING
    starts = np.diff(segments, axis=1, prepend=NOTHING) != 0
    place = np.arange(segments.shape[1])
    arrays = {
        "tokens": np.where(windows.first[:, 1:], task.vocabulary.opening, windows.tokens[:, :-1]),
        "labels": np.where(inside, windows.tokens[:, 1:], IGNORE),
        "segments": segments,
        "positions": place - np.maximum.accumulate(np.where(starts, place, 0), axis=1),
    }
    return Batch(arrays, {"causal": int(inside.sum())}, int(inside.sum()))


def loss(module: nn.Module, arrays: Mapping[str, Tensor]) -> dict[str, Tensor]:
    model = cast(PreTrainedModel, module)
    hidden = architectures.hidden_states(model, arrays["tokens"], arrays["segments"], arrays["positions"], causal=True)
    head = architectures.output_head(model)
    return {"causal": linear_cross_entropy(hidden.flatten(0, 1), head.weight, arrays["labels"].flatten(), head.bias)}


OBJECTIVE = Objective(
    name="causal",
    version=2,
    weights=lambda _task: {"causal": 1.0},
    order=order,
    create=create,
    examples=examples,
    loss=loss,
    checkpoint=lambda module: cast(PreTrainedModel, module),
    flops=lambda module, task: architectures.flops_per_token(
        cast(PreTrainedModel, module), task.config.sequence_length, pieces=task.pieces, causal=True
    ),
    per_byte=("bits_per_byte", "causal"),
)
