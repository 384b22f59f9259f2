"""Which vector of a text tells its label best: the first token's state ([CLS]), the mean of all, or their maximum.

Of the last layer of the frozen base, each with a logistic head, as in Reimers and Gurevych 2019 ("Sentence-BERT").
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from training.finetuning import scores
from training.finetuning.understanding.probes import counted, fitted
from training.finetuning.understanding.states import POOLED, Vectors

WAYS = (POOLED[0], "mean", POOLED[1])


def run(sets: Mapping[str, Vectors], classes: int) -> dict[str, Any]:
    """Accuracy of each way on the test rows with its 95 % interval, and McNemar's test of each two of them."""
    labels = {side: of.labels for side, of in sets.items()}
    test = sets["test"]
    right = {}
    for way in WAYS:
        head, features = fitted({side: of.pooled(way) for side, of in sets.items()}, labels, classes)
        right[way] = head.predict_proba(features["test"]).argmax(1) == test.labels
    return {
        "ways": {way: asdict(scores.interval(scores.ratio, counted(of, test.groups))) for way, of in right.items()},
        "mcnemar": [
            {"ways": [one, other], **asdict(scores.mcnemar(right[one], right[other]))}
            for one, other in itertools.combinations(WAYS, 2)
        ],
        "rows": {side: len(of.labels) for side, of in sets.items()},
    }
