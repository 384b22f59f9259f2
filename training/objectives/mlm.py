"""Masked language modelling: predict 15 % of the tokens from both sides.

Devlin et al. 2019, "BERT". Of the tokens that are neither special nor padding a window picks ``mask_share`` exactly;
of these 80 % become [MASK], 10 % a token drawn uniformly from the vocabulary, 10 % stay. The loss is taken at the
picked positions only, and so is the output head computed. The mask is drawn anew at each visit, as in RoBERTa
(Liu et al. 2019), without next-sentence prediction. Every piece of a document stands between [CLS] and [SEP].
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from training import models, noise
from training.models import Vocabulary
from training.objective import Batch, Objective, Task
from training.order import IGNORE, NOTHING, Layout, Windows

MASKED, RANDOM = 0.8, 0.1  # the rest stays


def layout(vocabulary: Vocabulary) -> Layout:
    """Raises ValueError where the tokenizer lacks a token that the objective needs."""
    for role in ("opening", "closing", "mask"):
        if getattr(vocabulary, role) is None:
            raise ValueError(f"objective mlm needs a tokenizer with cls, sep and mask tokens; it has no {role} token")
    return Layout(before=vocabulary.opening, after=vocabulary.sep if vocabulary.eos is None else None)


def create(task: Task) -> PreTrainedModel:
    config = models.configuration(task.config.shape, task.vocabulary, task.config.sequence_length)
    return models.create("masked", config, task.seed)


def close_pieces(vocabulary: Vocabulary, windows: Windows) -> np.ndarray:
    """The windows' tokens, int64 [n, length]; a document cut by a window is opened and closed there too."""
    tokens = windows.tokens.copy()
    tokens[:, 0] = vocabulary.opening
    tokens[windows.segments[:, -1] != NOTHING, -1] = vocabulary.closing
    return tokens


def slots(length: int, share: float) -> int:
    """The most positions that a window of ``length`` picks."""
    return max(1, round(length * share))


def examples(task: Task, windows: Windows) -> Batch:
    """``tokens``, ``segments``, ``positions`` int64 [n, length]; ``picked`` and ``labels`` int64 [n, slots].

    ``picked`` are places in the window; where a window has fewer than ``slots``, the rest is place 0 with label IGNORE.
    """
    vocabulary, share = task.vocabulary, task.config.mask_share
    tokens = close_pieces(vocabulary, windows)
    inside = windows.segments != NOTHING
    drawn = noise.uniforms(windows.visits, (3, tokens.shape[1]), "mlm", task.seed)
    picked, labels = pick(tokens, inside & ~np.isin(tokens, vocabulary.special), drawn[:, 0], share)
    arrays = {
        "tokens": corrupt(tokens, picked, labels, drawn[:, 1], drawn[:, 2], vocabulary),
        "segments": windows.segments.astype(np.int64),
        "positions": windows.positions,
        "picked": picked,
        "labels": labels,
    }
    return Batch(arrays, {"mlm": int((labels != IGNORE).sum())}, int(inside.sum()))


def pick(tokens: np.ndarray, candidates: np.ndarray, drawn: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Places and original tokens, int64 [n, slots], of ``share`` of each row's ``candidates`` (boolean [n, length]).

    ``drawn`` are uniforms [n, length]: the candidates with the smallest are picked, at least one where there is any.
    """
    wanted = np.minimum(np.maximum(1, np.rint(candidates.sum(1) * share)), candidates.sum(1)).astype(np.int64)
    places = np.argsort(np.where(candidates, drawn, 2.0), axis=1, kind="stable")[:, : slots(tokens.shape[1], share)]
    used = np.arange(places.shape[1]) < wanted[:, None]
    labels = np.where(used, np.take_along_axis(tokens, places, axis=1), IGNORE)
    return np.where(used, places, 0), labels


def corrupt(
    tokens: np.ndarray,
    picked: np.ndarray,
    labels: np.ndarray,
    action: np.ndarray,
    replacement: np.ndarray,
    vocabulary: Vocabulary,
) -> np.ndarray:
    """``tokens`` with the picked places masked, replaced or left, by the uniforms ``action`` and ``replacement``."""
    assert vocabulary.mask is not None  # the layout's check
    random = (replacement * vocabulary.size).astype(np.int64)
    masked = np.where(action < MASKED, vocabulary.mask, np.where(action < MASKED + RANDOM, random, tokens))
    chosen = np.zeros(tokens.shape, bool)
    rows, columns = np.nonzero(labels != IGNORE)
    chosen[rows, picked[rows, columns]] = True
    return np.where(chosen, masked, tokens)


def hidden_at(hidden: Tensor, picked: Tensor) -> Tensor:
    """Hidden states [n * slots, width] at the places ``picked`` [n, slots] of ``hidden`` [n, length, width]."""
    index = picked[:, :, None].expand(-1, -1, hidden.shape[-1])
    return torch.gather(hidden, 1, index).flatten(0, 1)


def loss(module: nn.Module, arrays: Mapping[str, Tensor]) -> dict[str, Tensor]:
    model = cast(PreTrainedModel, module)
    hidden = models.hidden_states(model, arrays["tokens"], arrays["segments"], arrays["positions"], causal=False)
    logits = models.masked_logits(model, hidden_at(hidden, arrays["picked"])).float()
    nats = F.cross_entropy(logits, arrays["labels"].flatten(), ignore_index=IGNORE, reduction="sum")
    return {"mlm": nats}


OBJECTIVE = Objective(
    name="mlm",
    version=1,
    weights={"mlm": 1.0},
    layout=layout,
    create=create,
    examples=examples,
    loss=loss,
    checkpoint=lambda module: cast(PreTrainedModel, module),
    per_byte=("masked_bits_per_byte", "mlm"),
    head_share=lambda task: task.config.mask_share,
)
