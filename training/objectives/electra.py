"""Replaced token detection: a generator fills masked tokens, and a discriminator tells which tokens are not original.

Clark et al. 2020, "ELECTRA". Of the picked tokens 85 % become [MASK] and 15 % stay. The generator, a narrower model, is
trained on them by masked language modelling; at each picked place a token is drawn from its distribution. The
discriminator reads the text with these tokens and says of every token, special ones included, whether it was replaced;
one drawn equal to the original counts as original. Loss: generator + 50 x discriminator; no gradient passes through
the drawn tokens. The two share their embeddings (words, positions, types and their normalisation).

A token is drawn by one uniform number a place through the inverse of the cumulative distribution: the same law as the
largest sum of logit and Gumbel noise, without noise for the whole vocabulary; the number is a function of (seed, epoch,
position), so a run may be resumed and cut into micro-batches at will.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import ElectraConfig, ElectraForMaskedLM, ElectraForPreTraining

from training.batches import random_streams
from training.batches.batch import Batch
from training.batches.windows import IGNORE, NOTHING, Windows
from training.models import architectures
from training.objectives import masking, mlm
from training.objectives.base import Objective, Task
from training.recipe import objectives

MASKED = 0.85  # the rest stays


class Electra(nn.Module):
    """Generator and discriminator with the same embeddings; ``size`` is the vocabulary's, without its padding."""

    def __init__(self, generator: ElectraForMaskedLM, discriminator: ElectraForPreTraining, size: int) -> None:
        super().__init__()
        self.generator, self.discriminator, self.size = generator, discriminator, size
        generator.electra.embeddings = discriminator.electra.embeddings
        generator.tie_weights()


def configurations(task: Task) -> tuple[ElectraConfig, ElectraConfig]:
    """Of the generator and the discriminator. The generator has as many layers, and heads of the same width."""
    shape, share = task.config.shape, task.config.electra.generator
    config = architectures.configuration(shape, task.vocabulary, task.config.sequence_length)
    smaller = objectives.generator_sizes(task.config.name, shape, share)
    return cast(ElectraConfig, type(config)(**{**config.to_dict(), **smaller})), cast(ElectraConfig, config)


def create(task: Task) -> Electra:
    small, config = configurations(task)
    discriminator = cast(ElectraForPreTraining, architectures.create("pretraining", config, task.seed))
    generator = cast(
        ElectraForMaskedLM, architectures.create("masked", small, random_streams.seed("generator", task.seed))
    )
    return Electra(generator, discriminator, task.vocabulary.size)


def examples(task: Task, windows: Windows) -> Batch:
    """``tokens`` (masked), ``original``, ``segments``, ``positions`` int64 [n, length].

    ``picked``, ``labels`` int64 [n, slots], ``drawn`` float64 [n, slots]: the uniform number that each place's token is
    drawn by.
    """
    vocabulary = task.vocabulary
    tokens = masking.close_pieces(vocabulary, windows)
    inside = windows.segments != NOTHING
    drawn = random_streams.uniforms(windows.visits, (3, tokens.shape[1]), "electra", task.seed)
    candidates = inside & ~np.isin(tokens, vocabulary.special)
    picked, labels = masking.pick(tokens, candidates, drawn[:, 0], task.config.mask_share)
    arrays = {
        "tokens": masking.corrupt(tokens, picked, labels, drawn[:, 1], drawn[:, 1], vocabulary, MASKED, 0.0),
        "original": tokens,
        "segments": windows.segments.astype(np.int64),
        "positions": windows.positions,
        "picked": picked,
        "labels": labels,
        "drawn": drawn[:, 2, : labels.shape[1]],
    }
    picks, read = int((labels != IGNORE).sum()), int(inside.sum())
    counts = {"mlm": picks, "masked_accuracy": picks}
    counts |= dict.fromkeys(("discriminator", "replaced_accuracy", "original_share"), read)
    return Batch(arrays, counts, read)


@torch.no_grad()
def draw(logits: Tensor, uniform: Tensor, size: int) -> Tensor:
    """One of the first ``size`` entries by the softmax of ``logits`` [n, v], int64 [n]; ``uniform`` [n] in [0, 1)."""
    reached = F.softmax(logits[:, :size].float(), dim=-1).cumsum(-1)
    picks = torch.searchsorted(reached, uniform.to(reached.dtype)[:, None] * reached[:, -1:], right=True)
    return picks[:, 0].clamp(max=size - 1)


def replace(original: Tensor, picked: Tensor, labels: Tensor, sampled: Tensor) -> Tensor:
    """``original`` [n, length] with ``sampled`` [n, slots] at the ``picked`` places that have a label."""
    masked = labels != IGNORE
    # unused slots point at place 0, which holds [CLS] and is never picked: they write what stands there
    values = torch.where(masked, sampled, torch.gather(original, 1, picked))
    return original.scatter(1, picked, values)


def loss(module: nn.Module, arrays: Mapping[str, Tensor]) -> dict[str, Tensor]:
    electra = cast(Electra, module)
    segments, positions, labels = arrays["segments"], arrays["positions"], arrays["labels"]
    hidden = architectures.hidden_states(electra.generator, arrays["tokens"], segments, positions, causal=False)
    logits = architectures.masked_logits(electra.generator, masking.hidden_at(hidden, arrays["picked"])).float()
    nats = F.cross_entropy(logits, labels.flatten(), ignore_index=IGNORE, reduction="sum")

    sampled = draw(logits, arrays["drawn"].flatten(), electra.size).view_as(labels)
    tokens = replace(arrays["original"], arrays["picked"], labels, sampled)
    hidden = architectures.hidden_states(electra.discriminator, tokens, segments, positions, causal=False)
    scores = electra.discriminator.discriminator_predictions(hidden).float()
    replaced = (tokens != arrays["original"]).float()
    surprise = F.binary_cross_entropy_with_logits(scores, replaced, reduction="none")
    inside = segments != NOTHING
    right = (scores.detach() > 0) == (replaced > 0)
    return {
        "mlm": nats,
        "discriminator": (surprise * inside).sum(),
        "masked_accuracy": masking.right(logits, labels.flatten()),
        "replaced_accuracy": (right & inside).float().sum(),
        "original_share": ((replaced == 0) & inside).float().sum(),
    }


def flops(module: nn.Module, task: Task) -> float:
    electra, length = cast(Electra, module), task.config.sequence_length
    return architectures.flops_per_token(
        electra.generator, length, task.config.mask_share, task.pieces
    ) + architectures.flops_per_token(electra.discriminator, length, 1.0, task.pieces)


def weights(task: Task) -> dict[str, float]:
    """The accuracies are watched, not trained; ``original_share`` is what calling every token original would reach."""
    watched = dict.fromkeys(("masked_accuracy", "replaced_accuracy", "original_share"), 0.0)
    return {"mlm": 1.0, "discriminator": task.config.electra.weight, **watched}


OBJECTIVE = Objective(
    name="electra",
    version=2,
    weights=weights,
    order=mlm.order,
    create=create,
    examples=examples,
    loss=loss,
    checkpoint=lambda module: cast(Electra, module).discriminator,
    companions=lambda module: {"generator": cast(Electra, module).generator},
    flops=flops,
)
