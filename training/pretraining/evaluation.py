"""What a step reads, and what a model loses on held-out text: of the packed tokens alone, without a build."""

from __future__ import annotations

import contextlib
import math
from dataclasses import replace

import numpy as np
import torch

from pipeline.store.packed_tokens import PackedTokens
from training.batches import random_streams
from training.batches.batch import Batch
from training.batches.windows import TooFewTokens, Windows
from training.loop import hardware, loop, processes
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
    sums, counts = _sums(objective, task, windows, measure)
    means = {name: sums[name] / max(1.0, counts[name]) for name in weights}
    measures = {
        "loss": sum(weights[name] * mean for name, mean in means.items()),
        **(means if len(means) > 1 else {}),
        **size,
    }
    if objective.per_byte is not None:
        measure_name, part = objective.per_byte
        measures[measure_name] = means[part] * size["tokens"] / math.log(2) / size["bytes"]
    return measures


def _sums(
    objective: Objective, task: Task, windows: Windows, measure: loop.Measure
) -> tuple[dict[str, float], dict[str, float]]:
    """The sum of each part of the loss over all windows, and the number of predictions in it.

    Each process measures every n-th batch. All make equally many forward passes, because what is sharded is gathered by
    all together: those that have no batch left at the end measure the first one without counting it.
    """
    several = processes.current()
    names = list(objective.weights(task))
    rows = task.config.micro_batch or task.config.batch_size
    sums = np.zeros((2, len(names)))
    for first in range(0, len(windows.tokens), rows * several.count):
        start = first + rows * several.rank
        own = start < len(windows.tokens)
        batch: Batch = objective.examples(task, windows.take(slice(start, start + rows) if own else slice(rows)))
        nats = measure(batch.arrays)
        if own:
            sums += [[float(nats[name]) for name in names], [batch.counts[name] for name in names]]
    values, counts = several.total(torch.from_numpy(sums).to(hardware.device())).tolist()
    return dict(zip(names, values, strict=True)), dict(zip(names, counts, strict=True))


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
