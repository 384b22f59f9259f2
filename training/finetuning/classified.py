"""What the summary of a classifier says: baselines, how true its confidence is, where it fails, what it got wrong.

Baselines are rungs of the cost ladder. They read exactly the text that the model reads, learn from the training rows
and choose their settings by the development rows, as it does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from training.finetuning import scores, suspects
from training.finetuning.confidence import assess, calibration, slices, temperature
from training.finetuning.confidence import costs as error_costs
from training.finetuning.rungs import classical, overlap, word_vectors
from training.finetuning.rungs.base import Examples, Fitted
from training.finetuning.suspects import EXCERPT
from training.labelled.kinds import KINDS
from training.labelled.rows import Labelled

MOST_ERRORS = 20  # that are shown
_NO_SLICES = {"id", "group", "place", "pair", *KINDS["classify"].columns}


def describe(
    train: Examples, dev: Examples, test: Examples, rows: Labelled, dev_logits: np.ndarray, logits: np.ndarray,
    embeddings: Mapping[str, str], costs: Mapping[str, Mapping[str, float]],
) -> dict[str, Any]:  # fmt: skip
    """Plain values for the summary. The three sets hold what the model reads of ``rows``.

    Logits float [rows, labels] of development and test rows; ``embeddings`` are folders of word vectors by name;
    ``costs`` are those of errors, by label and answer.
    """
    predicted, labels, table = logits.argmax(1), rows.labels, rows.test
    bag_of_words = classical.tf_idf(train, dev, len(labels))
    fitted: dict[str, Fitted] = {
        "bag_of_words": bag_of_words,
        **{name: word_vectors.fit(folder)(train, dev, len(labels)) for name, folder in embeddings.items()},
        **({"overlap": overlap.fit(train, dev, len(labels))} if "pair" in table.column_names else {}),
        "majority": classical.majority(train, dev, len(labels)),
    }
    asked = {name: each.predict_proba(test.texts).argmax(1) for name, each in fitted.items()}
    measures = {name: _measures(test, each, len(labels)) for name, each in {"model": predicted, **asked}.items()}
    ours, bag = measures["model"], measures["bag_of_words"]
    right = predicted == test.labels
    confidence = assess.assess(dev_logits, dev.labels, logits, test.labels, test.groups)
    scaling = temperature.Scaling(*(confidence[name] for name in temperature.Scaling._fields))
    by_cost = _by_cost(dev, test, dev_logits, logits, scaling, costs, labels) if costs else None
    if by_cost is not None:
        measures["least_cost"] = _measures(test, by_cost.answers, len(labels))
    return {
        "scores": {name: {m.name: asdict(m.interval()) for m in each} for name, each in measures.items()},
        "lead_over_bag_of_words": {
            mine.name: asdict(scores.interval(mine.value, mine.counts, other.counts))
            for mine, other in zip(ours, bag, strict=True)
        },
        "mcnemar": {name: asdict(scores.mcnemar(right, each == test.labels)) for name, each in asked.items()},
        "confusion": ours[0].counts.sum(0).tolist(),
        "confidence": confidence,
        "slices": [{**asdict(each), "fails": each.fails} for each in _slices(right, test, table)],
        "suspects": suspects.find(bag_of_words, rows, (train, dev, test), right),
        "errors": errors(temperature.probabilities(logits, *scaling), test, table, labels),
        **({} if by_cost is None else {"costs": by_cost.said}),
    }


class _ByCost(NamedTuple):
    """The ``answers`` of the least cost for the test rows, int64 [n], and what the summary says of them."""

    answers: np.ndarray
    said: dict[str, Any]


def _by_cost(
    dev: Examples, test: Examples, dev_logits: np.ndarray, logits: np.ndarray, scaling: temperature.Scaling,
    given: Mapping[str, Mapping[str, float]], labels: list[str],
) -> _ByCost:  # fmt: skip
    """What a test row costs on average by the most probable label, and by the label of the least cost."""
    cost = error_costs.matrix(given, labels)
    dev_shares, shares = (temperature.probabilities(side, *scaling) for side in (dev_logits, logits))
    limit = error_costs.threshold(dev_shares, dev.labels, cost) if len(labels) == 2 else None

    def mean(answers: np.ndarray) -> dict[str, float]:
        counts = np.stack([cost[test.labels, answers], np.ones(len(test))], 1)
        return asdict(scores.interval(scores.ratio, scores.by_group(counts, test.groups)))

    answers = error_costs.decide(shares, cost, limit)
    said = {"threshold": limit, "most_probable": mean(shares.argmax(1)), "least_cost": mean(answers)}
    return _ByCost(answers, said)


def errors(probabilities: np.ndarray, test: Examples, table: pa.Table, labels: list[str]) -> list[dict[str, Any]]:
    """The MOST_ERRORS wrong predictions that the model is surest of, the surest first."""
    sure, predicted = calibration.confidences(probabilities), probabilities.argmax(1)
    wrong = np.flatnonzero(predicted != test.labels)
    ids, places = table["id"].to_pylist(), table["place"].to_pylist()
    return [
        {
            "id": ids[row],
            "place": places[row],
            "text": test.texts[row][:EXCERPT],
            "label": labels[test.labels[row]],
            "predicted": labels[predicted[row]],
            "confidence": float(sure[row]),
        }
        for row in wrong[np.argsort(-sure[wrong], kind="stable")][:MOST_ERRORS]
    ]


def _measures(test: Examples, predicted: np.ndarray, classes: int) -> list[scores.Measure]:
    return scores.of_classes(scores.confusion(test.labels, predicted, test.groups, classes))


def _slices(right: np.ndarray, test: Examples, table: pa.Table) -> list[slices.Slice]:
    """By length, and by every further column of text."""
    further = [
        name for name in table.column_names if name not in _NO_SLICES and table.schema.field(name).type == pa.string()
    ]
    columns = {"length": slices.by_length(test.texts), **{name: table[name].to_pylist() for name in further}}
    return slices.find(right, test.groups, columns)
