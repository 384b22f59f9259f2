"""What a fine-tuning task is: how its rows become examples, what is lost on them, and how well it is done."""

from __future__ import annotations

import abc
import inspect
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from training.batches.batch import Batch
from training.finetuning.encoded import Encoded, Reader
from training.finetuning.scores import Measure
from training.labelled.rows import Labelled
from training.loop.log import Metrics
from training.recipe.finetuning import FinetuneConfig


class Task(abc.ABC):
    """One task on one labelled set. ``auto`` is transformers' class that opens its models.

    ``weights`` are the parts of its loss (those of weight 0 are watched, not trained); ``main`` names the measure that
    it is judged by, of those that ``measures`` gives.
    """

    auto: ClassVar[Any]
    weights: ClassVar[Mapping[str, float]] = {"loss": 1.0}
    main: ClassVar[str]

    def __init__(self, config: FinetuneConfig, rows: Labelled) -> None:
        self.config, self.rows = config, rows

    @property
    def labels(self) -> list[str]:
        return self.rows.labels

    def fields(self) -> dict[str, Any]:
        """Fields of the model's configuration that make its head."""
        labels = self.labels
        named = {"id2label": dict(enumerate(labels)), "label2id": {label: at for at, label in enumerate(labels)}}
        return {"num_labels": len(labels), **named}

    @abc.abstractmethod
    def encode(self, reader: Reader, table: pa.Table) -> Encoded:
        """The rows of ``table`` as examples with their targets."""

    @abc.abstractmethod
    def loss(self, model: nn.Module, arrays: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The sum over a batch of each part of ``weights``."""

    def counts(self, arrays: Mapping[str, np.ndarray]) -> dict[str, int]:
        """What each part of the loss of a batch is divided by: the number of its examples."""
        return dict.fromkeys(self.weights, len(arrays["tokens"]))

    @abc.abstractmethod
    def outputs(self, model: nn.Module, arrays: Mapping[str, Tensor]) -> list[np.ndarray]:
        """What the model says of each example of a batch, for ``predictions``."""

    @abc.abstractmethod
    def predictions(self, outputs: list[np.ndarray], data: Encoded, table: pa.Table, /) -> Any:
        """What is predicted for each row of ``table``, of the outputs for the examples of it."""

    @abc.abstractmethod
    def measures(self, predictions: Any, table: pa.Table) -> list[Measure]:
        """How right ``predictions`` are, ``main`` among them; higher is better."""

    def error(self, metrics: Metrics) -> float:
        """What the best weights have least of, of the metrics on the development rows."""
        return metrics["loss"]

    def batch(self, data: Encoded, chosen: np.ndarray) -> Batch:
        arrays = data.arrays(chosen)
        return Batch(arrays, self.counts(arrays), int(arrays["mask"].sum()))

    @torch.no_grad()
    def predict(self, model: PreTrainedModel, data: Encoded, table: pa.Table, batch_size: int) -> Any:
        """``predictions`` of ``model`` for the rows of ``table``, whose examples ``data`` holds."""
        return self.predictions(self.all_outputs(model, data, batch_size), data, table)

    @torch.no_grad()
    def all_outputs(self, model: PreTrainedModel, data: Encoded, batch_size: int) -> list[np.ndarray]:
        """``outputs`` for every example, computed in order of length."""
        model.eval()
        order = np.argsort(data.lengths, kind="stable")
        made: list[np.ndarray] = [np.empty(0)] * len(data)
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            arrays = {name: torch.from_numpy(array).to(model.device) for name, array in data.arrays(chosen).items()}
            for at, output in zip(chosen, self.outputs(model, arrays), strict=True):
                made[at] = output
        return made


def inputs(model: nn.Module, arrays: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What the forward pass of ``model`` takes of a batch: token types where it tells them apart."""
    found = {"input_ids": arrays["tokens"], "attention_mask": arrays["mask"]}
    if typed(model):
        found["token_type_ids"] = arrays["types"]
    return found


def typed(model: nn.Module) -> bool:
    """Whether ``model`` has more than one token type."""
    config: Any = model.config
    return getattr(config, "type_vocab_size", 0) > 1 and "token_type_ids" in inspect.signature(model.forward).parameters
