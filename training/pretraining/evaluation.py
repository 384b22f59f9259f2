"""What a step reads, and what a model loses on held-out text: of the packed tokens alone, without a build."""

from __future__ import annotations

import contextlib
import math
from dataclasses import replace

import numpy as np

from pipeline.store.packed_tokens import PackedTokens
from training.batches import random_streams
from training.batches.batch import Batch
from training.batches.windows import TooFewTokens, Windows
from training.loop import loop
from training.objectives.base import Objective, Task


def positions(batch_size: int, step: int) -> np.ndarray:
    """The windows of the run that ``step`` reads: int64 [batch_size]."""
    return np.arange(step * batch_size, (step + 1) * batch_size)


def held_out(
    objective: Objective, task: Task, packed: PackedTokens, repeat: bool = False
) -> tuple[Windows, dict[str, int]]:
    """Windows of whole held-out documents, always the same ones, and how many documents, tokens and bytes they are.

    Each document is there once, or, with ``repeat``, as often as ``packed`` says.
    """
    order = objective.order(task, packed, random_streams.seed("held out"), repeat)
    windows, rows = order.head(task.config.eval_tokens)
    size = {
        "documents": len(rows),
        "tokens": int(np.diff(packed.starts)[rows].sum()),
        "bytes": int(packed.documents["bytes"].to_numpy()[rows].sum()),
    }
    return windows, size


def evaluate(
    objective: Objective, task: Task, windows: Windows, size: dict[str, int], measure: loop.Measure
) -> loop.Metrics:
    """Mean loss by part on held-out text, and what its text costs in bits per byte.

    bits per byte = mean nats a token x tokens / ln 2 / bytes of the documents, end tokens included; it compares models
    with different tokenizers. A masked model's mean is over masked tokens, which see both sides: that measure has its
    own name, because it does not compare with a causal model's.
    """
    weights = objective.weights(task)
    sums: dict[str, float] = dict.fromkeys(weights, 0.0)
    counts: dict[str, int] = dict.fromkeys(weights, 0)
    rows = task.config.micro_batch or task.config.batch_size
    for start in range(0, len(windows.tokens), rows):
        batch: Batch = objective.examples(task, windows.take(slice(start, start + rows)))
        for name, nats in measure(batch.arrays).items():
            sums[name] += float(nats)
            counts[name] += batch.counts[name]
    means = {name: sums[name] / max(1, counts[name]) for name in sums}
    measures = {
        "loss": sum(weights[name] * mean for name, mean in means.items()),
        **(means if len(means) > 1 else {}),
        **size,
    }
    if objective.per_byte is not None:
        measure_name, part = objective.per_byte
        measures[measure_name] = means[part] * size["tokens"] / math.log(2) / size["bytes"]
    return measures


def evaluate_domains(
    objective: Objective, task: Task, packed: PackedTokens, measure: loop.Measure
) -> dict[str, loop.Metrics]:
    """``evaluate`` for the documents of each domain alone, its share of ``eval_tokens`` each.

    Domains whose held-out documents do not fill one sequence are left out.
    """
    domains = sorted(packed.manifest["domains"])
    config = task.config.model_copy(update={"eval_tokens": max(1, task.config.eval_tokens // len(domains))})
    part = replace(task, config=config)
    results = {}
    for domain in domains:
        with contextlib.suppress(TooFewTokens):
            results[domain] = evaluate(
                objective, part, *held_out(objective, part, packed.of_domain(domain), True), measure
            )
    return results
