"""Forgetting: documents leave a build as if its sources had never held them, and what had lost to them comes back.

``record`` puts them on the build's list (see ``forgotten``); the next run of the recipe carries it out: ingest leaves
them out, the shards that held them are rewritten, and deduplication finds another survivor for their duplicates,
which then pass all later stages. What no document of the list touches is not made again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.build import find_documents
from pipeline.build.build import Build
from pipeline.build.lock import locked
from pipeline.curation import forget_list


def record(build: Build, ids: Sequence[str], day: date, on_wait: Callable[[str], object] | None = None) -> list[str]:
    """Put ``ids`` on the forget list of ``build``; returns those that were not on it yet.

    The build's lock is held from reading the list to writing it. While another process is at work on the build, it is
    waited for, with a line to ``on_wait``; without that, raises BuildBusy. Raises UnknownDocument if the build neither
    holds nor has forgotten one of ``ids``. Both change nothing.
    """
    with locked(build.root, on_wait):
        known = forget_list.entries(build)
        new = [name for name in dict.fromkeys(ids) if name not in known]
        places = find_documents.locate(build, new)
        for name in new:
            if name not in places:
                raise find_documents.UnknownDocument(find_documents.unknown(build, name))
        lost = _duplicates(build, new)
        forget_list.write(build, {**known, **{name: {"on": day.isoformat(), "duplicates": lost[name]} for name in new}})
    return new


def _duplicates(build: Build, ids: Sequence[str]) -> dict[str, dict[str, list[str]]]:
    """Of each of ``ids``, by stage, the documents that were dropped as its duplicates."""
    wanted = pa.array(ids, pa.string())
    duplicates: dict[str, dict[str, list[str]]] = {name: {} for name in ids}
    for shard in build.shards() if ids else ():
        for stage in build.stages:
            table = build.ledger(stage, shard)
            if "duplicate_of" not in table.column_names:
                continue
            rows = pc.indices_nonzero(pc.is_in(table["duplicate_of"], wanted).combine_chunks())
            lost = build.documents(shard)["id"].take(rows).to_pylist()
            for name, survivor in zip(lost, table["duplicate_of"].take(rows).to_pylist(), strict=True):
                duplicates[survivor].setdefault(stage, []).append(name)
    return duplicates
