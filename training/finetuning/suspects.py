"""The labels of a task that look wrong, each beside its nearest neighbours: what a label audit shows to people."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from pipeline import MillError
from training.batches import random_streams
from training.finetuning.confidence import label_audit
from training.finetuning.rungs.base import Examples
from training.labelled.rows import Labelled

#: Suspects that are shown, characters of each, and rows that are audited at most.
MOST, EXCERPT, MOST_AUDITED = 50, 300, 20_000


class Features(Protocol):
    """A fitted rung that turns texts into features [n, width], dense or csr, under a head with a ``strength``."""

    def features(self, texts: list[str]) -> Any: ...


def find(
    fitted: Features, rows: Labelled, parts: tuple[Examples, Examples, Examples], right: np.ndarray
) -> dict[str, Any]:
    """The MOST suspect labels of training, development and test, and the accuracy with and without those of the test.

    ``parts`` are the texts of the three sets of ``rows``; ``right`` bool [test rows] says where the model is right. As
    plain values; ``unseen_right`` is the share of labels that the audit's model predicts without having seen their row:
    how much its doubts are worth. ``why`` says why there is no audit where a label has too few rows for one.
    """
    tables = (rows.train, rows.dev, rows.test)
    columns = {name: [v for table in tables for v in table[name].to_pylist()] for name in ("id", "place")}
    everything = Examples(
        [text for part in parts for text in part.texts],
        np.concatenate([part.labels for part in parts]),
        [group for part in parts for group in part.groups],
    )
    taken = np.arange(len(everything))
    if len(taken) > MOST_AUDITED:
        taken = np.sort(random_streams.generator("audit", len(taken)).permutation(len(taken))[:MOST_AUDITED])
    audited = everything.take(taken)
    features = fitted.features(audited.texts)
    fit = {}
    if (head := getattr(fitted, "head", None)) is not None:
        fit = {"strength": head.strength, "seconds": head.seconds * len(taken) / len(parts[0])}
    try:
        shares = label_audit.out_of_fold(features, audited.labels, audited.groups, **fit)
    except MillError as error:
        return {"why": str(error), "rows": []}
    audit = label_audit.audit(shares, audited.labels)
    places, cosines = label_audit.neighbours(features, audit.rows[:MOST])
    in_test = taken[audit.rows] - len(parts[0]) - len(parts[1])
    kept = np.ones(len(parts[2]), bool)
    kept[in_test[in_test >= 0]] = False

    def row_of(at: int) -> dict[str, Any]:
        row = int(taken[at])
        return {
            "id": columns["id"][row],
            "place": columns["place"][row],
            "text": audited.texts[at][:EXCERPT],
            "label": rows.labels[audited.labels[at]],
        }

    shown = zip(
        audit.rows[:MOST].tolist(), audit.suggested, audit.margins, places.tolist(), cosines.tolist(), strict=False
    )
    return {
        "audited": len(taken),
        "count": len(audit.rows),
        "share": audit.share,
        "unseen_right": float((shares.argmax(1) == audited.labels).mean()),
        "accuracy": {"all": float(right.mean()), "without": float(right[kept].mean()) if kept.any() else None},
        "test_suspects": int((~kept).sum()),
        "rows": [
            {
                **row_of(at),
                "suggested": rows.labels[suggested],
                "margin": float(margin),
                "neighbours": [{**row_of(other), "cosine": cosine} for other, cosine in zip(near, close, strict=True)],
            }
            for at, suggested, margin, near, close in shown
        ],
    }
