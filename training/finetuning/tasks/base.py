"""What a fine-tuning task is: how its rows become examples, what is lost on them, and how well it is done."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from training.batches.batch import Batch
from training.finetuning import deadline
from training.finetuning.encoded import Encoded, Reader, encoded
from training.finetuning.forward import inputs as inputs  # where tasks look for it
from training.finetuning.long_text import windows
from training.finetuning.scores import Measure
from training.labelled.rows import Labelled
from training.loop.log import Metrics
from training.models import architectures
from training.recipe.finetuning import FinetuneConfig
from training.recipe.long_text import Head
from training.recipe.tasks import Declared


class Task(abc.ABC):
    """One task on one labelled set. ``auto`` is transformers' class that opens its models.

    ``weights`` are the parts of its loss (those of weight 0 are watched, not trained); ``main`` names the measure that
    it is judged by, of those that ``measures`` gives.
    """

    auto: ClassVar[Any]
    weights: ClassVar[Mapping[str, float]] = {"loss": 1.0}
    main: str

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

    def encode_texts(self, reader: Reader, table: pa.Table, targets: dict[str, list[np.ndarray]]) -> Encoded:
        """The texts of ``table``, or pairs, as examples with ``targets``: as much as the recipe reads of each."""
        texts = table["text"].to_pylist()
        if isinstance(self.config.long_text, Head):
            return encoded(reader.read(texts, pairs(table)), reader.pad, targets)
        return windows.encode(reader, texts, self.config.long_text, targets)

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

    def parts(self, _predictions: Any, _table: pa.Table, /) -> dict[str, list[Measure]]:
        """Measures of parts of what is predicted, by the name of the part; none by default."""
        return {}

    def prepare(self, _model: PreTrainedModel, /) -> None:  # noqa: B027
        """Set up the model, as it was loaded, before training."""

    def judge(self, _model: PreTrainedModel, _dev: Encoded, /) -> Metrics:
        """Measures on the development rows that are no sum over examples, in each epoch; none by default."""
        return {}

    def finish(self, _model: PreTrainedModel, _dev: Encoded, /) -> dict[str, Any]:
        """Complete the best weights before they are tested and published; what was chosen, for the summary."""
        return {}

    def baselines(self) -> dict[str, Any]:
        """Predictions for the test rows that need no model, by name."""
        return {}

    def error(self, metrics: Metrics) -> float:
        """What the best weights have least of, of the metrics on the development rows.

        Of equal values of the main measure, the least loss; the loss alone where the measure is not among them.
        """
        if self.main not in metrics:
            return metrics["loss"]
        return 1 - metrics[self.main] + 1e-6 * metrics["loss"] / (1 + metrics["loss"])

    def flops_per_token(self, model: PreTrainedModel, data: Encoded) -> float:
        """Floating-point operations of forward and backward for one token of an example of mean length."""
        lengths = np.concatenate(data.targets["windows"]) if "windows" in data.targets else data.lengths
        return architectures.flops_per_token(model, round(float(lengths.mean())))

    def batch(self, data: Encoded, chosen: np.ndarray) -> Batch:
        arrays = data.arrays(chosen)
        return Batch(arrays, self.counts(arrays), int(arrays["mask"].sum()))

    def measured(self, model: PreTrainedModel, data: Encoded, table: pa.Table) -> Metrics:
        """The main measure of ``model`` on the rows of ``table``."""
        measures = self.measures(self.predict(model, data, table, self.config.batch_size), table)
        return {m.name: m.score for m in measures if m.name == self.main}

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
            deadline.check()
            chosen = order[start : start + batch_size]
            arrays = {name: torch.from_numpy(array).to(model.device) for name, array in data.arrays(chosen).items()}
            for at, output in zip(chosen, self.outputs(model, arrays), strict=True):
                made[at] = output
        return made


@dataclass(frozen=True)
class FinetuningTask(Declared):
    """A task that a plug-in adds: ``make`` is a class derived from one of the program's tasks, or from Task."""

    make: Callable[[FinetuneConfig, Labelled], Task]


def pairs(table: pa.Table) -> list[str] | None:
    """The second texts of ``table``, where it has two."""
    return table["pair"].to_pylist() if "pair" in table.column_names else None
