"""A label for a text, or for a pair of texts.

Devlin et al. 2019, "BERT", section 4: a linear layer on the first token's pooled state, all weights trained.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification

from training.finetuning import scores
from training.finetuning.encoded import Encoded, Reader
from training.finetuning.long_text import windows
from training.finetuning.long_text.pooling import logits
from training.finetuning.rungs.base import joined
from training.finetuning.scores import Measure
from training.finetuning.tasks.base import Task, pairs
from training.recipe.long_text import Head


class Classify(Task):
    """Predictions are int64 [rows], an index of ``labels`` each; outputs are logits float32 [labels]."""

    auto = AutoModelForSequenceClassification
    weights = {"loss": 1.0, "accuracy": 0.0}
    main = "accuracy"

    def encode(self, reader: Reader, table: pa.Table) -> Encoded:
        targets = {"labels": list(self.indices(table))} if "label" in table.column_names else {}
        return self.encode_texts(reader, table, targets)

    def indices(self, table: pa.Table) -> np.ndarray:
        """The label of each row as an index of ``labels``: int64 [rows]."""
        index = {label: at for at, label in enumerate(self.labels)}
        return np.array([index[label] for label in table["label"].to_pylist()], np.int64)

    def texts_read(self, reader: Reader, table: pa.Table) -> list[str]:
        """What the model reads of each row, as one text: for baselines that are to see no more."""
        texts, seconds = table["text"].to_pylist(), pairs(table)
        if not isinstance(self.config.long_text, Head):
            return [text.text for text in windows.read(reader, texts, self.config.long_text)]
        made = []
        for row, encoding in enumerate(reader.read(texts, seconds)):
            ends = [0, 0]
            for of, (_, end) in zip(encoding.sequence_ids, encoding.offsets, strict=True):
                if of is not None:
                    ends[of] = max(ends[of], end)
            first = texts[row][: ends[0]]
            made.append(first if seconds is None else joined(first, seconds[row][: ends[1]]))
        return made

    def fields(self) -> dict:
        return {**super().fields(), "problem_type": "single_label_classification"}

    def loss(self, model: nn.Module, arrays: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Cross-entropy in nats, and how many are right."""
        scores = logits(model, arrays)
        right = (scores.detach().argmax(1) == arrays["labels"]).float().sum()
        return {"loss": F.cross_entropy(scores, arrays["labels"], reduction="sum"), "accuracy": right}

    def outputs(self, model: nn.Module, arrays: Mapping[str, Tensor]) -> list[np.ndarray]:
        return list(logits(model, arrays).cpu().numpy())

    def predictions(self, outputs: list[np.ndarray], _data: Encoded, _table: pa.Table, /) -> np.ndarray:
        return np.stack(outputs).argmax(1)

    def measures(self, predictions: np.ndarray, table: pa.Table) -> list[Measure]:
        groups = table["group"].to_pylist()
        return scores.of_classes(scores.confusion(self.indices(table), predictions, groups, len(self.labels)))
