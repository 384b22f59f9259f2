"""Masked language modelling: predict 15 % of the tokens from both sides.

Devlin et al. 2019, "BERT"; Liu et al. 2019, "RoBERTa". Of the tokens that are neither special nor padding a window
picks ``mask_share`` exactly; of these 80 % become [MASK], 10 % a token drawn uniformly from the vocabulary, 10 % stay.
The loss is taken at the picked positions only, and so is the output head computed. The mask is drawn anew at each
visit, as in RoBERTa, whose FULL-SENTENCES are ``packing: full_sentences``; next-sentence prediction is another
objective. A window is filled with documents end to end, and every piece of a document stands between [CLS] and [SEP]
and sees itself only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import numpy as np
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from pipeline.store.packed_tokens import PackedTokens
from training.batches import random_streams
from training.batches.batch import Batch
from training.batches.best_fit import arrange
from training.batches.windows import IGNORE, NOTHING, Reader, Windows
from training.models import architectures
from training.objectives import masking
from training.objectives.base import Objective, Task

MASKED, RANDOM = 0.8, 0.1  # the rest stays


def order(task: Task, packed: PackedTokens, seed: int, repeat: bool = True) -> Reader:
    """Raises MillError where the tokenizer lacks a token that the objective needs."""
    layout = masking.layout(task.config.objective, task.vocabulary)
    return arrange(packed, layout, task.config, seed, repeat)


def create(task: Task) -> PreTrainedModel:
    config = architectures.configuration(task.config.shape, task.vocabulary, task.config.sequence_length)
    return architectures.create("masked", config, task.seed)


def examples(task: Task, windows: Windows) -> Batch:
    """``tokens``, ``segments``, ``positions`` int64 [n, length]; ``picked`` and ``labels`` int64 [n, slots]."""
    vocabulary = task.vocabulary
    tokens = masking.close_pieces(vocabulary, windows)
    inside = windows.segments != NOTHING
    drawn = random_streams.uniforms(windows.visits, (3, tokens.shape[1]), "mlm", task.seed)
    candidates = inside & ~np.isin(tokens, vocabulary.special)
    picked, labels = masking.pick(tokens, candidates, drawn[:, 0], task.config.mask_share, task.odds)
    arrays = {
        "tokens": masking.corrupt(tokens, picked, labels, drawn[:, 1], drawn[:, 2], vocabulary, MASKED, RANDOM),
        "segments": windows.segments.astype(np.int64),
        "positions": windows.positions,
        "picked": picked,
        "labels": labels,
    }
    picks = int((labels != IGNORE).sum())
    return Batch(arrays, {"mlm": picks, "masked_accuracy": picks}, int(inside.sum()))


def loss(module: nn.Module, arrays: Mapping[str, Tensor]) -> dict[str, Tensor]:
    model = cast(PreTrainedModel, module)
    hidden = architectures.hidden_states(model, arrays["tokens"], arrays["segments"], arrays["positions"], causal=False)
    logits = architectures.masked_logits(model, masking.hidden_at(hidden, arrays["picked"])).float()
    labels = arrays["labels"].flatten()
    nats = F.cross_entropy(logits, labels, ignore_index=IGNORE, reduction="sum")
    return {"mlm": nats, "masked_accuracy": masking.right(logits, labels)}


def flops(module: nn.Module, task: Task) -> float:
    """The head is computed at the picked positions only."""
    model = cast(PreTrainedModel, module)
    return architectures.flops_per_token(model, task.config.sequence_length, task.config.mask_share, task.pieces)


OBJECTIVE = Objective(
    name="mlm",
    version=2,
    weights=lambda _task: {"mlm": 1.0, "masked_accuracy": 0.0},
    order=order,
    create=create,
    examples=examples,
    loss=loss,
    checkpoint=lambda module: cast(PreTrainedModel, module),
    flops=flops,
    per_byte=("masked_bits_per_byte", "mlm"),
)
