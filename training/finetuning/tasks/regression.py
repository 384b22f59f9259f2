"""A number for a text, or for a pair of texts; classes that have an order are numbers, too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import pyarrow as pa
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from training.finetuning import correlation, ordinal
from training.finetuning.encoded import Encoded, Reader
from training.finetuning.long_text.pooling import logits
from training.finetuning.scores import Measure
from training.finetuning.tasks.base import Task


class Regression(Task):
    """Predictions are float64 [rows]; outputs are float32 scalars.

    Training is by scores of mean 0 and deviation 1, so that a rate suits any scale; the last layer of the model that is
    published gives scores as they are in the rows. Few whole numbers are classes with an order, and judged so, too.
    """

    auto = AutoModelForSequenceClassification
    main = "spearman"

    def encode(self, reader: Reader, table: pa.Table) -> Encoded:
        targets = {"scores": list(_scores(table).astype(np.float32))} if "score" in table.column_names else {}
        return self.encode_texts(reader, table, targets)

    def prepare(self, model: PreTrainedModel, /) -> None:
        """Take mean and deviation of the training rows; a last layer without bias (GPT-2, Llama) has no place for a
        mean."""
        scores = _scores(self.rows.train)
        self.mean = float(scores.mean()) if all(layer.bias is not None for layer in _heads(model)) else 0.0
        self.deviation = float(scores.std()) or 1.0

    def fields(self) -> dict[str, Any]:
        name = self.config.label
        return {"num_labels": 1, "id2label": {0: name}, "label2id": {name: 0}, "problem_type": "regression"}

    def loss(self, model: nn.Module, arrays: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The squared error, in squared deviations."""
        outputs = logits(model, arrays)[:, 0]
        wanted = (arrays["scores"] - self.mean) / self.deviation
        return {"loss": F.mse_loss(outputs, wanted, reduction="sum")}

    @torch.no_grad()
    def finish(self, model: PreTrainedModel, _dev: Encoded, /) -> dict[str, Any]:
        """Let the last layer give scores on the scale of the rows."""
        for layer in _heads(model):
            layer.weight.mul_(self.deviation)
            if layer.bias is not None:
                layer.bias.mul_(self.deviation).add_(self.mean)
        return {}

    def outputs(self, model: nn.Module, arrays: Mapping[str, Tensor]) -> list[np.ndarray]:
        return list(logits(model, arrays)[:, 0].cpu().numpy())

    def predictions(self, outputs: list[np.ndarray], _data: Encoded, _table: pa.Table, /) -> np.ndarray:
        return np.array(outputs, np.float64)

    def measures(self, predictions: np.ndarray, table: pa.Table) -> list[Measure]:
        true, groups = _scores(table), table["group"].to_pylist()
        measures = correlation.measures(predictions, true, groups)
        classes = ordinal.classes(map(_scores, (self.rows.train, self.rows.dev, self.rows.test)))
        return measures if classes is None else [*measures, *ordinal.measures(predictions, true, classes, groups)]

    def baselines(self) -> dict[str, np.ndarray]:
        return {"mean": np.full(len(self.rows.test), _scores(self.rows.train).mean())}


def _heads(model: nn.Module) -> list[nn.Linear]:
    """The layers over the encoder that give one number: the last of the model."""
    inner = {id(layer) for layer in cast(Any, model).base_model.modules()}  # where a LoRA of rank 1 gives one, too
    return [
        layer
        for layer in model.modules()
        if isinstance(layer, nn.Linear) and layer.out_features == 1 and id(layer) not in inner
    ]


def _scores(table: pa.Table) -> np.ndarray:
    return np.array(table["score"].to_pylist(), np.float64)
