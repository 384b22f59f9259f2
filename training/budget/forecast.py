"""What the models of a recipe may take before they are trained: memory, disk and time, each with its origin."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch

from pipeline.build.build import Build
from pipeline.build.machine import cores
from pipeline.curation.forecast import Range
from pipeline.store import files
from pipeline.text import formats
from training.budget import estimates, laws
from training.recipe import gpu_peaks
from training.recipe.sections import BuildRecipe, PretrainConfig

#: Weights, gradients and AdamW's two moments, in 32 bits each (Rajbhandari 2020, section 3, without half precision).
_STATE = 4 + 4 + 8
#: Values kept for the backward pass, a token, layer and unit of width (Korthikanti 2023 counts 34 bytes in 16 bits with
#: attention apart; recomputed attention and fused kernels keep fewer).
_ACTIVATIONS = (10, 34)
#: Copies of the logits in 32 bits.
_LOGITS = (1, 3)
#: Memory of the process with torch and the other libraries, before any weight.
_PROCESS = (400 << 20, 1 << 30)
#: Floating-point operations a second of a core: docs/benchmarks.md, half of what the smallest model there reaches, and
#: what the largest does.
_CORE = (0.8e10, 1.2e11)
#: Seconds for loading the libraries, the evaluation and what is written.
_START = (3, 60)
#: Share of a GPU's peak that is reached.
_GPU = (0.05, 0.5)


class Plan(NamedTuple):
    """A run that is planned: its name, its budget as training.budget.estimates gives it, and its ranges."""

    name: str
    budget: dict[str, Any]
    ranges: list[Range]


def of(build: Build[BuildRecipe]) -> list[Plan]:
    """The plans of the recipe's `pretrain` runs. Raises NoFiles where sources are not there."""
    costs = {entry["name"]: entry for entry in estimates.of_recipe(build)} if build.recipe.pretrain else {}
    return [
        Plan(run.name, costs[run.name], [_memory(build, run), _disk(build, run), _time(build, run, costs[run.name])])
        for run in build.recipe.pretrain
    ]


def _sizes(build: Build[BuildRecipe], run: PretrainConfig) -> tuple[estimates.Sizes, int]:
    vocabulary = estimates.vocabulary_of(build, run.tokenizer)
    return estimates.count(run.shape, vocabulary, run.sequence_length), vocabulary.size


def _memory(build: Build[BuildRecipe], run: PretrainConfig) -> Range:
    sizes, entries = _sizes(build, run)
    tokens = (run.micro_batch or run.batch_size) * run.sequence_length
    hidden, logits = 4 * tokens * sizes.layers * sizes.width, 4 * tokens * entries
    low, high = (
        _PROCESS[at] + _STATE * sizes.total + _ACTIVATIONS[at] * hidden + _LOGITS[at] * logits for at in (0, 1)
    )
    origin = (
        f"{formats.short(sizes.total)} parameters x {_STATE} bytes (weights, gradients, AdamW), activations of"
        f" {formats.count(tokens)} tokens, and libraries"
    )
    return Range(f"memory to train {run.name}", low, high, "bytes", origin)


def _disk(build: Build[BuildRecipe], run: PretrainConfig) -> Range:
    sizes, _ = _sizes(build, run)
    kept = (run.keep_last + 1) * 12 * sizes.total  # weights and moments; one is written while the others are there
    origin = f"{run.keep_last} checkpoints, one in writing, and the model"
    return Range(f"disk of {run.name}", 4 * sizes.total, kept + 4 * sizes.total, "bytes", origin)


def _time(build: Build[BuildRecipe], run: PretrainConfig, budget: dict[str, Any]) -> Range:
    low, high, origin = _seconds(build, budget["compute_with_attention"])
    return Range(f"time to train {run.name}", low + _START[0], high + _START[1], "seconds", origin)


def _seconds(build: Build[BuildRecipe], work: float) -> tuple[float, float, str]:
    """Least and most seconds for ``work`` floating-point operations, and what they go by."""
    if measured := sorted(_measured(build)):
        origin = f"{formats.power(measured[-1])} operations a second, as models had in this folder of builds"
        return work / measured[-1] / 2, work / measured[0] * 2, origin
    if torch.cuda.is_available() and (peak := gpu_peaks.peak_flops(name := torch.cuda.get_device_name())):
        return work / peak / _GPU[1], work / peak / _GPU[0], f"the peak of {name}; assumed"
    processors = cores()
    origin = f"docs/benchmarks.md on {formats.several(processors, 'core')}, without a GPU"
    return work / processors / _CORE[1], work / processors / _CORE[0], origin


def _measured(build: Build[BuildRecipe]) -> Iterator[float]:
    """Floating-point operations a second of models that builds beside ``build`` trained."""
    for path in files.local_name(build.root).parent.glob("*/models/*/summary.json"):
        summary = files.read_json(str(path))
        if summary.get("kind") == "pretrain" and summary.get("tokens_per_second"):
            yield laws.compute(summary["parameters"]["matrices_and_head"], 1) * summary["tokens_per_second"]
