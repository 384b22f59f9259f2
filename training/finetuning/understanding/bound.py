"""A PAC-Bayes bound on the error of a fine-tuned model, by how far its weights moved from those it started from.

McAllester 1999 in the form of Maurer 2004: for a prior P that was there before the n rows, and a loss from 0 to 1, with
probability 1 - delta over the rows, for every posterior Q at once,

    E_Q[error] <= E_Q[error on the rows] + sqrt((KL(Q || P) + ln(2 sqrt(n) / delta)) / (2 n))

P is a normal distribution of deviation sigma around the weights at the start, Q the same around those at the end, both
over the weights that the fine-tuning moved, so KL = distance^2 / (2 sigma^2). It bounds the error of the model with
such noise, not of the one that is published. As Dziugaite and Roy 2017 do, sigma is taken from a grid that was fixed
before (each of its K values holds with delta / K), and E_Q[error on the rows] is measured by draws of the noise, whose
own error is bounded (Hoeffding 1963). Half of delta goes to either. Logarithms are natural.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from transformers import PreTrainedModel

from pipeline.store import files
from training.batches import random_streams
from training.finetuning import bases
from training.finetuning.encoded import Encoded
from training.finetuning.job import Job
from training.finetuning.strategies.depth import depth
from training.finetuning.tasks import task_of
from training.finetuning.tasks.base import Task
from training.finetuning.understanding.states import reader_of, sampled
from training.loop import hardware

DELTA = 0.05
#: The deviations that are tried.
GRID = tuple(2.0**-at for at in range(13))
#: Training rows that the bound is taken of, at most; rows that sigma is chosen by; rows that share a draw of noise.
MOST, _FEW, _BATCH = 2_000, 200, 8


def run(job: Job, summary: dict[str, Any]) -> dict[str, Any]:
    """The bound for the published model of ``job``, with all its constants; ``why`` where there is none."""
    if summary["adapter_only"]:
        return {"why": "the strategy puts new weights beside those of the base, which have no place to start from"}
    if job.config.long_text.kind in ("chunks", "hierarchical"):
        return {"why": "texts are read in chunks, which share no draw of noise"}
    task = task_of(job.config, job.rows)
    seed = random_streams.seed("classifier", summary["seed"])
    start = bases.load(task.auto, job.base, task.fields(), 0.0, seed)
    task.prepare(start)
    model = task.auto.from_pretrained(
        files.local(job.result), dtype=torch.float32, use_safetensors=True, trust_remote_code=False
    )
    table = sampled(job.rows.train, MOST)
    data = task.encode(reader_of(job), table)
    measures = measured(task, start, model.to(hardware.device()).eval(), table, data)
    errors = {
        f"{name}_error": _error_of(summary["scores"][of]) for name, of in (("test", "model"), ("majority", "majority"))
    }
    return {**measures, "read_before": job.config.data is None, **errors}


def measured(
    task: Task, start: PreTrainedModel, model: PreTrainedModel, table: pa.Table, data: Encoded
) -> dict[str, Any]:
    """The bound for ``model``, which was ``start``, of the rows of ``table``, encoded as ``data``."""
    before = dict(start.named_parameters())
    moved = {
        name: parameter.detach().clone()
        for name, parameter in model.named_parameters()
        if not torch.equal(parameter.detach().cpu(), before[name].detach())
    }
    squares = {
        name: float((at.cpu().double() - before[name].detach().double()).square().sum()) for name, at in moved.items()
    }
    total = sum(squares.values())
    weights = _row_weights(table["group"].to_pylist())
    n = len(set(table["group"].to_pylist()))
    sampling = hoeffding(_batch_weights(data, weights), DELTA / 2)
    each = DELTA / 2 / len(GRID)
    fair = [sigma for sigma in GRID if gap(total, sigma, n, each) + sampling < 1] or [GRID[0]]
    few = np.sort(np.argsort(random_streams.generator("bound", len(table)).random(len(table)))[:_FEW])
    part, rows = _take(data, few), table.take(few)
    even = np.full(len(few), 1 / len(few))
    tried = [_error(task, model, moved, sigma, part, rows, even, "choosing sigma") for sigma in fair]
    sigma = fair[int(np.argmin([error + gap(total, s, n, each) for error, s in zip(tried, fair, strict=True)]))]
    risk = _error(task, model, moved, sigma, data, table, weights)
    bound = risk + sampling + gap(total, sigma, n, each)
    of = depth(model)
    by_depth: dict[int, float] = {}
    for name, square in squares.items():
        by_depth[of(name)] = by_depth.get(of(name), 0.0) + square
    return {
        "bound": bound,
        "vacuous": bound >= 1,
        "risk": risk,
        "sampling": sampling,
        "gap": gap(total, sigma, n, each),
        "kl": divergence(total, sigma),
        "distance": math.sqrt(total),
        "distance_by_depth": {str(at): math.sqrt(square) for at, square in sorted(by_depth.items())},
        "moved": sum(at.numel() for at in moved.values()),
        "training_error": _error(task, model, moved, 0.0, data, table, weights),
        "sigma": sigma,
        "grid": len(GRID),
        "delta": DELTA,
        "n": n,
    }


def divergence(square: float, sigma: float) -> float:
    """KL divergence in nats of two normal distributions of deviation ``sigma`` whose centres' squared distance is
    ``square``."""
    return square / (2 * sigma**2)


def gap(square: float, sigma: float, n: int, delta: float) -> float:
    """What the bound adds to the error on ``n`` rows: sqrt((KL + ln(2 sqrt(n) / delta)) / (2 n))."""
    return math.sqrt((divergence(square, sigma) + math.log(2 * math.sqrt(n) / delta)) / (2 * n))


def hoeffding(weights: np.ndarray, delta: float) -> float:
    """How much the expectation of a sum can exceed it, but for a probability ``delta``: of independent variables each
    from 0 to its entry of ``weights``."""
    return math.sqrt(float(np.square(weights).sum()) * math.log(1 / delta) / 2)


def _row_weights(groups: list[str]) -> np.ndarray:
    """What each row counts where groups, which are what is independent, count alike: float64 [n], sum 1."""
    _, group, sizes = np.unique(np.array(groups), return_inverse=True, return_counts=True)
    return 1 / (sizes[group] * len(sizes))


def _batches(data: Encoded) -> Iterator[np.ndarray]:
    order = np.argsort(data.lengths, kind="stable")
    yield from (order[start : start + _BATCH] for start in range(0, len(order), _BATCH))


def _batch_weights(data: Encoded, weights: np.ndarray) -> np.ndarray:
    return np.array([weights[rows].sum() for rows in _batches(data)])


def _take(data: Encoded, rows: np.ndarray) -> Encoded:
    """The examples ``rows``, of a task that makes one of each row."""
    places = [data.places[row] for row in rows] if data.places else []
    targets = {name: [of[row] for row in rows] for name, of in data.targets.items()}
    return Encoded(
        [data.tokens[row] for row in rows], [data.types[row] for row in rows], np.arange(len(rows)), targets, data.pad,
        places,
    )  # fmt: skip


@torch.no_grad()
def _error(
    task: Task, model: PreTrainedModel, centre: dict[str, Tensor], sigma: float, data: Encoded, table: pa.Table,
    weights: np.ndarray, stream: str = "measuring",
) -> float:  # fmt: skip
    """The error of ``model`` with noise of deviation ``sigma`` around ``centre``, drawn for each batch of rows."""
    parameters = dict(model.named_parameters())
    draw = torch.Generator().manual_seed(random_streams.seed("bound", stream, len(data)))
    outputs: list[np.ndarray] = [np.empty(0)] * len(data)
    for rows in _batches(data):
        for name, at in centre.items():
            noise = torch.randn(at.shape, generator=draw) if sigma else torch.zeros(())
            parameters[name].copy_(at + sigma * noise.to(at.device))
        arrays = {name: torch.from_numpy(part).to(model.device) for name, part in data.arrays(rows).items()}
        for row, output in zip(rows, task.outputs(model, arrays), strict=True):
            outputs[row] = output
    for name, at in centre.items():
        parameters[name].copy_(at)
    return float((weights * _wrong(task, task.predictions(outputs, data, table), table)).sum())


def _wrong(task: Task, predicted: Any, table: pa.Table) -> np.ndarray:
    """The loss of each row, from 0 to 1: whether its label is wrong, or the share of its tags that are."""
    if task.config.task == "classify":
        return np.array([task.labels[at] for at in predicted]) != np.array(table["label"].to_pylist())
    true = table["tags"].to_pylist()
    return np.array(
        [np.mean([a != b for a, b in zip(*pair, strict=True)]) for pair in zip(true, predicted, strict=True)]
    )


def _error_of(measures: dict[str, Any]) -> float:
    return 1 - measures["accuracy" if "accuracy" in measures else "word_accuracy"]["value"]
