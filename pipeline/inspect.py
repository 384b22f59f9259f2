"""Questions to a build: why is this document in the corpus or not, and which builds are there.

Every answer is read from shards and ledgers; nothing is measured again.
"""

from __future__ import annotations

import difflib
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline import MillError, forgotten
from pipeline.build import Build, edited
from pipeline.store import files, ledger, shards
from pipeline.text import spans
from pipeline.text.spans import SPANS


class UnknownDocument(MillError):
    """The build holds no document of that id; the message names the nearest ids."""


@dataclass(frozen=True)
class Check:
    """One bound of a rule on one document. ``margin`` is below 0 where it failed, None where it does not apply."""

    rule: str
    signal: str
    value: float | None
    bound: str  # "minimum" or "maximum"
    threshold: float | None
    group: str | None  # the language, domain, ... that chose the threshold

    @property
    def margin(self) -> float | None:
        if self.value is None or self.threshold is None:
            return None
        return self.value - self.threshold if self.bound == "minimum" else self.threshold - self.value

    @property
    def passed(self) -> bool:
        return self.margin is None or self.margin >= 0


@dataclass(frozen=True)
class Passage:
    """What happened to the document in one stage. ``cuts`` are the pieces of text that the stage took out."""

    stage: str
    signals: Mapping[str, Any]
    checks: Sequence[Check]
    dropped_by: str | None
    value: float | None
    threshold: float | None
    cuts: Sequence[str]


@dataclass(frozen=True)
class Survivor:
    """The document that stayed in place of a duplicate. ``similarity`` is the value of the verdict; None if exact."""

    id: str
    similarity: float | None
    text: str


@dataclass(frozen=True)
class Explanation:
    """Everything that a build knows about one document.

    ``passages`` end with the stage that dropped it; ``missing`` are stages of the recipe that have not run on it yet.
    ``text`` is what was ingested, ``corpus_text`` what the corpus holds of it (None unless it is kept).
    """

    id: str
    shard: str
    row: int
    source: str
    domain: str
    url: str | None
    metadata: str | None
    passages: Sequence[Passage]
    missing: Sequence[str]
    survivor: Survivor | None
    text: str
    corpus_text: str | None

    @property
    def dropped_by(self) -> str | None:
        return self.passages[-1].dropped_by if self.passages else None


@dataclass(frozen=True)
class Heir:
    """A document that had lost to a forgotten one in ``stage`` and does no more; ``dropped_by``: None if it is kept."""

    id: str
    stage: str
    dropped_by: str | None


@dataclass(frozen=True)
class Forgotten:
    """A document that the build was told to forget. ``carried_out`` is false until the build has run again."""

    id: str
    on: str
    carried_out: bool
    heirs: Sequence[Heir]


def forgotten_document(build: Build, document_id: str) -> Forgotten | None:
    """What is still known of a document that the build was told to forget; None if it was not."""
    entry = forgotten.entries(build).get(document_id)
    if entry is None:
        return None
    places = locate(build, [document_id, *(name for names in entry["duplicates"].values() for name in names)])
    if document_id in places:
        return Forgotten(document_id, entry["on"], False, [])
    heirs = [
        Heir(name, stage, why(build, name).dropped_by)
        for stage, names in entry["duplicates"].items()
        for name in names
        if name in places and not _is_duplicate(build, stage, *places[name])
    ]
    return Forgotten(document_id, entry["on"], True, heirs)


def _is_duplicate(build: Build, stage: str, shard: str, row: int) -> bool:
    return _row(build.ledger_path(stage, shard), row)["duplicate_of"][0].is_valid


def why(build: Build, document_id: str) -> Explanation:
    """What every stage measured on and decided about a document.

    Raises UnknownDocument with the nearest ids, FileNotFoundError if nothing has been ingested yet.
    """
    found = locate(build, [document_id])
    if document_id not in found:
        raise UnknownDocument(unknown(build, document_id))
    shard, row = found[document_id]
    document = {name: column[0].as_py() for name, column in _row(build.path("documents", shard), row).items()}
    passages: list[Passage] = []
    missing: list[str] = []
    signals: dict[str, Any] = {}
    for stage in build.stages:
        path = build.ledger_path(stage, shard)
        if passages and passages[-1].dropped_by:
            break
        if not files.exists(path):
            missing.append(stage)
            continue
        entry = {name: column[0].as_py() for name, column in _row(path, row).items()}
        measured = {name: value for name, value in entry.items() if name not in ledger.VERDICT_COLUMNS}
        signals |= measured
        checks = [check for rule in rules(build, stage) for check in _checks(rule, signals)]
        cuts = _cuts(document["text"], entry)
        verdict = (entry["dropped_by"], entry["value"], entry["threshold"])
        passages.append(Passage(stage, measured, checks, *verdict, cuts))
    kept = not missing and not (passages and passages[-1].dropped_by)
    return Explanation(
        **{name: document[name] for name in ("id", "source", "domain", "url", "metadata", "text")},
        shard=shard,
        row=row,
        passages=passages,
        missing=missing,
        survivor=_survivor(build, passages[-1]) if passages else None,
        corpus_text=texts_before(build, shard, [row], None)[0].as_py() if kept else None,
    )


def locate(build: Build, ids: Iterable[str]) -> dict[str, tuple[str, int]]:
    """Shard and row of each of ``ids``; those that are not there are left out.

    Only the column of ids is read, first of shards that are named after the ids' sources.
    """
    wanted = set(ids)
    found: dict[str, tuple[str, int]] = {}
    sources = tuple({name.split("/", 1)[0] for name in wanted})
    for shard in sorted(build.shards(), key=lambda shard: not shard.startswith(sources)):
        if not wanted:
            break
        column = shards.read_table(build.path("documents", shard), ["id"])["id"].combine_chunks()
        hits = pc.indices_nonzero(pc.is_in(column, pa.array(sorted(wanted), pa.string())))
        for row in hits.to_pylist():
            name = column[row].as_py()
            found[name] = (shard, row)
            wanted.discard(name)
    return found


def rules(build: Build, stage: str) -> list[ledger.Rule]:
    """The rules of ``stage`` under the build's recipe; [] for a stage whose thresholds are found in the data."""
    module = f"pipeline.stages.{stage}"
    found = getattr(import_module(module), "STAGE", None) if find_spec(module) else None
    return list(found.rules(getattr(build.recipe, stage))) if found else []


def texts_before(build: Build, shard: str, rows: Sequence[int], stage: str | None) -> pa.StringArray:
    """The texts of ``rows`` as ``stage`` sees them (None: as the corpus holds them): edits of earlier stages made."""
    take = pa.array(rows, pa.int64())
    texts = build.documents(shard)["text"].take(take).combine_chunks()
    return edited(texts, [build.ledger(name, shard).take(take) for name in build.stages_before(stage)])[0]


def _row(path: str, row: int) -> dict[str, pa.ChunkedArray]:
    table = shards.read_table(path).slice(row, 1)
    return dict(zip(table.column_names, table.columns, strict=True))


def _checks(rule: ledger.Rule, signals: Mapping[str, Any]) -> list[Check]:
    if rule.signal not in signals:
        return []
    value = signals[rule.signal]
    group = signals.get(rule.by) if rule.by else None
    bounds = (("minimum", rule.minimum), ("maximum", rule.maximum))
    return [
        Check(rule.name, rule.signal, None if value is None else float(value), name, _limit(bound, group), group)
        for name, bound in bounds
        if bound is not None
    ]


def _limit(bound: ledger.Threshold, group: str | None) -> float | None:
    if not isinstance(bound, Mapping):
        return float(bound)
    limit = bound.get(group, bound.get("*")) if group is not None else bound.get("*")
    return None if limit is None or math.isnan(limit) else float(limit)


def _cuts(text: str, entry: Mapping[str, Any]) -> list[str]:
    """The pieces of the ingested text that a stage took out or wrote something else for."""
    both = [pa.array([entry.get(name)], SPANS) for name in ("spans", "overwrites")]
    data = text.encode()
    return [data[part["start"] : part["end"]].decode() for part in spans.merge(both)[0].as_py()]


def _survivor(build: Build, last: Passage) -> Survivor | None:
    name = last.signals.get("duplicate_of")
    if not last.dropped_by or not name:
        return None
    shard, row = locate(build, [name])[name]
    return Survivor(name, last.value, texts_before(build, shard, [row], last.stage)[0].as_py())


_NEAR = 500
"""At most so many ids are compared letter by letter with one that is not there."""


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
    found: list[str] = []
    source = prefix.split("/", 1)[0]
    for shard in (shard for shard in build.shards() if shard.startswith(source)):
        column = shards.read_table(build.path("documents", shard), ["id"])["id"]
        found += column.filter(pc.starts_with(column, prefix)).slice(0, _NEAR - len(found)).to_pylist()
        if len(found) >= _NEAR:
            break
    return found


@dataclass(frozen=True)
class BuildRow:
    """A build in a folder of builds and how its latest run went. Sizes are None until the funnel is closed."""

    name: str
    root: str
    recipe: str
    state: str
    runs: int
    started: datetime | None
    seconds: float | None
    error: str | None
    documents: int | None
    bytes: int | None
    kept_documents: int | None
    kept_bytes: int | None


def runs(builds: str) -> list[BuildRow]:
    """The builds in the folder ``builds``, the one that ran last first; [] if there is none."""
    root = files.local(builds)
    found = sorted(root.glob("*/build.json")) if root.is_dir() else []
    rows = [_build_row(str(path.parent)) for path in found]
    return sorted(rows, key=lambda row: (row.started.timestamp() if row.started else 0.0, row.name), reverse=True)


def _build_row(root: str) -> BuildRow:
    record = files.read_json(files.join(root, "build.json"))
    last: dict[str, Any] = record["runs"][-1] if record["runs"] else {"state": "never run"}
    started, ended = (datetime.fromisoformat(last[key]) if last.get(key) else None for key in ("started", "ended"))
    state = last["state"]
    if state == "running" and not _is_running(last.get("process")):
        state = "killed"
    funnel = files.join(root, "funnel.json")
    stages = files.read_json(funnel)["stages"] if files.exists(funnel) else None
    first, final = (stages[0], stages[-1]) if stages else ({}, {})
    return BuildRow(
        name=files.local(root).name,
        root=root,
        recipe=record["recipe"],
        state=state,
        runs=len(record["runs"]),
        started=started,
        seconds=(ended - started).total_seconds() if started and ended else None,
        error=last.get("error"),
        documents=first.get("documents"),
        bytes=first.get("bytes"),
        kept_documents=final.get("documents"),
        kept_bytes=final.get("bytes"),
    )


def _is_running(process: int | None) -> bool:
    if process is None:
        return True  # nothing is known about it
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
