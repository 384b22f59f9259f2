"""Causal language modelling: predict each token from those before it in its document.

Radford et al. 2019, "Language Models are Unsupervised Multitask Learners" (GPT-2 shapes); Touvron et al. 2023, "LLaMA".
Every token of a document is predicted once, its end token too; the first one from the begin token, which is the end
token where the tokenizer has no other, as in GPT-2. No document sees another.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import numpy as np
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from training import models
from training.models import Vocabulary
from training.objective import Batch, Objective, Task
from training.order import IGNORE, NOTHING, Layout, Windows


def layout(_vocabulary: Vocabulary) -> Layout:
    return Layout(behind=1)


def create(task: Task) -> PreTrainedModel:
    config = models.configuration(task.config.shape, task.vocabulary, task.config.sequence_length)
    return models.create("causal", config, task.seed)


def examples(task: Task, windows: Windows) -> Batch:
    """``tokens``, ``labels``, ``segments``, ``positions``, each int64 [n, length]; a label's input is the token before.

    Raises ValueError where the tokenizer has no token to begin a document with.
    """
    opening = task.vocabulary.opening
    if opening is None:
        raise ValueError("objective causal needs a tokenizer with a bos or eos token, to begin a document with")
    segments = windows.segments[:, 1:].astype(np.int64)
    inside = segments != NOTHING
    starts = np.diff(segments, axis=1, prepend=NOTHING) != 0
    place = np.arange(segments.shape[1])
    arrays = {
        "tokens": np.where(windows.first[:, 1:], opening, windows.tokens[:, :-1]),
        "labels": np.where(inside, windows.tokens[:, 1:], IGNORE),
        "segments": segments,
        "positions": place - np.maximum.accumulate(np.where(starts, place, 0), axis=1),
    }
    return Batch(arrays, {"causal": int(inside.sum())}, int(inside.sum()))


def loss(module: nn.Module, arrays: Mapping[str, Tensor]) -> dict[str, Tensor]:
    model = cast(PreTrainedModel, module)
    hidden = models.hidden_states(model, arrays["tokens"], arrays["segments"], arrays["positions"], causal=True)
    logits = models.output_head(model)(hidden).float()
    nats = F.cross_entropy(logits.flatten(0, 1), arrays["labels"].flatten(), ignore_index=IGNORE, reduction="sum")
    return {"causal": nats}


OBJECTIVE = Objective(
    name="causal",
    version=1,
    weights={"causal": 1.0},
    layout=layout,
    create=create,
    examples=examples,
    loss=loss,
    checkpoint=lambda module: cast(PreTrainedModel, module),
    per_byte=("bits_per_byte", "causal"),
)
