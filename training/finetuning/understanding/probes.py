"""Which layer knows the label: a linear probe on the frozen vectors of each layer, beside its control task.

A probe is logistic regression, its penalty chosen by the development rows (Alain and Bengio 2017; Tenney et al. 2019).
The control task (Hewitt and Liang 2019, "Designing and Interpreting Probes with Control Tasks") gives each type, a word
or a text, a label of its own, drawn by the shares of the true labels: a probe can know it by memory alone. Selectivity
is the accuracy on the true labels less that on the control task's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.text.hashing import document_hash, unit_interval
from training.finetuning import scores
from training.finetuning.rungs import head
from training.finetuning.rungs.head import Head
from training.finetuning.understanding.states import Vectors


def run(sets: Mapping[str, Vectors], classes: int, seed: int) -> dict[str, Any]:
    """Of each layer, the first being the embeddings, accuracies on the test vectors with 95 % intervals.

    ``memorised`` is the accuracy of the control probe on its own training vectors.
    """
    train, test = sets["train"], sets["test"]
    shares = np.bincount(train.labels, minlength=classes) / len(train.labels)
    control = {side: control_labels(of.types, shares, seed) for side, of in sets.items()}
    rows = []
    for layer in range(train.layers):
        features = {side: of.layer(layer) for side, of in sets.items()}
        true, right, _ = _probe(features, {side: of.labels for side, of in sets.items()}, classes)
        drawn, right_of_control, memorised = _probe(features, control, classes)
        counts, others = counted(right, test.groups), counted(right_of_control, test.groups)
        rows.append(
            {
                "layer": layer,
                "accuracy": asdict(scores.interval(scores.ratio, counts)),
                "control": asdict(scores.interval(scores.ratio, others)),
                "selectivity": asdict(scores.interval(scores.ratio, counts, others)),
                "memorised": memorised,
                "strength": true.strength,
                "control_strength": drawn.strength,
            }
        )
    most = int(shares.argmax())
    majority = scores.interval(scores.ratio, counted(test.labels == most, test.groups))
    seen = set(train.types)
    return {
        "layers": rows,
        "majority": asdict(majority),
        "vectors": {side: len(of.labels) for side, of in sets.items()},
        "types_seen": float(np.mean([each in seen for each in test.types])),
    }


def control_labels(types: Sequence[str], shares: np.ndarray, seed: int) -> np.ndarray:
    """A label for each of ``types``, equal for equal ones, drawn by ``shares`` [classes]: int64 [n]."""
    drawn = unit_interval(document_hash(pa.array(types, pa.string()), seed))
    return np.minimum(np.searchsorted(np.cumsum(shares), drawn, side="right"), len(shares) - 1)


def fitted(
    features: Mapping[str, np.ndarray], labels: Mapping[str, np.ndarray], classes: int
) -> tuple[Head, dict[str, np.ndarray]]:
    """The head that does best on the development vectors, and each set's vectors as it takes them.

    They are shifted and scaled so that those of training have mean 0 and deviation 1.
    """
    centre, spread = features["train"].mean(0), features["train"].std(0) + 1e-6
    ready = {side: (of - centre) / spread for side, of in features.items()}
    return head.fit(ready["train"], labels["train"], ready["dev"], labels["dev"], classes), ready


def _probe(
    features: Mapping[str, np.ndarray], labels: Mapping[str, np.ndarray], classes: int
) -> tuple[Head, np.ndarray, float]:
    """The probe, which test vectors it has right (bool [n]), and its accuracy on the training vectors."""
    model, ready = fitted(features, labels, classes)
    right = {side: model.predict_proba(ready[side]).argmax(1) == labels[side] for side in ("train", "test")}
    return model, right["test"], float(right["train"].mean())


def counted(right: np.ndarray, groups: list[str]) -> np.ndarray:
    """Vectors that are right, and all, by group: float64 [groups, 2]."""
    return scores.by_group(np.stack([right, np.ones(len(right), bool)], axis=1), groups)
