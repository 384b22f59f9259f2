"""What curating, tokenizing and packing will cost at any size, from the rates of a sample of a build's own sources.

``measure`` takes the first documents of the sources, writes them as JSON lines, and carries out the steps on a quarter
of them and on all, in one fresh process. The difference gives each step's rate, what is left its fixed part. Reading
the sources is timed with their own reader. ``of`` turns that into time, memory, disk and opened files (on an object
store requests) for any size and number of cores, by the formulas of docs/scale.md.
"""

from __future__ import annotations

import json
import math
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pipeline import MillError
from pipeline.build import row_numbers
from pipeline.build.build import Build, Step
from pipeline.curation import costs, repair
from pipeline.curation import steps as curation
from pipeline.sources.base import Document
from pipeline.sources.jsonl import Jsonl
from pipeline.stages.dedup import exchange, repeats
from pipeline.store import files
from pipeline.tokenization import steps as tokenization

VERSION = 1
#: The smaller sample is this share of the larger one, and so are its shards.
_SMALL = 4
#: Shards of a sample: enough to tell a step over shards from one of a single item.
_SHARDS = 8
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


def measure(build: Build, size: int) -> dict[str, Any]:
    """The rates of the steps of ``build``, from at most ``size`` bytes of text of its sources; written beside it.

    Raises MillError if the sources hold no text.
    """
    with tempfile.TemporaryDirectory(prefix="corpusmill-") as folder:
        sample = _sample(build, size)
        large, small, warm = (_build(build, folder, sample, part) for part in (1, 1 / _SMALL, _WARM_UP / size))
        with costs.processes(1) as pool:  # compiles the kernels that are not compiled yet
            list(costs.carry_out(warm.fresh("compiled"), _steps(build), pool))
        with costs.processes(1) as pool:
            imports = pool.submit(time.process_time).result()
            list(costs.carry_out(warm.fresh("start"), _steps(build), pool))
            kernels = pool.submit(time.process_time).result() - imports
            runs = [list(costs.carry_out(each.fresh("run"), _steps(build), pool)) for each in (small, large)]
        rates = {
            "recipe": _recipe(build),
            "sample": large.text,
            "documents": sample.documents / sample.text,
            "text": sample.ratio * sample.stored,
            "imports": imports,
            "kernels": kernels,
            "ingest": sample.seconds / sample.text,
            "steps": {
                one.step: _rates(one, other, small, large) for one, other in zip(*runs, strict=True) if other.items
            },
        }
    files.write_json(path(build), rates)
    return rates


class _Sample(NamedTuple):
    """The first documents of the sources: JSON lines by source, their ``text`` bytes, how long they took to be read;
    ``ratio``: text in a byte of a source's file, of which there are ``stored`` bytes.
    """

    lines: dict[str, list[str]]
    text: int
    documents: int
    seconds: float
    ratio: float
    stored: int


class _Part(NamedTuple):
    build: Build
    text: int
    shard: int
    folder: str

    def fresh(self, name: str) -> Build:
        return Build(f"{self.folder}/{name}", self.build.recipe, self.build.scorer)


def _sample(build: Build, size: int) -> _Sample:
    normalise = repair.Normaliser(build.recipe.normalise) if build.recipe.normalise else lambda text: text
    lines: dict[str, list[str]] = {}
    listed = {s.name: build.recipe.readers[s.kind].list_files(s) for s in build.recipe.sources}
    stored = sum(file.size for rows in listed.values() for file in rows)
    text = documents = 0
    ratio, seconds = 0.0, 0.0
    for source in build.recipe.sources:
        share = sum(file.size for file in listed[source.name]) / max(stored, 1)
        before, read, began = _read_bytes(), 0, time.process_time()
        rows = []
        for document in _documents(build, source, listed[source.name]):
            document = document._replace(text=normalise(document.text))
            read += len(document.text.encode("utf-8", "replace"))
            rows.append(document)
            if read >= size * share:
                break
        seconds += time.process_time() - began
        taken = _read_bytes() - before
        ratio += share * (read / taken if taken > read / 100 else 1.0)
        text, documents = text + read, documents + len(rows)
        lines[source.name] = [
            json.dumps({"text": d.text, "url": d.url, "domain": d.domain, "metadata": d.metadata}) + "\n" for d in rows
        ]
    if not text:
        raise MillError("the sources hold no text to measure with; `mill check` says what is wrong with them")
    return _Sample(lines, text, documents, seconds, ratio, stored)


def _documents(build: Build, source: Any, rows: list[Any]) -> Iterator[Document]:
    reader = build.recipe.readers[source.kind]
    for file in rows:
        yield from (record for record in reader.read(source, file) if isinstance(record, Document))


def _read_bytes() -> int:
    """Bytes that this process has read from files; 0 where the system does not say."""
    counts = Path("/proc/self/io")
    return int(counts.read_text().split()[1]) if counts.exists() else 0


def _build(build: Build, folder: str, sample: _Sample, part: float) -> _Part:
    """A build of ``part`` of the sample, its shards as much smaller."""
    part = min(part, 1.0)
    here = Path(folder, f"{part:.6f}")
    here.mkdir(exist_ok=True)
    sources, text = [], 0
    for name, lines in sample.lines.items():
        chosen = lines[: math.ceil(len(lines) * part)]
        (here / f"{name}.jsonl").write_text("".join(chosen), encoding="utf-8", errors="replace")
        text += sum(map(len, chosen))
        sources.append(Jsonl(name=name, path=[str(here / f"{name}.jsonl")], domain_field="domain"))
    shard = max(100_000, min(build.recipe.shard_bytes, int(sample.text * part) // _SHARDS))
    recipe = build.recipe.model_copy(update={"sources": sources, "shard_bytes": shard})
    return _Part(Build(str(here), recipe, build.scorer), text, shard, str(here))


def _steps(build: Build) -> list[Step]:
    return [*curation.steps(build.recipe), *(tokenization.steps() if build.recipe.tokenizers else [])]


def _rates(small: costs.StepCost, large: costs.StepCost, one: _Part, other: _Part) -> dict[str, float]:
    rate = max(0.0, (large.processor - small.processor) / (other.text - one.text))
    units = [_unit(small.step, part.text, part.shard) for part in (one, other)]
    memory = max(0.0, (large.memory - small.memory) / (units[1] - units[0])) if units[1] > units[0] else 0.0
    return {
        "fixed": max(0.0, large.processor - rate * other.text),
        "rate": rate,
        "memory": memory,
        "memory_fixed": max(0.0, large.memory - memory * units[1]),
        "written": large.written / other.text,
        "items": large.items,
        "serial": float(small.items == large.items == 1 and small.step not in (*_OF_DOCUMENTS, *_OF_TEXT)),
        "opened": large.opened / large.items,
        "shards": other.text / other.shard,
    }


def _unit(step: str, text: float, shard: float, documents: float = 1 / 4000) -> float:
    """Bytes of text that one item of ``step`` has to do with."""
    if step in _OF_DOCUMENTS:
        return min(text, row_numbers.PARTITION_ROWS / documents)
    return min(text, repeats.PARTITION_BYTES) if step in _OF_TEXT else shard


def of(rates: Mapping[str, Any], size: float, shard_bytes: int, cores: int) -> Plan:
    """The plan for ``size`` bytes of text on ``cores`` cores, a worker on each."""
    shards = max(1, math.ceil(size / shard_bytes))
    seconds = {name: step["fixed"] + step["rate"] * size for name, step in rates["steps"].items()}
    seconds["ingest"] = max(seconds.get("ingest", 0.0), rates["ingest"] * size)
    clock = memory = disk = opened = 0.0
    for name, step in rates["steps"].items():
        items = 1 if step["serial"] else max(1, _items(name, step, size, shards, rates["documents"]))
        clock += seconds[name] / min(cores, items)
        unit = _unit(name, size, min(shard_bytes, size), rates["documents"])
        memory = max(memory, step["memory_fixed"] + step["memory"] * unit)
        disk += step["written"] * size
        opened += step["opened"] * items
    opened += _exchanged(rates, size, shards)
    disk += sum(
        step["written"] * size * 1.3
        for name, step in rates["steps"].items()
        if exchange.groups(shards)
        and name in ("exact.hashes", "minhash.signatures", *(f"{s}.hashes" for s in _REPEATS))
    )
    clock += rates["imports"] + rates["kernels"]
    # in a small build a kernel is used by about one process; in a large one none of this counts
    start = cores * rates["imports"] + rates["kernels"]
    return Plan(size, sum(seconds.values()) + start, clock, memory, disk, opened, seconds)


_REPEATS = ("passages", "substring")


def _items(name: str, step: Mapping[str, float], size: float, shards: int, documents: float) -> int:
    if name in _OF_DOCUMENTS:
        return int(step["items"]) * len(row_numbers.partition_names(int(size * documents), row_numbers.PARTITION_ROWS))
    if name in _OF_TEXT:
        return len(row_numbers.partition_names(int(size), repeats.PARTITION_BYTES))
    return math.ceil(step["items"] / step["shards"] * shards)


def _exchanged(rates: Mapping[str, Any], size: float, shards: int) -> float:
    """Files that deduplication's partitions open: of every shard, or of those between (``exchange``)."""
    total = 0.0
    for name, step in rates["steps"].items():
        if name in (*_OF_DOCUMENTS, *_OF_TEXT):
            keys = int(step["items"]) if name in _OF_DOCUMENTS else 1
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
