"""Vectors of texts, so that texts that mean the same have like directions.

Reimers and Gurevych 2019, "Sentence-BERT": one encoder reads both texts of a pair, and a pooling of its last hidden
states is the vector. Contrasts: each text with the second one of its pair against those of the other pairs in the batch
(multiple negatives, Henderson et al. 2017), or the cosine against the score.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import torch
import torch.nn.functional as F
from sklearn.feature_extraction.text import HashingVectorizer
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedModel

from training.finetuning import correlation, scores
from training.finetuning.bases import WrongBase
from training.finetuning.encoded import IGNORED, Encoded, Reader, encoded
from training.finetuning.forward import inputs
from training.finetuning.scores import Measure
from training.finetuning.tasks.base import Task
from training.labelled.rows import Labelled
from training.loop.log import Metrics
from training.recipe.finetuning import FinetuneConfig, Pooling

#: Cosines are multiplied by this before the softmax over the pairs of a batch (Reimers' sentence-transformers).
SCALE = 20.0
#: Pairs with this score or a higher one are alike.
ALIKE = 0.5
_WORDS = 1_024  # numbers that words are hashed to
_ROWS = 1_024  # rows that are compared with all others at once


class Similarity(Task):
    """Predictions are float32 [rows, 2, width], the vectors of both texts; outputs are those of a row.

    Judged by Spearman's correlation of cosine and score; where all scores are equal, by how often the second text of a
    pair is the nearest of all.
    """

    auto = AutoModel

    def __init__(self, config: FinetuneConfig, rows: Labelled) -> None:
        super().__init__(config, rows)
        self.main = "spearman" if len(set(rows.test["score"].to_pylist())) > 1 else "nearest"

    def fields(self) -> dict[str, Any]:
        return {}

    def encode(self, reader: Reader, table: pa.Table) -> Encoded:
        other = [np.array(one.ids, np.int64) for one in reader.read(table["pair"].to_pylist())]
        targets = {"other": other}
        if "score" in table.column_names:
            targets["scores"] = list(np.array(table["score"].to_pylist(), np.float32))
        self.pad = reader.pad
        return encoded(reader.read(table["text"].to_pylist()), reader.pad, targets)

    def prepare(self, model: PreTrainedModel, /) -> None:
        """Leave alone what the pooling does not read: the layer over the first token of BERT and its kin."""
        if getattr(model.config, "is_encoder_decoder", False):
            raise WrongBase(
                f"{self.config.base}: {model.config.model_type} writes texts; the task similarity needs an encoder,"
                " such as BERT or RoBERTa"
            )
        for name, parameter in model.named_parameters():
            if "pooler." in name:
                parameter.requires_grad_(False)

    def counts(self, arrays: Mapping[str, np.ndarray]) -> dict[str, int]:
        scored = arrays["scores"]
        return {"loss": len(scored) if self.config.similarity.contrast == "cosine" else int((scored >= ALIKE).sum())}

    def vectors(self, model: nn.Module, arrays: Mapping[str, Tensor]) -> Tensor:
        """The vectors of both texts, of length 1: [2, rows, width]."""
        other = arrays["other"]
        known = other != IGNORED
        second = {"tokens": other.where(known, self.pad), "types": torch.zeros_like(other), "mask": known.long()}
        sides = []
        for side in (arrays, second):
            hidden = model(**inputs(model, side)).last_hidden_state.float()
            sides.append(F.normalize(pooled(hidden, side["mask"], self.config.similarity.pooling), dim=-1))
        return torch.stack(sides)

    def loss(self, model: nn.Module, arrays: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The squared difference of cosine and score, or the cross-entropy of the right second text in nats."""
        first, second = self.vectors(model, arrays)
        scored = arrays["scores"]
        if self.config.similarity.contrast == "cosine":
            return {"loss": F.mse_loss((first * second).sum(-1), scored, reduction="sum")}
        same = _equal(arrays["tokens"]) | _equal(arrays["other"])  # the same text is no negative
        own = torch.eye(len(scored), dtype=torch.bool, device=scored.device)
        logits = (SCALE * first @ second.T).masked_fill(same & ~own, -torch.inf)
        nats = F.cross_entropy(logits, torch.arange(len(scored), device=scored.device), reduction="none")
        return {"loss": (nats * (scored >= ALIKE)).sum()}

    def outputs(self, model: nn.Module, arrays: Mapping[str, Tensor]) -> list[np.ndarray]:
        return list(self.vectors(model, arrays).transpose(0, 1).cpu().numpy())

    def predictions(self, outputs: list[np.ndarray], _data: Encoded, _table: pa.Table, /) -> np.ndarray:
        return np.stack(outputs)

    def measures(self, predictions: np.ndarray, table: pa.Table) -> list[Measure]:
        scored, groups = np.array(table["score"].to_pylist(), np.float64), table["group"].to_pylist()
        cosine = (predictions[:, 0] * predictions[:, 1]).sum(-1).astype(np.float64)
        spearman, pearson, _ = correlation.measures(cosine, scored, groups)
        alike = scored >= ALIKE
        nearest = np.stack([is_nearest(predictions) & alike, alike], axis=1)
        return [spearman, pearson, Measure("nearest", scores.by_group(nearest, groups), scores.ratio)]

    def judge(self, model: PreTrainedModel, dev: Encoded, /) -> Metrics:
        return self.measured(model, dev, self.rows.dev)

    def finish(self, _model: PreTrainedModel, _dev: Encoded, /) -> dict[str, Any]:
        return {"pooling": self.config.similarity.pooling}

    def baselines(self) -> dict[str, np.ndarray]:
        """Counts of words."""
        words: Any = HashingVectorizer(n_features=_WORDS, alternate_sign=False)
        sides = [words.transform(self.rows.test[name].to_pylist()).toarray() for name in ("text", "pair")]
        return {"bag_of_words": np.stack(sides, axis=1, dtype=np.float32, casting="same_kind")}


def pooled(hidden: Tensor, mask: Tensor, pooling: Pooling) -> Tensor:
    """One vector of hidden states [rows, length, width] where ``mask`` [rows, length] is 1: [rows, width]."""
    seen = mask[..., None].bool()
    match pooling:
        case "cls":
            return hidden[:, 0]
        case "max":
            return hidden.masked_fill(~seen, -torch.inf).amax(1)
        case _:
            return (hidden * seen).sum(1) / seen.sum(1)


def is_nearest(vectors: np.ndarray) -> np.ndarray:
    """Whether no second text is nearer to a first one than its own: bool [rows], of vectors [rows, 2, width]."""
    first, second = vectors[:, 0], vectors[:, 1]
    own = (first * second).sum(-1)
    best = [(first[at : at + _ROWS] @ second.T).max(1) for at in range(0, len(first), _ROWS)]
    return own >= np.concatenate(best) - 1e-6


def _equal(ids: Tensor) -> Tensor:
    """Which rows of ``ids`` [rows, length] are alike: bool [rows, rows]."""
    return (ids[:, None] == ids[None]).all(-1)
