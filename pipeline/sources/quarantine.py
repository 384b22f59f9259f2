"""What ingest read that did not become a document: counted by kind, with examples, and weighed against the budget.

A part of the input keeps its account in ``Account``; ``total`` adds the reports of the parts of a source, and ``check``
compares the sum with the error budget.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from pipeline import MillError
from pipeline.sources.base import Flagged, PassedOver, Rejected, Unread, printable
from pipeline.store import files

#: A part keeps this many of its bad records for inspection; all are counted.
MAX_QUARANTINED = 10_000
#: Stretches that could not be read are listed up to this number; all are counted.
_LISTED = 100
_SHOWN = 3
#: Kinds and reasons that are counted by themselves, and their length in characters.
_KINDS = 1000
_LONGEST = 300

SCHEMA = pa.schema(
    [
        pa.field("source", pa.string(), nullable=False),
        pa.field("file", pa.string(), nullable=False),
        pa.field("record", pa.int64(), nullable=False),
        pa.field("offset", pa.int64()),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("excerpt", pa.string(), nullable=False),
        pa.field("count", pa.int64(), nullable=False),
    ]
)


class ErrorBudgetExceeded(MillError):
    """More of a source's records were bad, or may have been in what was not read, than the recipe allows."""


def empty() -> dict[str, Any]:
    """The account of nothing.

    ``quarantined`` records by ``reasons``, ``passed_over`` and ``flagged`` by kind, each with ``count`` and file and
    record of the first; ``unread`` stretches of files, in number, stored bytes and (an estimate) bytes missing, and
    the first of them.
    """
    nothing = {"count": 0, "bytes": 0, "missing": 0, "stretches": []}
    return {"quarantined": 0, "reasons": {}, "passed_over": {}, "flagged": {}, "unread": nothing}


class Account:
    """What of one part did not become a document; the first MAX_QUARANTINED bad records are kept."""

    def __init__(self, source: str):
        self.report = empty()
        self._source = source
        self._rows: list[dict[str, Any]] = []

    def add(self, record: Rejected | PassedOver | Flagged | Unread) -> None:
        record = record._replace(file=printable(files.masked(record.file)))
        if isinstance(record, Unread):
            unread = self.report["unread"]
            unread["count"] += 1
            unread["missing" if record.missing else "bytes"] += record.bytes
            if len(unread["stretches"]) < _LISTED:
                unread["stretches"].append(record._asdict())
        elif isinstance(record, Rejected):
            self.report["quarantined"] += record.count
            more = {"remedy": record.remedy} if record.remedy else {}
            self._count("reasons", record.reason, record, **more)["count"] += record.count
            if len(self._rows) < MAX_QUARANTINED:
                self._rows.append({"source": self._source, **record._asdict()})
        elif isinstance(record, PassedOver):
            entry = self._count("passed_over", record.kind, record, bytes=0)
            entry["count"] += 1
            entry["bytes"] += record.bytes
        else:
            self._count("flagged", record.kind, record)["count"] += 1

    def _count(self, group: str, kind: str, record: Any, **more: Any) -> dict[str, Any]:
        entries = self.report[group]
        kind = printable(kind)[:_LONGEST]
        if kind not in entries and len(entries) >= _KINDS:  # contents of files name them
            kind = "others"
        return entries.setdefault(kind, {"count": 0, "file": record.file, "record": record.record, **more})

    def table(self) -> pa.Table:
        return pa.Table.from_pylist(self._rows, SCHEMA)


def add(total: dict[str, Any], report: Mapping[str, Any]) -> None:
    """Add the account ``report`` of a part to ``total``, both as ``empty`` says."""
    total["quarantined"] += report["quarantined"]
    for group in ("reasons", "passed_over", "flagged"):
        for kind, entry in report[group].items():
            so_far = total[group].setdefault(kind, {**entry, "count": 0, **({"bytes": 0} if "bytes" in entry else {})})
            for unit in {"count", "bytes"} & entry.keys():
                so_far[unit] += entry[unit]
    unread = total["unread"]
    for unit in ("count", "bytes", "missing"):
        unread[unit] += report["unread"][unit]
    unread["stretches"] = [*unread["stretches"], *report["unread"]["stretches"]][:_LISTED]


def bad_records(report: Mapping[str, Any], documents: int, stored: int) -> tuple[int, int]:
    """How many of all records of a source are bad, and how many there are.

    ``report`` is the source's account, ``documents`` are those it gave, ``stored`` the bytes of its files. What was not
    read counts as the records that its bytes may have held by the mean of those that were, at least one a stretch.
    """
    unread = report["unread"]
    records, read = documents + report["quarantined"], stored - unread["bytes"]
    estimate = math.ceil((unread["bytes"] + unread["missing"]) * records / read) if read > 0 else 0
    lost = max(unread["count"], estimate)
    return report["quarantined"] + lost, records + lost


def examples(report: Mapping[str, Any]) -> list[str]:
    """The longest stretches that were not read, and the most frequent faults, in words."""
    stretches = sorted(report["unread"]["stretches"], key=lambda entry: -entry["bytes"])[:_SHOWN]
    lines = [unread_words(entry) for entry in stretches]
    if hidden := report["unread"]["count"] - len(lines):
        lines.append(f"{hidden} more stretches of files not read")
    worst = sorted(report["reasons"].items(), key=lambda entry: (-entry[1]["count"], entry[0]))[:_SHOWN]
    for reason, fault in worst:
        remedy = f"; {fault['remedy']}" if "remedy" in fault else ""
        lines.append(f"{fault['count']} x {reason} (first: {fault['file']}, record {fault['record']}{remedy})")
    if hidden := sum(fault["count"] for fault in report["reasons"].values()) - sum(
        fault["count"] for _, fault in worst
    ):
        lines.append(f"{hidden} x other faults")
    return lines


def check(name: str, total: Mapping[str, Any], budget: float, folder: str) -> None:
    """Raise ErrorBudgetExceeded if the bad records of source ``name`` are more than ``budget`` of all."""
    bad, records = bad_records(total, total["documents"] + total["forgotten"]["documents"], total["stored"])
    if bad <= budget * records:
        return
    unread = total["unread"]["count"] > 0
    which = "are bad or were not read" if unread else "are bad"
    kept = f"The records are in {folder}/{name}-*.arrow. " if total["quarantined"] else ""
    raise ErrorBudgetExceeded(
        f"source {name!r}: {'about ' if unread else ''}{bad} of {records} records {which} ({bad / records:.2%}), "
        f"more than the error budget of {budget:.2%}:\n  "
        + "\n  ".join(examples(total))
        + f"\n{kept}Correct the files "
        "or the source's fields, or raise `error_budget` in the recipe, and run the build again."
    )


def unread_words(entry: Mapping[str, Any]) -> str:
    """A stretch that was not read, in words; ``entry`` is an Unread as a mapping."""
    if entry["missing"]:
        unknown = "how much is missing is not known, it counts as half"
        return f"{entry['file']}: ends after record {entry['after_record']:,}, {unknown} ({entry['reason']})"
    at_end = entry["offset"] is None or entry["offset"] + entry["bytes"] >= entry["of"]
    place = f"{'ends ' if at_end else ''}after record {entry['after_record']:,}"
    if not entry["after_record"]:
        place = "nothing is read" if at_end and not entry["offset"] else "before the first record"
    return f"{entry['file']}: {place}, {entry['bytes']:,} of {entry['of']:,} bytes not read ({entry['reason']})"
