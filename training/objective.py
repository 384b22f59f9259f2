"""What an objective is: documents made into examples with noise, and the loss of a model on them.

A file in ``training/objectives`` reads: its paper, an ``examples`` function (numpy, pure), a ``loss`` function (torch),
and an ``OBJECTIVE`` that names them. Every loss is a dict of sums, divided later by what the whole batch holds, so that
gradient accumulation gives the gradient of the batch (transformers#34373).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from torch import Tensor, nn
from transformers import PreTrainedModel

from training.models import Vocabulary
from training.order import Layout, Windows
from training.recipe import PretrainConfig


@dataclass(frozen=True)
class Batch:
    """Examples as arrays whose first axis is the sequence, and for each part of the loss what its sum is divided by.

    ``tokens`` counts the tokens of documents in it, without padding.
    """

    arrays: Mapping[str, np.ndarray]
    counts: Mapping[str, int]
    tokens: int


@dataclass(frozen=True)
class Task:
    """What ``examples`` may depend on: the run's config, its tokenizer and a seed. Small and picklable."""

    config: PretrainConfig
    vocabulary: Vocabulary
    seed: int


@dataclass(frozen=True)
class Objective:
    """A way to pretrain.

    ``version`` is raised whenever the same windows would give other examples or another loss.
    ``weights`` names the parts of the loss and what each weighs.
    ``create(task)`` draws new weights from the task's seed.
    ``examples(task, windows)`` must be pure, and each example depend on its own window and visit only.
    ``loss(module, arrays)`` gives the sum of each part, in nats.
    ``checkpoint(module)`` is the model that users get.
    ``per_byte`` names a measure of held-out text, and the part of the loss that it spreads over the text's bytes.
    ``head_share(task)`` is the share of positions at which the output head is computed.
    """

    name: str
    version: int
    weights: Mapping[str, float]
    layout: Callable[[Vocabulary], Layout]
    create: Callable[[Task], nn.Module]
    examples: Callable[[Task, Windows], Batch]
    loss: Callable[[nn.Module, Mapping[str, Tensor]], dict[str, Tensor]]
    checkpoint: Callable[[nn.Module], PreTrainedModel]
    per_byte: tuple[str, str]
    head_share: Callable[[Task], float] = lambda _task: 1.0
