"""What an objective is: documents made into examples with noise, and the loss of a model on them.

A file in ``training/objectives`` reads: its paper, an ``examples`` function (numpy, pure), a ``loss`` function (torch),
and an ``OBJECTIVE`` that names them. Every loss is a dict of sums, divided later by what the whole batch holds, so that
gradient accumulation gives the gradient of the batch (transformers#34373).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor, nn
from transformers import PreTrainedModel

from pipeline.store.packed_tokens import PackedTokens
from training.batches.batch import Batch
from training.batches.vocabulary import Vocabulary
from training.batches.windows import Reader, Windows
from training.recipe.objectives import Declared
from training.recipe.pretraining import PretrainConfig


@dataclass(frozen=True)
class Task:
    """What an objective may depend on: the run's config, its tokenizer and a seed. Small and picklable.

    ``teacher`` is the folder of the model that a distilled one learns from. ``continuing`` (bool [vocabulary]) says
    which tokens go on with a word, ``odds`` (float64 [vocabulary]) how likely each is to be masked beside others; None:
    each token is a word, and as likely as any. ``pieces`` (int64 [n]) are tokens of the pieces of documents that
    windows hold, for what attention costs; None: a window counts as one.
    """

    config: PretrainConfig
    vocabulary: Vocabulary
    seed: int
    teacher: str | None = None
    continuing: np.ndarray | None = None
    odds: np.ndarray | None = None
    pieces: np.ndarray | None = None

    @property
    def seen(self) -> float | None:
        """The share of a window that a token of it sees on average, by ``pieces``."""
        if self.pieces is None:
            return None
        return float((self.pieces**2).sum() / self.pieces.sum() / self.config.sequence_length)


@dataclass(frozen=True)
class Objective(Declared):
    """A way to pretrain.

    ``version`` is raised whenever the same documents would give other examples or another loss.
    ``weights(task)`` names the parts of the loss and what each weighs.
    ``informed(task, packed, tokenizer)`` is the task with what it must know of the packed tokens to train on and of the
    tokenizer in a folder.
    ``order(task, packed, seed, repeat)`` reads packed documents; each once an epoch unless ``repeat``.
    ``create(task)`` draws new weights from the task's seed.
    ``examples(task, windows)`` must be pure, and each example depend on its own window and visit only.
    ``loss(module, arrays)`` gives the sum of each part.
    ``checkpoint(module)`` is the model that users get; ``companions(module)`` are others, published inside its folder.
    ``added_tokens(task)`` are appended to the tokenizer that users get with it, in the order of their ids.
    ``per_byte`` names a measure of held-out text, and the part of the loss that it spreads over the text's bytes.
    ``flops(module, task)`` are those of forward and backward for one token of the documents.
    """

    version: int
    weights: Callable[[Task], Mapping[str, float]]
    order: Callable[[Task, PackedTokens, int, bool], Reader]
    create: Callable[[Task], nn.Module]
    examples: Callable[[Task, Windows], Batch]
    loss: Callable[[nn.Module, Mapping[str, Tensor]], dict[str, Tensor]]
    checkpoint: Callable[[nn.Module], PreTrainedModel]
    flops: Callable[[nn.Module, Task], float]
    per_byte: tuple[str, str] | None = None
    informed: Callable[[Task, PackedTokens, str], Task] = lambda task, _packed, _tokenizer: task
    companions: Callable[[nn.Module], Mapping[str, PreTrainedModel]] = lambda _module: {}
    added_tokens: Callable[[Task], Sequence[str]] = lambda _task: ()

    @property
    def made_by(self) -> int | list[int | str]:
        """What of it is part of fingerprints."""
        return self.version if self.plugin is None else [self.version, self.plugin.made_by]
