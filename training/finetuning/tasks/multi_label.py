"""Any number of labels for a text: each is a yes or no of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import torch.nn.functional as F
from scipy.special import expit
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from training.finetuning import scores
from training.finetuning.confidence import thresholds
from training.finetuning.encoded import Encoded, Reader
from training.finetuning.long_text.pooling import logits
from training.finetuning.scores import Measure
from training.finetuning.tasks.base import Task
from training.loop.log import Metrics


class MultiLabel(Task):
    """Predictions are bool [rows, labels]; outputs are logits float32 [labels]."""

    auto = AutoModelForSequenceClassification
    main = "micro_f1"
    #: One for all labels, or float64 [labels] once they are chosen.
    limits: float | np.ndarray = thresholds.DEFAULT

    def prepare(self, _model: PreTrainedModel, /) -> None:
        self.limits = self.config.threshold or thresholds.DEFAULT

    def finish(self, model: PreTrainedModel, dev: Encoded, /) -> dict[str, Any]:
        """Choose the threshold of each label, unless the recipe gives one for all."""
        if self.config.threshold is not None:
            return {}
        shares = expit(np.stack(self.all_outputs(model, dev, self.config.batch_size)))
        self.limits = thresholds.fit(shares, self.marks(self.rows.dev))
        return {"thresholds": dict(zip(self.labels, self.limits.tolist(), strict=True))}

    def encode(self, reader: Reader, table: pa.Table) -> Encoded:
        targets = {"labels": list(self.marks(table).astype(np.float32))} if "labels" in table.column_names else {}
        return self.encode_texts(reader, table, targets)

    def marks(self, table: pa.Table) -> np.ndarray:
        """Which labels each row has: bool [rows, labels]."""
        index = {label: at for at, label in enumerate(self.labels)}
        made = np.zeros((len(table), len(index)), bool)
        for row, labels in enumerate(table["labels"].to_pylist()):
            made[row, [index[label] for label in labels]] = True
        return made

    def fields(self) -> dict[str, Any]:
        return {**super().fields(), "problem_type": "multi_label_classification"}

    def loss(self, model: nn.Module, arrays: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Binary cross-entropy in nats, the mean over the labels, as transformers has it."""
        scores = logits(model, arrays)
        nats = F.binary_cross_entropy_with_logits(scores, arrays["labels"], reduction="sum")
        return {"loss": nats / len(self.labels)}

    def outputs(self, model: nn.Module, arrays: Mapping[str, Tensor]) -> list[np.ndarray]:
        return list(logits(model, arrays).cpu().numpy())

    def predictions(self, outputs: list[np.ndarray], _data: Encoded, _table: pa.Table, /) -> np.ndarray:
        return expit(np.stack(outputs)) >= self.limits

    def measures(self, predictions: np.ndarray, table: pa.Table) -> list[Measure]:
        marks, groups = self.marks(table), table["group"].to_pylist()
        each = np.stack([marks & predictions, predictions, marks], axis=2)
        counts = scores.by_group(each, groups)
        exact = np.stack([(marks == predictions).all(1), np.ones(len(table))], axis=1)
        return [
            Measure("micro_f1", counts.sum(1), scores.f1),
            Measure("macro_f1", counts, lambda summed: scores.f1(summed).mean(-1)),
            Measure("exact_match", scores.by_group(exact, groups), scores.ratio),
        ]

    def judge(self, model: PreTrainedModel, dev: Encoded, /) -> Metrics:
        return self.measured(model, dev, self.rows.dev)

    def baselines(self) -> dict[str, np.ndarray]:
        """Those labels for every row that most training rows have; the most frequent one where none is."""
        share = self.marks(self.rows.train).mean(0)
        return {"majority": np.tile((share > 0.5) | (share == share.max()), (len(self.rows.test), 1))}
