"""Questions to a build: why is this document in the corpus or not, and which builds are there.

Every answer is read from shards and ledgers; nothing is measured again. What is done to one text is done in plain
Python, for pandas, which pyarrow loads for the first array it makes, and compiled kernels take longer to load.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.build.build import Build
from pipeline.build.find_documents import UnknownDocument, locate, unknown
from pipeline.curation import forget_list
from pipeline.stages.registry import rules
from pipeline.store import files, ledger, shards


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
    entry = forget_list.entries(build).get(document_id)
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
    return _row(build.ledger_path(stage, shard), row, ["duplicate_of"])["duplicate_of"] is not None


def why(build: Build, document_id: str) -> Explanation:
    """What every stage measured on and decided about a document.

    Raises UnknownDocument with the nearest ids, FileNotFoundError if nothing has been ingested yet.
    """
    places = locate(build, [document_id])
    if document_id not in places:
        raise UnknownDocument(unknown(build, document_id))
    shard, row = places[document_id]
    document = _row(build.path("documents", shard), row)
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
        entry = _row(path, row)
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
        corpus_text=_text_before(build, shard, row, None) if kept else None,
    )


def _row(path: str, row: int, columns: Sequence[str] | None = None) -> dict[str, Any]:
    """The values of one row, of all columns or of those of ``columns`` that are there."""
    table = shards.read_table(path).slice(row, 1)
    names = [name for name in table.column_names if columns is None or name in columns]
    return {name: table[name][0].as_py() for name in names}


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
    data = text.encode()
    edits = (part for name in ("spans", "overwrites") for part in entry.get(name) or ())
    return [data[start:end].decode() for start, end in _united(edits)]


def _text_before(build: Build, shard: str, row: int, stage: str | None) -> str:
    """``texts_before`` of one document."""
    text = _row(build.path("documents", shard), row, ["text"])["text"]
    paths = [build.ledger_path(name, shard) for name in build.stages_before(stage)]
    return _edited(text, [_row(path, row, ledger.EDIT_COLUMNS) for path in paths])


def _edited(text: str, entries: Sequence[Mapping[str, Any]]) -> str:
    """``text`` after the edits of some stages: ``pipeline.build.build.edited`` of one text."""
    data = bytearray(text.encode())
    for entry in entries:
        fill = iter((entry.get("overwritten_with") or "").encode())
        for part in entry.get("overwrites") or ():
            for at in range(part["start"], part["end"]):
                data[at] = next(fill)
    for start, end in reversed(_united(part for entry in entries for part in entry.get("spans") or ())):
        del data[start:end]
    return data.decode()


def _united(ranges: Iterable[Mapping[str, int]]) -> list[tuple[int, int]]:
    """The union of byte ranges, in order: touching ranges become one, empty ones vanish."""
    united: list[tuple[int, int]] = []
    for start, end in sorted((part["start"], part["end"]) for part in ranges if part["start"] < part["end"]):
        if united and start <= united[-1][1]:
            start, end = united[-1][0], max(end, united.pop()[1])
        united.append((start, end))
    return united


def _survivor(build: Build, last: Passage) -> Survivor | None:
    name = last.signals.get("duplicate_of")
    if not last.dropped_by or not name:
        return None
    shard, row = locate(build, [name])[name]
    return Survivor(name, last.value, _text_before(build, shard, row, last.stage))
