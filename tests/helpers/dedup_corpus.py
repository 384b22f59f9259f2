"""Builds of a few documents, and the brute force that deduplication is checked against."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.build.build import Build, Step
from pipeline.stages.dedup import exact, minhash, passages, substring
from pipeline.store import files, shards
from tests.helpers.sections import Sections


@dataclass(frozen=True)
class Recipe(Sections):
    """As much of a recipe as deduplication reads."""

    name: str = "test"
    exact: exact.Config | None = None
    minhash: minhash.Config | None = None
    passages: passages.Config | None = None
    substring: substring.Config | None = None
    against: tuple[str, ...] = ()


Document = Mapping[str, Any]


def build_of(root: Path, documents: Sequence[Document | str], shard_size: int = 7, **sections: Any) -> Build:
    """A build in ``root`` with these documents in shards, and these sections in the recipe."""
    build = Build(str(root), Recipe(**sections))  # type: ignore[arg-type]
    write_documents(build, documents, shard_size)
    return build


def write_documents(build: Build, documents: Sequence[Document | str], shard_size: int) -> None:
    """Write the shards and the manifest; a document that is a text gets its text's place as id."""
    names = []
    entries = [
        {"id": f"doc-{i:05d}", "text": document} if isinstance(document, str) else dict(document)
        for i, document in enumerate(documents)
    ]
    for first in range(0, max(len(entries), 1), shard_size):
        here = [
            {"source": "web", "domain": "web", "url": None, "metadata": None, **entry}
            for entry in entries[first : first + shard_size]
        ]
        table = pa.Table.from_pylist(here, schema=shards.DOCUMENT_SCHEMA)
        names.append(f"{first // shard_size:05d}.arrow")
        shards.write_table(build.path("documents", names[-1]), table, files.fingerprint(here))
    sizes = {"documents": len(entries), "bytes": sum(len(entry["text"].encode()) for entry in entries)}
    files.write_json(build.path("documents", "manifest.json"), {"shards": names, "sources": {"all": sizes}})


def run(build: Build, steps: Sequence[Step], seed: int = 0) -> tuple[int, int]:
    """Run all steps, the items of each in an order drawn from ``seed``; how many did work, and how many there are."""
    worked, total = 0, 0
    for step in steps:
        items = list(step.items(build))
        random.Random(seed).shuffle(items)
        for item in items:
            worked += not step.work(build, item).reused
            total += 1
    return worked, total


def decisions(build: Build, stage: str) -> dict[str, dict[str, Any]]:
    """The ledger of ``stage`` by document id, of all shards."""
    found = {}
    for shard in build.shards():
        ids = build.documents(shard)["id"].to_pylist()
        found.update(zip(ids, build.ledger(stage, shard).to_pylist(), strict=True))
    return found


def dropped(build: Build, stage: str) -> dict[str, str]:
    """The dropped documents of ``stage``, each with its survivor."""
    return {
        name: entry["duplicate_of"]
        for name, entry in decisions(build, stage).items()
        if entry["dropped_by"] is not None
    }


def partition_of(ids: Sequence[str], edges: Sequence[tuple[str, str]]) -> set[frozenset[str]]:
    """The connected components of two or more, by merging sets: the plainest way."""
    component = {name: {name} for name in ids}
    for a, b in edges:
        if component[a] is not component[b]:
            component[a] |= component[b]
            for name in component[b]:
                component[name] = component[a]
    return {frozenset(members) for members in component.values() if len(members) > 1}
