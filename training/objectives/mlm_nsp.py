"""BERT as published: masked tokens, and whether the second segment follows the first.

Devlin et al. 2019, "BERT". Two segments stand in a sequence, [CLS] A [SEP] B [SEP], A of token type 0 and B of type 1.
In half of the visits B follows A in its document, in the others it comes from another document; the pooled state of
[CLS] tells which (label 0: it follows). The loss is the mean over masked tokens plus the mean over pairs. Tokens are
masked as in ``mlm``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from pipeline.store.packed_tokens import PackedTokens
from training.batches import random_streams
from training.batches.batch import Batch
from training.batches.segment_pairs import PairOrder, Pairs
from training.batches.windows import IGNORE, NOTHING, Windows
from training.models import architectures
from training.objectives import masking, mlm
from training.objectives.base import Objective, Task

_SCORES: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "bert": lambda model, hidden: model.cls.seq_relationship(model.bert.pooler(hidden)),
    "albert": lambda model, hidden: model.sop_classifier(
        model.albert.pooler_activation(model.albert.pooler(hidden[:, 0]))
    ),
}


def order(task: Task, packed: PackedTokens, seed: int, repeat: bool = True) -> PairOrder:
    """Raises MillError where the tokenizer lacks a token that the objective needs."""
    masking.layout(task.config.objective, task.vocabulary)
    return PairOrder(packed, task.vocabulary, task.config.sequence_length, seed, "next", repeat)


def create(task: Task) -> PreTrainedModel:
    config = architectures.configuration(task.config.shape, task.vocabulary, task.config.sequence_length)
    return architectures.create("pretraining", config, task.seed)


def examples(task: Task, windows: Windows) -> Batch:
    """The arrays of ``mlm``, ``types`` int64 [n, length], and ``pairs`` int64 [n]: 0 where B follows A."""
    tokens, vocabulary = windows.tokens, task.vocabulary
    drawn = random_streams.uniforms(windows.visits, (3, tokens.shape[1]), "mlm", task.seed)
    picked, labels = masking.pick(tokens, ordinary(task, windows), drawn[:, 0], task.config.mask_share)
    spoilt = masking.corrupt(tokens, picked, labels, drawn[:, 1], drawn[:, 2], vocabulary, mlm.MASKED, mlm.RANDOM)
    return batch(cast(Pairs, windows), spoilt, picked, labels)


def ordinary(task: Task, windows: Windows) -> np.ndarray:
    """Tokens that may be masked, bool [n, length]: neither special nor padding."""
    return (windows.segments != NOTHING) & ~np.isin(windows.tokens, task.vocabulary.special)


def batch(pairs: Pairs, tokens: np.ndarray, picked: np.ndarray, labels: np.ndarray) -> Batch:
    arrays = {
        "tokens": tokens,
        "segments": pairs.segments.astype(np.int64),
        "positions": pairs.positions,
        "types": pairs.types,
        "picked": picked,
        "labels": labels,
        "pairs": (~pairs.follows).astype(np.int64),
    }
    picks = int((labels != IGNORE).sum())
    counts = {"mlm": picks, "pairs": len(tokens), "masked_accuracy": picks, "pairs_accuracy": len(tokens)}
    return Batch(arrays, counts, int((pairs.segments != NOTHING).sum()))


def loss(module: nn.Module, arrays: Mapping[str, Tensor]) -> dict[str, Tensor]:
    model = cast(PreTrainedModel, module)
    hidden = architectures.hidden_states(
        model, arrays["tokens"], arrays["segments"], arrays["positions"], causal=False, types=arrays["types"]
    )
    logits = architectures.masked_logits(model, masking.hidden_at(hidden, arrays["picked"])).float()
    scores = _SCORES[model.config.model_type](model, hidden).float()
    labels = arrays["labels"].flatten()
    return {
        "mlm": F.cross_entropy(logits, labels, ignore_index=IGNORE, reduction="sum"),
        "pairs": F.cross_entropy(scores, arrays["pairs"], reduction="sum"),
        "masked_accuracy": masking.right(logits, labels),
        "pairs_accuracy": masking.right(scores, arrays["pairs"]),
    }


OBJECTIVE = Objective(
    name="mlm_nsp",
    version=2,
    weights=lambda _task: {"mlm": 1.0, "pairs": 1.0, "masked_accuracy": 0.0, "pairs_accuracy": 0.0},
    order=order,
    create=create,
    examples=examples,
    loss=loss,
    checkpoint=lambda module: cast(PreTrainedModel, module),
    flops=mlm.flops,
    per_byte=("masked_bits_per_byte", "mlm"),
)
