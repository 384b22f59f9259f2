"""What curating, tokenizing and packing will cost at any size, from the rates of a sample of a build's own sources.

``measure`` writes a sample of the text as JSON lines, and carries out the steps on a quarter and on all of it, the
latter in shards of two sizes, in one fresh process. What text adds, what a shard adds and what is left fixed follow
from the differences. Reading the sources is timed with their own reader. ``of`` turns that into time, memory, disk and
opened files (on an object store requests) for any size and number of cores, by the formulas of docs/scale.md.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

from pipeline.build import machine, row_numbers
from pipeline.build.build import Build, Step
from pipeline.curation import costs, ingest, text_sample
from pipeline.curation import steps as curation
from pipeline.stages.dedup import exchange, repeats
from pipeline.store import files
from pipeline.tokenization import steps as tokenization

VERSION = 2
#: The smaller sample takes every fourth document of the larger one.
_SMALL = 4
#: The larger sample is carried out in 8 shards and in 2, so that the cost of a shard and of its text can be told apart.
_SHARDS, _WIDE = 8, 2
#: Shards are given 5 % more room, as whole documents do not fill them exactly.
_ROOM = 1.05
#: Processes that carry out the sample at once, each for itself, at most: workers share caches and the bus to memory.
_AT_ONCE = 4
_WARM_UP = 200_000
#: Steps over partitions of hashes, and the text or documents that a partition is made for.
_OF_DOCUMENTS = ("exact.duplicates", "minhash.candidates", "minhash.edges")
_OF_TEXT = ("passages.repeats", "substring.repeats")


class Plan(NamedTuple):
    """For ``size`` bytes of text: ``processor`` and ``clock`` seconds, ``memory`` bytes of one worker at its highest,
    ``disk`` bytes of the build, ``opened`` files; ``steps``: processor seconds of each step.
    """

    size: float
    processor: float
    clock: float
    memory: float
    disk: float
    opened: float
    steps: dict[str, float]


def path(build: Build) -> str:
    """Where the rates of ``build`` are."""
    return build.path("plan.json")


def read(build: Build) -> dict[str, Any] | None:
    """The rates that ``measure`` wrote for ``build``; None if there are none, or of other stages."""
    if not files.exists(path(build)):
        return None
    rates = files.read_json(path(build), "Run `mill plan --measure` again.")
    return rates if rates["recipe"] == _recipe(build) else None


def _recipe(build: Build) -> str:
    content = build.recipe.model_dump(mode="json", exclude={"pretrain", "finetune", "embeddings", "budget"})
    return files.fingerprint(VERSION, content)


def measure(build: Build, size: int, loaded: Callable[[], float] = time.process_time) -> dict[str, Any]:
    """The rates of the steps of ``build``, from about ``size`` bytes of text of its sources; written beside it.

    ``loaded`` is of a module that each worker process loads first, and says what processor time it has taken so far.
    Raises MillError if the sources hold no text.
    """
    with tempfile.TemporaryDirectory(prefix="corpusmill-") as folder:
        sample = text_sample.take(build, size)
        warm = _part(build, Path(folder, "warm"), sample, max(1, sample.size // _WARM_UP), 1)
        small = _part(build, Path(folder, "small"), sample, _SMALL, _SHARDS)
        large, wide = (_part(build, Path(folder, str(shards)), sample, 1, shards) for shards in (_SHARDS, _WIDE))
        with costs.processes(1) as pool:  # compiles the kernels that are not compiled yet
            list(costs.carry_out(warm.fresh("compiled"), _steps(build), pool))
        at_once = max(2, min(_AT_ONCE, machine.cores()))
        with ProcessPoolExecutor(at_once, get_context("spawn")) as pool:
            runs = list(pool.map(partial(_carry_out, warm, (small, large, wide), loaded), range(at_once)))
        read = sum(text_sample.seconds_to_read(source, build.recipe.readers["jsonl"]) for source in large.sources)
        start, *of_parts = (
            list(map(_mean, zip(*rows, strict=True))) for rows in zip(*(run.costs for run in runs), strict=True)
        )
        rates = {
            "recipe": _recipe(build),
            "sample": large.text,
            "documents": sample.documents / sample.size,
            "text": sample.text,
            "shards": _shards(build, sample),
            "imports": mean(run.imports for run in runs),
            "memory": max(cost.memory for run in runs for rows in run.costs[1:] for cost in rows),
            "steps": {
                one.step: _rates(first, (one, other, third), (small, large, wide), warm)
                for first, one, other, third in zip(start, *of_parts, strict=True)
                if other.items
            },
        }
        # the sources' own readers instead of that of the sample
        rates["steps"]["ingest"]["rate"] += max(0.0, sample.seconds - read / large.text)
    files.write_json(path(build), rates)
    return rates


def _shards(build: Build, sample: text_sample.Sample) -> int:
    """How many shards the sources make, by the text in them that the sample suggests."""
    parts = (
        (sum(file.size for file in part), sample.ratios[source.name])
        for source in build.recipe.sources
        for part in ingest.parts(build, source)
    )
    return sum(max(1, math.ceil(stored * ratio / build.recipe.shard_bytes)) for stored, ratio in parts)


class _Part(NamedTuple):
    """``text`` bytes of a sample, as ``sources`` of a build in ``folder``."""

    build: Build
    sources: list[Any]
    text: int

    def fresh(self, name: str) -> Build:
        return Build(f"{self.build.root}/{name}", self.build.recipe, self.build.scorer)

    @property
    def shards(self) -> int:
        """What the runs made of it."""
        return len(self.fresh("run-0").shards())


def _part(build: Build, folder: Path, sample: text_sample.Sample, every: int, shards: int) -> _Part:
    """A build of one in ``every`` documents of the sample, in shards as large as all of it fills ``shards`` of."""
    folder.mkdir()
    sources, text = text_sample.write(sample, folder, every)
    shard = max(100_000, min(build.recipe.shard_bytes, int(sample.size / shards * _ROOM)))
    recipe = build.recipe.model_copy(update={"sources": sources, "shard_bytes": shard})
    return _Part(Build(str(folder), recipe, build.scorer), sources, text)


def _steps(build: Build) -> list[Step]:
    return [*curation.steps(build.recipe), *(tokenization.steps() if build.recipe.tokenizers else [])]


class _Run(NamedTuple):
    """Processor seconds of a process until it has loaded what a worker loads, and what each step took: its first time,
    on a few documents, and on each part of the sample.
    """

    imports: float
    costs: list[list[costs.StepCost]]


def _carry_out(warm: _Part, parts: Sequence[_Part], loaded: Callable[[], float], number: int) -> _Run:
    """The steps on the parts of the sample, on a fresh process."""
    with costs.processes(1) as pool:
        imports = pool.submit(loaded).result()
        return _Run(
            imports,
            [list(costs.carry_out(part.fresh(f"run-{number}"), _steps(part.build), pool)) for part in (warm, *parts)],
        )


def _mean(runs: Sequence[costs.StepCost]) -> costs.StepCost:
    """The mean time of equal runs; memory by the one that grew most, for a later run uses what is free."""
    processor = mean(cost.processor for cost in runs)
    return runs[0]._replace(processor=processor, grown=max(cost.grown for cost in runs))


def _rates(
    start: costs.StepCost, runs: Sequence[costs.StepCost], parts: Sequence[_Part], warm: _Part
) -> dict[str, float]:
    """Of one step: ``runs`` of ``parts``, which are a small sample and a large one in shards of two sizes, and the
    ``start`` of a process on ``warm``.
    """
    small, large, wide = runs
    one, other, third = parts
    items = large.items - wide.items
    item = max(0.0, (large.processor - wide.processor) / items) if items else 0.0
    rate = max(0.0, (wide.processor - small.processor - item * (wide.items - small.items)) / (third.text - one.text))
    fixed = max(0.0, wide.processor - rate * third.text - item * wide.items)
    by_text = small.step in (*_OF_DOCUMENTS, *_OF_TEXT)
    lower, part = (small, one) if by_text else (large, other)
    units = [_unit(small.step, each.text, each.text / each.shards) for each in (part, third)]
    memory = max(0.0, (wide.grown - lower.grown) / (units[1] - units[0])) if units[1] > units[0] else 0.0
    if by_text:
        per_shard = 0.0
    elif other.shards > third.shards:
        per_shard = items / (other.shards - third.shards)
    else:  # the recipe's shards are so small that the sample's are as large: a step has an item for each, or a few
        per_shard = large.items / other.shards if large.items >= other.shards else 0.0
    return {
        "fixed": fixed,
        "item": item,
        "rate": rate,
        "start": max(0.0, start.processor - fixed - item * start.items - rate * warm.text),
        "memory": memory,
        "memory_fixed": start.memory + max(0.0, wide.grown - memory * units[1]),
        "written": large.written / other.text,
        "items": wide.items - per_shard * third.shards,
        "items_a_shard": per_shard,
        "opened": large.opened / large.items,
    }


def _unit(step: str, text: float, shard: float, documents: float = 1 / 4000) -> float:
    """Bytes of text that one item of ``step`` has to do with."""
    if step in _OF_DOCUMENTS:
        return min(text, row_numbers.PARTITION_ROWS / documents)
    return min(text, repeats.PARTITION_BYTES) if step in _OF_TEXT else shard


def of(rates: Mapping[str, Any], size: float, shard_bytes: int, cores: int, shards: int | None = None) -> Plan:
    """The plan for ``size`` bytes of text on ``cores`` cores, a worker on each; in as few shards as may be if they are
    not known.
    """
    shards = shards or max(1, math.ceil(size / shard_bytes))
    steps = rates["steps"]
    items = {name: _items(name, step, size, shards, rates["documents"]) for name, step in steps.items()}
    seconds = {name: step["fixed"] + step["item"] * items[name] + step["rate"] * size for name, step in steps.items()}
    clock = disk = opened = 0.0
    memory = rates["memory"]  # what is held after a while, even if no step grows by the size of its items
    for name, step in steps.items():
        clock += seconds[name] / min(cores, items[name])
        unit = _unit(name, size, min(shard_bytes, size / shards), rates["documents"])
        memory = max(memory, step["memory_fixed"] + step["memory"] * unit)
        disk += step["written"] * size
        opened += step["opened"] * items[name]
    opened += _exchanged(rates, size, shards)
    disk += sum(
        step["written"] * size * 1.3
        for name, step in steps.items()
        if exchange.groups(shards)
        and name in ("exact.hashes", "minhash.signatures", *(f"{s}.hashes" for s in _OF_REPEATS))
    )
    clock += rates["imports"] + sum(step["start"] for step in steps.values())
    return Plan(
        size, sum(seconds.values()) + _start(rates, seconds, items, cores), clock, memory, disk, opened, seconds
    )


_OF_REPEATS = ("passages", "substring")


def _start(rates: Mapping[str, Any], seconds: Mapping[str, float], items: Mapping[str, int], cores: int) -> float:
    """Processor seconds for imports and kernels: of the first process, and of the others that a step long enough for
    them starts.
    """
    total, started = 0.0, False
    for name, step in rates["steps"].items():
        if not started and cores > 1 and items[name] > 1 and seconds[name] + step["start"] > machine.HERE_SECONDS:
            started, total = True, total + cores * rates["imports"] + step["start"]
        total += step["start"] * (min(cores, items[name]) if started else 1)
    return total


def _items(name: str, step: Mapping[str, float], size: float, shards: int, documents: float) -> int:
    if name == "ingest":
        return shards
    if name in _OF_DOCUMENTS:
        return round(step["items"]) * len(
            row_numbers.partition_names(int(size * documents), row_numbers.PARTITION_ROWS)
        )
    if name in _OF_TEXT:
        return len(row_numbers.partition_names(int(size), repeats.PARTITION_BYTES))
    return max(1, math.ceil(step["items"] + step["items_a_shard"] * shards))


def _exchanged(rates: Mapping[str, Any], size: float, shards: int) -> float:
    """Files that deduplication's partitions open: of every shard, or of those between (``exchange``)."""
    total = 0.0
    for name, step in rates["steps"].items():
        if name in (*_OF_DOCUMENTS, *_OF_TEXT):
            keys = round(step["items"]) if name in _OF_DOCUMENTS else 1
            partitions = _items(name, step, size, shards, rates["documents"])
            names = [f"{n:05d}" for n in range(max(1, partitions // keys))]
            groups = len(exchange.groups(shards))
            bundles = len(exchange.bundles(names, shards, keys)) * keys
            total += 8 * groups * bundles + 6 * shards if groups else 2 * shards * partitions
    return total


def error(planned: Plan, took: Mapping[str, float]) -> tuple[float, float] | None:
    """``(planned, taken)`` processor seconds of the steps that a build made whole, with the start of its processes;
    None if it did not make all that is planned.
    """
    if not planned.steps.keys() <= took.keys():
        return None
    return planned.processor, sum(took[name] for name in planned.steps)
