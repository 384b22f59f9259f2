"""The documents of earlier builds, as their indexes (see ``index``) hand them to this one.

Where a recipe names indexes in ``against``, their shards stand before the build's own in all that goes over many
shards, and in the numbering of rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow.compute as pc

from pipeline import MillError
from pipeline.build import row_numbers
from pipeline.build.build import Build
from pipeline.stages.dedup import exchange
from pipeline.store import files, shards
from pipeline.text import folding

#: Raised whenever the same text and recipe would give other content hashes, band keys or shingle sets.
VERSION = 1


class WrongIndex(MillError):
    """An index that this recipe cannot be deduplicated against; the message says why and what to do."""


def settings(build: Build) -> dict[str, Any]:
    """What a build must have in common with the indexes that it uses."""
    values: dict[str, Any] = {"version": VERSION, "unicode": folding.UNICODE_VERSION, "exact": None, "minhash": None}
    if (config := build.section("exact")) is not None:
        values["exact"] = config.model_dump(mode="json")
    if (config := build.section("minhash")) is not None:
        values["minhash"] = config.model_dump(mode="json", include={"ngram", "bands", "rows", "seed", "keep"})
    return values


def indexes(build: Build) -> dict[str, dict[str, Any]]:
    """The manifest of each index in ``against``, by its folder. Raises WrongIndex."""
    known, own = {}, settings(build)
    for folder in build.section("against") or ():
        path = files.join(folder, "manifest.json")
        if not files.exists(path):
            raise WrongIndex(f"against: {folder} is not a finished index (no manifest.json); finish it or leave it out")
        known[folder] = manifest = files.read_json(path)
        for name, value in own.items():
            if (made := manifest["settings"].get(name)) != value:
                raise WrongIndex(
                    f"against: {folder} was made with {name} = {made}, this recipe has {value}; use the same settings, "
                    "or make the index again"
                )
    return known


def inputs(build: Build, table: str) -> list[str]:
    """The paths of ``table`` (``exact.hashes``, ...) of all shards, those of earlier builds first."""
    before = [files.join(folder, table, shard) for folder, index in indexes(build).items() for shard in index["shards"]]
    folder = build.path("work", table)
    return before + [f"{folder}/{shard}" for shard in build.places()]


def shards_before(build: Build) -> int:
    """How many shards of earlier builds stand before the first of this one."""
    return sum(len(index["shards"]) for index in indexes(build).values())


def number(build: Build, shard: str) -> int:
    """The place of ``shard`` among all, which global row numbers begin with."""
    return shards_before(build) + build.place(shard)


def count(build: Build) -> int:
    """How many shards there are, those of earlier builds included."""
    return shards_before(build) + len(build.places())


def partitions(build: Build) -> list[str]:
    """Names of the parts into which the hashes of all documents are split, see ``rows.partition_names``."""
    documents = row_numbers.corpus_size(build, "documents") + sum(
        index["documents"] for index in indexes(build).values()
    )
    return row_numbers.partition_names(documents, row_numbers.PARTITION_ROWS)


def dropped_as_copies(build: Build) -> np.ndarray:
    """int64, ascending: the global row numbers of those documents of earlier builds that are exact duplicates."""
    end, rows = shards_before(build) * row_numbers.SHARD, [np.empty(0, np.int64)]
    if end and build.section("exact") is not None:
        for path in dict.fromkeys(path for n in range(shards_before(build)) for path in exact_findings(build, n)):
            table = shards.read_table(path)
            table = table.slice(0, int(np.searchsorted(row_numbers.array(table, "row"), end)))
            rows.append(row_numbers.array(table.filter(pc.is_valid(table["duplicate_of"])), "row"))
    return np.sort(np.concatenate(rows))


def exact_findings(build: Build, number: int) -> list[str]:
    """The paths of what the exact stage found about the shard ``number`` among all, and maybe others; see
    ``verdicts``.
    """
    if exchange.groups(count(build)):
        return [exchange.findings_path(build, "exact.found", number)]
    return [build.path("work", "exact.duplicates", partition) for partition in partitions(build)]
