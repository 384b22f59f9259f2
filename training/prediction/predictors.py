"""The predictions of each task, of what its model puts out for rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import torch
import torch.nn.functional as F
from scipy.special import expit, softmax
from torch import Tensor, nn

from training.finetuning.confidence import conformal, costs, temperature
from training.finetuning.encoded import Encoded, Reader, encoded
from training.finetuning.forward import inputs
from training.finetuning.tasks.answers import Answers
from training.finetuning.tasks.base import Task
from training.finetuning.tasks.similarity import Similarity, pooled
from training.finetuning.tasks.tokens import OUTSIDE, Tokens, entities
from training.labelled import tags as schemes
from training.prediction.predictions import Answer, Label, Labels, Prediction, Score, Span, Tags, Text, Vector
from training.prediction.rows import Row, words_of

if TYPE_CHECKING:
    from training.prediction.model import Model

_STRINGS = pa.list_(pa.string())


class ScoredTokens(Tokens):
    """Outputs are float32 [length, 2]: the index of each piece's tag, and its probability."""

    def outputs(self, model: nn.Module, arrays: Mapping[str, Tensor]) -> list[np.ndarray]:
        shares, best = model(**inputs(model, arrays)).logits.float().softmax(-1).max(-1)
        return list(torch.stack([best.float(), shares], dim=-1).cpu().numpy())


class Vectors(Similarity):
    """Outputs are the vectors of single texts, float32 [width]."""

    def encode(self, reader: Reader, table: pa.Table) -> Encoded:
        return encoded(reader.read(table["text"].to_pylist()), reader.pad, {})

    def outputs(self, model: nn.Module, arrays: Mapping[str, Tensor]) -> list[np.ndarray]:
        hidden = model(**inputs(model, arrays)).last_hidden_state.float()
        made = F.normalize(pooled(hidden, arrays["mask"], self.config.similarity.pooling), dim=-1)
        return list(made.cpu().numpy())


def _labels(model: Model, rows: Sequence[Row], size: int) -> list[Prediction]:
    logits = np.stack(_outputs(model, _texts(rows), size))
    used = model.usage
    shares = temperature.probabilities(logits, used.temperature, used.spread, used.curve)
    best = logits.argmax(1)
    if used.costs:
        best = costs.decide(shares, costs.matrix(used.costs, model.labels), used.cost_threshold)
    sets: list[list[str] | None] = [None] * len(rows)
    if used.conformal is not None:
        masks = conformal.sets(shares, used.conformal.quantile)
        sets = [[model.labels[at] for at in np.flatnonzero(row)] for row in masks]
    return [
        Label(model.labels[at], dict(zip(model.labels, share.tolist(), strict=True)), labels)
        for at, share, labels in zip(best, shares, sets, strict=True)
    ]


def _several(model: Model, rows: Sequence[Row], size: int) -> list[Prediction]:
    shares = expit(np.stack(_outputs(model, _texts(rows), size)).astype(np.float64))
    given = model.usage.thresholds
    limits = [given[label] if isinstance(given, dict) else given for label in model.labels]
    return [
        Labels(
            [label for label, value, limit in zip(model.labels, share, limits, strict=True) if value >= limit],
            dict(zip(model.labels, share, strict=True)),
        )
        for share in shares.tolist()
    ]


def _scores(model: Model, rows: Sequence[Row], size: int) -> list[Prediction]:
    return [Score(float(value)) for value in _outputs(model, _texts(rows), size)]


def _tags(model: Model, rows: Sequence[Row], size: int) -> list[Prediction]:
    split = [words_of(row) for row in rows]
    table = pa.table({"words": pa.array([words for words, _ in split], _STRINGS)})
    data = model.task.encode(model.reader, table)
    outputs = model.task.all_outputs(model.model, data, size)
    tagged = model.task.predictions([each[:, 0].astype(np.int64) for each in outputs], data, table)
    made: list[Prediction] = []
    for row, (words, places), tags, output, pieces in zip(rows, split, tagged, outputs, data.places, strict=True):
        share = np.ones(len(words))
        first = np.flatnonzero(pieces >= 0)
        share[pieces[first]] = output[first, 1]
        spans = [
            Span(kind, row.text[start:end], start, end, float(share[at : to + 1].mean()))
            for kind, at, to in _spans(model, tags)
            for start, end in [(places[at][0], places[to][1])]
        ]
        made.append(Tags(spans, tags))
    return made


def _spans(model: Model, tags: Sequence[str]) -> list[tuple[str, int, int]]:
    """Type, first and last word of each entity; of tags that mark none, such as parts of speech, each word's."""
    if schemes.mark_entities(model.labels):
        return sorted(entities(tags), key=lambda entity: entity[1:])
    return [(tag, at, at) for at, tag in enumerate(tags) if tag != OUTSIDE]


def _answers(model: Model, rows: Sequence[Row], size: int) -> list[Prediction]:
    assert isinstance(model.task, Answers)
    table = pa.table({"question": [row.text for row in rows], "context": [row.pair for row in rows]})
    data = model.task.encode(model.reader, table)
    made: list[Prediction] = []
    for answer in model.task.predict(model.model, data, table, size):
        best = answer.spans[:1]
        none = answer.lead_of_none + best[0].score if best else 0.0
        shares = softmax([none, *(span.score for span in answer.spans)])
        if not best or answer.lead_of_none > model.task.threshold:
            made.append(Answer("", None, None, float(shares[0])))
        else:
            made.append(Answer(best[0].text, best[0].start, best[0].end, float(shares[1])))
    return made


def _written(model: Model, rows: Sequence[Row], size: int) -> list[Prediction]:
    table = _texts(rows)
    data = model.task.encode(model.reader, table)
    writing: Any = model.model.generation_config
    size = 1 if writing.do_sample else size  # so that each sample is drawn by its own text
    texts = model.task.predict(model.model, data, table, size)
    return [Text(text) for text in texts]


def _vectors(model: Model, rows: Sequence[Row], size: int) -> list[Prediction]:
    texts = [row.text for row in rows] + [row.pair for row in rows if row.pair is not None]
    vectors = _outputs(model, pa.table({"text": texts}), size)
    second = iter(vectors[len(rows) :])
    made: list[Prediction] = []
    for row, vector in zip(rows, vectors, strict=False):
        if row.pair is None:
            made.append(Vector(vector=vector.tolist()))
        else:
            made.append(Vector(cosine=float(np.dot(vector.astype(np.float64), next(second)))))
    return made


def _texts(rows: Sequence[Row]) -> pa.Table:
    pairs = {} if rows[0].pair is None else {"pair": [row.pair for row in rows]}
    return pa.table({"text": [row.text for row in rows], **pairs})


def _outputs(model: Model, table: pa.Table, size: int) -> list[np.ndarray]:
    return model.task.all_outputs(model.model, model.task.encode(model.reader, table), size)


#: By task the predictions for rows that are alike in having a second text, computed in batches of a size.
PREDICTORS: dict[str, Callable[[Model, Sequence[Row], int], list[Prediction]]] = {
    "classify": _labels,
    "multi_label": _several,
    "regression": _scores,
    "tokens": _tags,
    "answers": _answers,
    "text2text": _written,
    "similarity": _vectors,
}
#: Tasks that predict otherwise than they are judged.
TASKS: dict[str, type[Task]] = {"tokens": ScoredTokens, "similarity": Vectors}
