"""Where a document stands in a build, by its id or the beginning of it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

import pyarrow.compute as pc

from pipeline import MillError
from pipeline.build.build import Build
from pipeline.store import files, shards
from pipeline.text.buffers import strings


class UnknownDocument(MillError):
    """The build holds no document of that id; the message names the nearest ids."""


def locate(build: Build, ids: Iterable[str]) -> dict[str, tuple[str, int]]:
    """Shard and row of each of ``ids``; those that are not there are left out.

    Only the column of ids is read, first of shards that are named after the ids' sources.
    """
    wanted = set(ids)
    places: dict[str, tuple[str, int]] = {}
    sources = tuple({name.split("/", 1)[0] for name in wanted})
    for shard in sorted(build.shards(), key=lambda shard: not shard.startswith(sources)):
        if not wanted:
            break
        column = shards.read_table(build.path("documents", shard), ["id"])["id"].combine_chunks()
        hits = pc.indices_nonzero(pc.is_in(column, strings(sorted(wanted))))
        for row in hits.to_pylist():
            name = column[row].as_py()
            places[name] = (shard, row)
            wanted.discard(name)
    return places


_NEAR = 500
"""Most ids that are compared letter by letter with one that is not there."""


def unknown(build: Build, wanted: str) -> str:
    """The message for an id that is not there; nearest are ids of its file, else of its folder, else of its source."""
    prefixes = [wanted.rpartition(mark)[0] + mark for mark in ("#", "/") if mark in wanted]
    prefixes.append(wanted.split("/", 1)[0] + "/")
    near: list[str] = []
    for prefix in dict.fromkeys(prefixes):
        near = _ids_with_prefix(build, prefix)
        if near:
            break
    if not near:
        sources = files.read_json(build.path("documents", "manifest.json"))["sources"]
        return f"{wanted}: no such document. An id begins with its source's name; here: {', '.join(sorted(sources))}"
    best = difflib.get_close_matches(wanted, near, n=5, cutoff=0.0)
    return f"{wanted}: no such document. Nearest: {', '.join(best)}"


def _ids_with_prefix(build: Build, prefix: str) -> list[str]:
    ids: list[str] = []
    source = prefix.split("/", 1)[0]
    for shard in (shard for shard in build.shards() if shard.startswith(source)):
        column = shards.read_table(build.path("documents", shard), ["id"])["id"]
        ids += column.filter(pc.starts_with(column, prefix)).slice(0, _NEAR - len(ids)).to_pylist()
        if len(ids) >= _NEAR:
            break
    return ids
