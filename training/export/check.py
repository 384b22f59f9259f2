"""Whether an exported model says what torch's says, and how fast both are, at equal threads."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pyarrow as pa
import torch
from scipy.special import expit

from training.finetuning.encoded import Encoded
from training.prediction.model import Model

#: Rows that outputs are compared on, and of them those that are timed; rounds that the medians are of.
COMPARED, _TIMED, _ROUNDS = 2_000, 256, 5
_BATCH = 32
#: A number counts as another one when it is further off than this share of the numbers' deviation.
_FAR = 0.01


class Runs(Protocol):
    def run(self, arrays: Mapping[str, np.ndarray]) -> list[np.ndarray]: ...


@dataclass(frozen=True)
class Examples:
    """Rows as the task of a model encodes them; ``where`` says what they are."""

    table: pa.Table
    where: str


@dataclass(frozen=True)
class Limits:
    """``max_flips``: the largest share of labels that may differ; ``allow_slower``: it may be slower than torch."""

    max_flips: float
    allow_slower: bool = False

    def broken(self, check: Check) -> list[str]:
        """What of ``check`` goes beyond the limits, with the remedy."""
        faults = []
        if check.flipped > self.max_flips:
            faults.append(f"more labels differ than --max-flips {self.max_flips:g} allows")
        if check.exported_per_second < check.torch_per_second and not self.allow_slower:
            faults.append("it is slower than torch, which --allow-slower would allow")
        return faults


@dataclass(frozen=True)
class Check:
    """``flipped``: the share of ``decisions`` (labels, tags, answers, ...) that differ from torch's; the largest
    difference of two outputs; rows a second of both, the median of interleaved rounds.
    """

    rows: int
    decisions: int
    flipped: float
    largest_difference: float
    torch_per_second: float
    exported_per_second: float

    def sentence(self) -> str:
        return (
            f"{self.flipped:.3%} of {self.decisions:,} labels differ from torch's (largest difference of an output"
            f" {self.largest_difference:.2g}); {self.exported_per_second:,.0f} rows a second, torch"
            f" {self.torch_per_second:,.0f}"
        )


def compare(ours: Runs, exported: Runs, model: Model, examples: Examples, threads: int) -> Check:
    """Run both on the first rows of ``examples``, batches of like length; ``threads`` are torch's while it runs."""
    table = examples.table.slice(0, COMPARED)
    data = model.task.encode(model.reader, table)
    batches = _batches(data)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        wanted, answers = ([run.run(batch) for batch in batches] for run in (ours, exported))
        timed = batches[:: max(1, len(batches) * _BATCH // _TIMED)]
        rates = _rates([ours, exported], timed)
    finally:
        torch.set_num_threads(before)
    flips = [_flips(model, *pair) for pair in zip(batches, wanted, answers, strict=True)]
    if model.usage.task == "similarity":
        flips = [_neighbours(wanted, answers)]
    if model.usage.task == "regression":
        flips = [_far(wanted, answers)]
    every = np.concatenate(flips)
    return Check(
        rows=len(table),
        decisions=len(every),
        flipped=float(every.mean()),
        largest_difference=max(_difference(*each) for each in zip(batches, wanted, answers, strict=True)),
        torch_per_second=rates[0],
        exported_per_second=rates[1],
    )


def _batches(data: Encoded) -> list[dict[str, np.ndarray]]:
    order = np.argsort(data.lengths, kind="stable")
    made = []
    for start in range(0, len(order), _BATCH):
        arrays = data.arrays(order[start : start + _BATCH])
        named = {"input_ids": arrays["tokens"], "attention_mask": arrays["mask"], "token_type_ids": arrays["types"]}
        made.append(named)
    return made


def _rates(runs: list[Runs], batches: list[dict[str, np.ndarray]]) -> list[float]:
    """Rows a second of each: the medians of rounds in which they take turns, so that both meet the same machine."""
    rows = sum(len(batch["input_ids"]) for batch in batches)
    seconds = np.empty((_ROUNDS, len(runs)))
    for turn in range(_ROUNDS):
        for at in range(len(runs)) if turn % 2 else reversed(range(len(runs))):
            began = time.perf_counter()
            for batch in batches:
                runs[at].run(batch)
            seconds[turn, at] = time.perf_counter() - began
    return (rows / np.median(seconds, axis=0)).tolist()


def _flips(
    model: Model, batch: Mapping[str, np.ndarray], wanted: list[np.ndarray], answers: list[np.ndarray]
) -> np.ndarray:
    """bool [decisions]: those of one batch that differ."""
    seen = batch["attention_mask"].astype(bool)
    match model.usage.task:
        case "multi_label":
            given = model.usage.thresholds
            limits = np.array([given[label] for label in model.labels]) if isinstance(given, dict) else given
            return ((expit(wanted[0]) >= limits) != (expit(answers[0]) >= limits)).ravel()
        case "tokens":
            return (wanted[0].argmax(-1) != answers[0].argmax(-1))[seen]
        case "answers":
            ends = [np.where(seen, side, -np.inf).argmax(-1) for side in (*wanted, *answers)]
            return (ends[0] != ends[2]) | (ends[1] != ends[3])
        case _:
            return wanted[0].argmax(-1) != answers[0].argmax(-1)


def _neighbours(wanted: list[list[np.ndarray]], answers: list[list[np.ndarray]]) -> np.ndarray:
    """bool [rows]: whether another row is the nearest; of equally near ones either will do."""
    ours, theirs = (np.concatenate([batch[0] for batch in side]) for side in (wanted, answers))
    cosines = [side @ side.T - 2 * np.eye(len(side), dtype=np.float32) for side in (ours, theirs)]
    nearest = cosines[1].argmax(1)
    return cosines[0].max(1) - cosines[0][np.arange(len(ours)), nearest] > 1e-6


def _far(wanted: list[list[np.ndarray]], answers: list[list[np.ndarray]]) -> np.ndarray:
    """bool [rows]: whether a number is further off than a hundredth of the numbers' deviation."""
    ours, theirs = (np.concatenate([batch[0][:, 0] for batch in side]) for side in (wanted, answers))
    return np.abs(ours - theirs) > _FAR * (ours.std() or 1.0)


def _difference(batch: Mapping[str, np.ndarray], wanted: list[np.ndarray], answers: list[np.ndarray]) -> float:
    """The largest difference of two outputs, those of padding left out."""
    seen = batch["attention_mask"].astype(bool)
    sides = [[part[seen] if part.shape[:2] == seen.shape else part for part in side] for side in (wanted, answers)]
    return max(float(np.abs(one - other).max()) for one, other in zip(*sides, strict=True))
