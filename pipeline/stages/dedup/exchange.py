"""What many files hold of many partitions, handed over with file openings that grow with the corpus, not its square.

With n files and p partitions (p grows with n), a partition that looks into each file makes n * p openings. Up to
``DIRECT`` files that is what is done. Above that, the files are taken in groups of about 2 * sqrt(n), and a step
between writes, for each group, one file a bundle of partitions: an item opens the files of its group, the next one the
files of its bundle. Bundles are so large that there are at most ``FILES`` * n files between. What is found about rows
goes back the same way: an item writes what it found by group, and a step between gathers a group's and writes one file
a shard. Every file between is written once and read once, whole.

An input is a number: its place among the shards, those of earlier builds first (``row_numbers``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise

import numpy as np
import pyarrow as pa

from pipeline.build import row_numbers
from pipeline.build.build import Build, Made, Outcome, make
from pipeline.store import files, shards

VERSION = 1

#: The most inputs of which each partition opens all.
DIRECT = 64
#: The most files between inputs and partitions, for each input.
FILES = 4

#: What an input has of one bundle: ``part(number, table, bundle)`` with global row numbers.
Part = Callable[[int, pa.Table, str], pa.Table]


def groups(inputs: int) -> list[range]:
    """The numbers of the inputs in runs; [] where each partition opens all inputs itself."""
    if inputs <= DIRECT:
        return []
    size = math.ceil(2 * math.sqrt(inputs))
    return [range(first, min(first + size, inputs)) for first in range(0, inputs, size)]


def group_names(inputs: int) -> list[str]:
    return [f"{number:05d}" for number in range(len(groups(inputs)))]


def bundles(partitions: Sequence[str], inputs: int, keys: int = 1) -> list[str]:
    """Names of partitions (``row_numbers.part_of``), each of one or more of ``partitions``, of which there are 2**k.

    ``keys``: how often all hashes are exchanged, each time by another key.
    """
    count = len(partitions)
    while groups(inputs) and count > 1 and count * keys * len(groups(inputs)) > FILES * inputs:
        count //= 2
    return [f"{number:05d}-of-{count:05d}" for number in range(count)]


def inside(bundle: str, partitions: Sequence[str]) -> Sequence[str]:
    """Those of ``partitions`` that lie in ``bundle``."""
    number, count = (int(field) for field in bundle.split("-of-"))
    each = len(partitions) // count
    return partitions[number * each : (number + 1) * each]


def between(build: Build, step: str, bundle: str, inputs: int) -> list[str]:
    """The paths of what ``step`` writes between ``bundle`` and each group."""
    return [build.path("work", step, f"{bundle}.{group}") for group in group_names(inputs)]


def scatter(
    build: Build, step: str, group: str, paths: Sequence[str], names: Sequence[str], key: str, part: Part, *extra: str
) -> Outcome:
    """Write, for each of the bundles ``names``, what the inputs of ``group`` have of it, ascending in ``key``.

    ``extra`` names what ``part`` depends on beside the inputs.
    """
    numbers = groups(len(paths))[int(group)]
    inputs = row_numbers.fingerprints([paths[number] for number in numbers])
    opened: list[pa.Table] = []

    def rows(name: str) -> Made:
        if not opened:
            opened.extend(shards.read_table(paths[number]) for number in numbers)
        parts = [part(number, table, name) for number, table in zip(numbers, opened, strict=True)]
        table = pa.concat_tables(parts).combine_chunks()
        order = np.argsort(row_numbers.array(table, key), kind="stable")
        return Outcome(len(table)), table.take(pa.array(order))

    outcomes = []
    for name in names:
        made_by = files.fingerprint(step, VERSION, name, numbers.start, inputs, extra)
        outcomes.append(make(build.path("work", step, f"{name}.{group}"), made_by, partial(rows, name)))
    return together(outcomes)


def slices(tables: Sequence[pa.Table], key: str, partition: str) -> Iterator[pa.Table]:
    """What each of ``tables``, ascending in ``key``, has of ``partition``; no copy."""
    for table in tables:
        here = row_numbers.part_of(row_numbers.array(table, key), partition)
        yield table.slice(here.start, here.stop - here.start)


def by_group(table: pa.Table, inputs: int) -> list[pa.Table]:
    """The rows of ``table``, which ascend in ``row`` (global), of each group."""
    row = row_numbers.array(table, "row")
    edges = [group.start * row_numbers.SHARD for group in groups(inputs)]
    starts = [*np.searchsorted(row, edges).tolist(), len(row)]
    return [table.slice(start, end - start) for start, end in pairwise(starts)]


def gather(build: Build, step: str, group: str, sources: Sequence[str], inputs: int) -> Outcome:
    """Write, for each input of ``group``, what ``sources`` (tables ascending in ``row``) say of it, ascending."""
    made_by = row_numbers.fingerprints(sources)
    opened: list[pa.Table] = []

    def rows(number: int) -> Made:
        if not opened:
            opened.extend(map(shards.read_table, sources))
        table = pa.concat_tables(row_numbers.of_shard(table, number) for table in opened)
        return Outcome(len(table)), table.sort_by("row")

    return together(
        make(
            findings_path(build, step, number), files.fingerprint(step, VERSION, number, made_by), partial(rows, number)
        )
        for number in groups(inputs)[int(group)]
    )


def findings_path(build: Build, step: str, number: int) -> str:
    """Where ``gather`` writes what was found of one input."""
    return build.path("work", step, f"{number:08d}")


def pack(build: Build, step: str, group: str, paths: Sequence[str], columns: Sequence[str]) -> Outcome:
    """Write ``columns`` of the inputs of ``group`` into one file, a record batch for each."""
    numbers = groups(len(paths))[int(group)]
    sources = [paths[number] for number in numbers]
    path = build.path("work", step, group)
    made_by = files.fingerprint(step, VERSION, numbers.start, row_numbers.fingerprints(sources))
    if shards.is_current(path, made_by):
        return Outcome(reused=True)
    rows = [shards.read_rows(source) for source in sources]
    tables = (shards.read_table(source).select(columns) for source in sources)
    shards.write_batches(path, tables, rows, made_by)
    return Outcome(sum(rows))


def packed(build: Build, step: str, inputs: int) -> list[str]:
    """The paths that ``pack`` writes."""
    return [build.path("work", step, group) for group in group_names(inputs)]


def together(outcomes: Iterator[Outcome] | Sequence[Outcome]) -> Outcome:
    listed = list(outcomes)
    return Outcome(sum(one.documents for one in listed), reused=all(one.reused for one in listed))
