"""What curating a build may take, before any work: text, time, disk and memory, each as a range with its origin.

Nothing is run. Where `mill plan --measure` has measured rates for the recipe, these are used (``plan``). Else, where
earlier builds of the same folder of builds are finished, their own rates and sizes are used; else what
docs/benchmarks.md measured on one core, with room on both sides.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from pipeline.build import record
from pipeline.build.build import Build
from pipeline.curation import plan, preflight
from pipeline.sources.reading import COMPRESSED
from pipeline.store import files
from pipeline.text import formats


class Range(NamedTuple):
    """``what`` is from ``low`` to ``high``, in bytes or seconds; ``origin`` says where the numbers come from."""

    what: str
    low: float
    high: float
    unit: str
    origin: str

    @property
    def words(self) -> str:
        low, high = (_shown(value, self.unit) for value in (self.low, self.high))
        return low if low == high else f"{low} to {high}"

    def with_more(self, others: Iterable[Range]) -> Range:
        """The sum with ``others``."""
        listed = list(others)
        low, high = sum(each.low for each in listed), sum(each.high for each in listed)
        return self._replace(low=self.low + low, high=self.high + high)


def _shown(value: float, unit: str) -> str:
    """With two digits: no estimate here knows a third."""
    number, _, of = (formats.size(value) if unit == "bytes" else formats.duration(value / 3600)).partition(" ")
    rounded = float(f"{float(number.replace(',', '')):.1e}")
    return f"{rounded:,g} {of}"


#: Text in a byte of a file as it is stored unpacked: least and most. What is beside it are other fields and markup.
_TEXT = {"text": (1, 1), "jsonl": (0.4, 1), "csv": (0.4, 1), "parquet": (0.5, 4), "hub": (0.5, 4), "warc": (0.03, 0.4)}
_OTHER_KIND = (0.2, 1.5)
#: Bytes that a byte of compressed text unpacks to.
_UNPACKED = (2, 8)
#: docs/benchmarks.md, one core; perplexity is without the estimation of its model.
_SPEEDS = {
    "language": 21.7, "heuristics": 57.7, "perplexity": 23.1, "pii": 747, "exact": 372, "minhash": 120,
    "substring": 12, "toxicity": 14, "quality": 14,
}  # fmt: skip
#: Of steps that have no line there.
_OTHER_SPEED = 40.0
#: Of the steps of every build: reading and writing.
_ALWAYS = ("ingest", "corpus", "funnel")
#: How far off a rate may be that was measured here, and one of another machine.
_MEASURED_HERE, _MEASURED_THERE = 2, 4
#: And one of this recipe on a sample of its sources.
_PLANNED = 1.25
#: Seconds for starting, and for compiling the kernels the first time.
_START = (5, 90)
#: Builds with less text say more of starting than of work.
_LEAST_TEXT = 4 << 20
#: Disk of a build in bytes a byte of text: documents, ledgers and corpus; and work, tokens and a report beside them.
_DISK = (1.3, 4.0)
#: Memory of a worker in bytes a byte of its shard, and for libraries and kernels.
_SHARDS, _PROCESS = (2, 8), (250 << 20, 600 << 20)


def text(build: Build, remote: bool) -> Range | None:
    """Text that the sources of ``build`` may hold; None where that cannot be known without asking another machine."""
    low = high = 0.0
    stored = packed = 0
    for source in build.recipe.sources:
        if not remote and not preflight.is_here(source):
            return None
        least, most = _TEXT.get(source.kind, _OTHER_KIND)
        for file in build.recipe.readers[source.kind].list_files(source):
            is_packed = source.kind != "parquet" and file.name.lower().endswith(COMPRESSED)
            low += file.size * least * (_UNPACKED[0] if is_packed else 1)
            high += file.size * most * (_UNPACKED[1] if is_packed else 1)
            stored += file.size
            packed += file.size if is_packed else 0
    origin = f"{formats.size(stored)} of files" + (f", {formats.size(packed)} of it compressed" if packed else "")
    return Range("text", low, high, "bytes", origin + ", by their format")


def of(build: Build, size: Range, workers: int) -> list[Range]:
    """Time, disk and memory of curating ``size`` of text with ``workers`` tasks at a time."""
    if (rates := plan.read(build)) is not None:
        return _planned(build, rates, size, workers)
    earlier = list(_earlier(build))
    return [_time(build, size, workers, earlier), _disk(build, size, earlier), _memory(build, size, workers)]


def _planned(build: Build, rates: Mapping[str, Any], size: Range, workers: int) -> list[Range]:
    """The same by the rates that `mill plan --measure` measured."""
    low, high = (plan.of(rates, text, build.recipe.shard_bytes, workers) for text in (size.low, size.high))
    origin = f"rates that `mill plan --measure` measured on {formats.size(rates['sample'])} of the sources"
    ranges = {
        "time to curate": (low.clock, high.clock, "seconds"),
        "disk": (low.disk, high.disk, "bytes"),
        "memory to curate": (low.memory * workers, high.memory * workers, "bytes"),
    }
    return [
        Range(what, least / _PLANNED, most * _PLANNED, unit, f"{origin}; {workers} at a time")
        for what, (least, most, unit) in ranges.items()
    ]


def require_room(build: Build, disk: Range) -> str | None:
    """A problem if the build's disk has less free than the least that it needs. What the build has already counts."""
    existing = files.local_name(build.root)
    while not existing.exists():
        existing = existing.parent
    free, has = shutil.disk_usage(existing).free, _size(build.root)
    if disk.low - has <= free:
        return None
    return (
        f"--builds: {formats.size(free)} are free on the disk of {existing}, and the build needs at least"
        f" {formats.size(disk.low - has)}; free some space, or choose another folder"
    )


def memory_warning(memory: Range) -> str | None:
    """A sentence if ``memory`` may be more than this machine has."""
    total = psutil.virtual_memory().total
    if memory.high <= total:
        return None
    sure = "is more" if memory.low > total else "may be more"
    return f"{memory.what}: {memory.words} {sure} than the {formats.size(total)} of this machine"


class _Earlier(NamedTuple):
    root: str
    text: int
    seconds: Mapping[str, float]


def _earlier(build: Build) -> Iterator[_Earlier]:
    """Finished builds beside ``build``, its own first: their text, and the seconds that each of their steps took."""
    root = files.local_name(build.root)
    for path in sorted(root.parent.glob("*/funnel.json"), key=lambda path: (path.parent != root, path)):
        funnel = files.read_json(str(path))
        size = funnel["stages"][0]["bytes"] if funnel.get("stages") else 0
        if size < _LEAST_TEXT or not (path.parent / "build.json").is_file():
            continue
        seconds: dict[str, float] = {}
        for run in record.runs_of(Build(str(path.parent), build.recipe)):
            for step, value in run["steps"].items():  # a run that found a step up to date took no time for it
                seconds[step] = max(value, seconds.get(step, 0.0))
        yield _Earlier(str(path.parent), size, seconds)


def _time(build: Build, size: Range, workers: int, earlier: list[_Earlier]) -> Range:
    low, high = _START
    guessed: list[str] = []
    own = earlier[0] if earlier else None
    for stage in [*_ALWAYS, *build.stages]:
        taken = own and _seconds_of(own.seconds, stage)
        if own and taken:
            low += size.low / own.text * taken / _MEASURED_HERE
            high += size.high / own.text * taken * _MEASURED_HERE
        else:
            rate = _SPEEDS.get(stage, _OTHER_SPEED) * 1e6
            low += size.low / rate / workers / _MEASURED_THERE
            high += size.high / rate * _MEASURED_THERE / min(workers, 2)
            guessed.append(stage)
    said = []
    if own and len(guessed) < len(build.stages) + len(_ALWAYS):
        measured = own.text / 1e6 / sum(own.seconds.values())
        said.append(f"the rates of {Path(own.root).name}, {measured:.2g} MB/s in all")
    said += [f"docs/benchmarks.md for {', '.join(guessed) if own else 'all stages'}"] if guessed else []
    return Range("time to curate", low, high, "seconds", f"{' and '.join(said)}; {workers} at a time")


def _seconds_of(steps: Mapping[str, float], stage: str) -> float:
    return sum(value for name, value in steps.items() if name.partition(".")[0] == stage)


def _disk(build: Build, size: Range, earlier: list[_Earlier]) -> Range:
    if earlier:
        own = earlier[0]
        ratio = _size(own.root) / own.text
        origin = f"{ratio:.1f} bytes a byte of text, as {Path(own.root).name} takes"
        return Range("disk", size.low * ratio / 1.5, size.high * ratio * 1.5, "bytes", origin)
    tokens = len(build.section("tokenizers") or ())
    most = _DISK[1] + tokens
    origin = f"{_DISK[0]:g} to {most:g} bytes a byte of text: stored twice, with ledgers, work and tokens; assumed"
    return Range("disk", size.low * _DISK[0], size.high * most, "bytes", origin)


def _size(root: str) -> int:
    return sum(_sizes(root))


def _sizes(root: str) -> Iterable[int]:
    for folder, _, names in os.walk(root):
        for name in names:
            path = Path(folder, name)
            yield path.stat().st_size if path.is_file() and not path.is_symlink() else 0


def _memory(build: Build, size: Range, workers: int) -> Range:
    shard = build.recipe.shard_bytes
    low = workers * (_PROCESS[0] + _SHARDS[0] * min(shard, size.low / workers))
    high = (workers + 1) * _PROCESS[1] + workers * _SHARDS[1] * min(shard, size.high)
    origin = f"{workers} workers with a shard of at most {formats.size(shard)} each; assumed"
    return Range("memory to curate", low, high, "bytes", origin)
