"""Scores on the test rows that are no near copies of training rows: what is left of a score that copies made better."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa

from training.finetuning.tasks.base import Task
from training.labelled.rows import Labelled


def without(task: Task, predictions: Any, rows: Labelled) -> dict[str, Any]:
    """Under ``without_near_copies`` the measures on those rows and their number; nothing where no row is a copy.

    ``predictions`` are those of ``task`` for all test rows, in their order.
    """
    copies = set(rows.audit.get("near_copies", {}).get("ids", ()))
    kept = [at for at, id_ in enumerate(rows.test["id"].to_pylist()) if id_ not in copies]
    if not kept or len(kept) == rows.test.num_rows:
        return {}
    left = predictions[np.array(kept)] if isinstance(predictions, np.ndarray) else [predictions[at] for at in kept]
    measures = task.measures(left, rows.test.take(pa.array(kept, pa.int64())))
    scores = {measure.name: asdict(measure.interval()) for measure in measures}
    return {"without_near_copies": {"rows": len(kept), "scores": scores}}
