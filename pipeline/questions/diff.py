"""Which documents differ between the corpora of two builds, and because of which change.

Documents are matched by id, in partitions of the hashes of ids, so that memory does not grow with the builds. Each
difference has one cause: the input (a document that only one build read, or whose ingested text changed), the rule that
dropped it in one of the builds, or the stages that cut its text.
"""

from __future__ import annotations

import heapq
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel

from pipeline.build import row_numbers
from pipeline.build.build import Build
from pipeline.curation import forget_list
from pipeline.stages import registry
from pipeline.store import files, ledger, shards
from pipeline.text.hashing import document_hash

EXAMPLES = 3
_RAW, _FINAL = 1, 2  # seeds of the hashes of texts


@dataclass(frozen=True)
class Difference:
    """``documents`` that differ for one cause. ``state``: ``added`` (only the second corpus holds them), ``removed`` or
    ``edited``; ``rule`` dropped them in the other build, None for another cause; ``examples`` are ids.
    """

    state: str
    stage: str
    rule: str | None
    cause: str
    documents: int
    examples: tuple[str, ...]


def diff(old: Build, new: Build) -> list[Difference]:
    """The differences from ``old`` to ``new``, two finished builds, most documents first; [] if there is none."""
    counts: dict[tuple[str, str, str | None, str], int] = {}
    examples: dict[tuple[str, str, str | None, str], list[tuple[int, str]]] = {}
    with tempfile.TemporaryDirectory(prefix="mill-diff-") as folder:
        paths = [_write(build, files.join(folder, side)) for side, build in (("old", old), ("new", new))]
        total = max(row_numbers.corpus_size(build, "documents") for build in (old, new))
        explain = _Causes(old, new)
        for partition in row_numbers.partition_names(total, row_numbers.PARTITION_ROWS):
            joined = _join(*(_partition(side, partition) for side in paths))
            for entry in _changed(joined).to_pylist():
                key = explain(entry)
                counts[key] = counts.get(key, 0) + 1
                best = [*examples.get(key, ()), (entry["hash"], entry["id"])]
                examples[key] = heapq.nsmallest(EXAMPLES, best)
    differences = [Difference(*key, count, tuple(name for _, name in examples[key])) for key, count in counts.items()]
    return sorted(differences, key=lambda entry: (-entry.documents, entry.state, entry.stage, entry.cause))


def _write(build: Build, folder: str) -> list[str]:
    """What is compared of each document, a file a shard in ascending order of ``hash``; returns their paths."""
    paths = []
    for shard in build.shards():
        documents = build.documents(shard)
        ids, texts = documents["id"].combine_chunks(), documents["text"].combine_chunks()
        view = build.view(shard)
        final = np.zeros(len(ids), np.uint64)
        final[view.rows] = document_hash(view.texts, _FINAL)
        stage, rule = np.full(len(ids), None, object), np.full(len(ids), None, object)
        for name in build.stages:
            dropped = build.ledger(name, shard)["dropped_by"].combine_chunks()
            mine = np.flatnonzero(dropped.is_valid().to_numpy(zero_copy_only=False))
            stage[mine], rule[mine] = name, dropped.take(pa.array(mine)).to_pylist()
        columns = {
            "hash": document_hash(ids, 0),
            "id": ids,
            "raw": document_hash(texts, _RAW),
            "final": final,
            "kept": view.alive,
            "stage": pa.array(stage, pa.string()),
            "rule": pa.array(rule, pa.string()),
        }
        paths.append(files.join(folder, shard))
        shards.write_table(paths[-1], pa.table(columns).sort_by([("hash", "ascending"), ("id", "ascending")]), "diff")
    return paths


def _partition(paths: list[str], partition: str) -> pa.Table:
    tables = []
    for path in paths:
        table = shards.read_table(path)
        here = row_numbers.part_of(row_numbers.array(table, "hash"), partition)
        tables.append(table.slice(here.start, here.stop - here.start))
    return pa.concat_tables(tables)


def _join(old: pa.Table, new: pa.Table) -> pa.Table:
    """Documents of either, by id; the columns of the second with ``_new``, null where it does not hold them."""
    return old.join(new, ["hash", "id"], join_type="full outer", right_suffix="_new")


def _changed(joined: pa.Table) -> pa.Table:
    """Those rows in which one corpus holds another text than the other, or none."""
    kept, kept_new = (pc.fill_null(joined[name], False) for name in ("kept", "kept_new"))
    edited = pc.and_(pc.and_(kept, kept_new), pc.fill_null(pc.not_equal(joined["final"], joined["final_new"]), False))
    return joined.filter(pc.or_(pc.xor(kept, kept_new), edited))


class _Causes:
    """Why a joined row differs; what is said of a rule is found once."""

    def __init__(self, old: Build, new: Build) -> None:
        self.builds = (old, new)
        self.forgotten = tuple(forget_list.entries(build).keys() for build in self.builds)
        self.reasons: dict[tuple[str, str, int], str] = {}

    def __call__(self, row: dict[str, Any]) -> tuple[str, str, str | None, str]:
        state = "edited" if row["kept"] and row["kept_new"] else "removed" if row["kept"] else "added"
        if row["raw"] is None or row["raw_new"] is None:
            absent = 0 if row["raw"] is None else 1
            if row["id"] in self.forgotten[absent]:
                return state, "ingest", None, f"the {('first', 'second')[absent]} build has forgotten it"
            return state, "ingest", None, f"only the {'second' if row['raw'] is None else 'first'} build read it"
        if row["raw"] != row["raw_new"]:
            return state, "ingest", None, "its text in the input changed"
        if state == "edited":
            return state, *self._editor()
        side = 1 if state == "removed" else 0
        stage, rule = (row["stage_new"], row["rule_new"]) if side else (row["stage"], row["rule"])
        if (stage, rule, side) not in self.reasons:
            self.reasons[stage, rule, side] = self._why(stage, rule, side)
        return state, stage, rule, self.reasons[stage, rule, side]

    def _editor(self) -> tuple[str, None, str]:
        for stage in dict.fromkeys(name for build in self.builds for name in build.stages):
            sections = tuple(build.section(stage) for build in self.builds)
            edits = any(self._edits(build, stage) for build in self.builds)
            if edits and sections[0] != sections[1]:
                return stage, None, f"cuts other text: {', '.join(settings(sections[0], sections[1]))}"
        return "text", None, "cut otherwise, as other documents are there"

    def _edits(self, build: Build, stage: str) -> bool:
        return stage in build.stages and "spans" in build.ledger(stage, build.shards()[0]).column_names

    def _why(self, stage: str, rule: str, side: int) -> str:
        """``side``: of the build that drops."""
        own, other = self.builds[side], self.builds[1 - side]
        when = "the first build has not" if side else "the second build has not"
        if stage not in other.stages:
            return f"the stage is new; {when} run it" if side else f"the stage is gone; {when} run it"
        known = [{entry.name: entry for entry in registry.rules(build, stage)} for build in (own, other)]
        if known[0] and rule not in known[1]:
            return "the rule is new" if side else "the rule is gone"
        if known[0] and known[0][rule] != known[1][rule]:
            first, second = (known[0][rule], known[1][rule])[:: -1 if side else 1]
            return "threshold " + ", ".join(_bounds(first, second))
        sections = [build.section(stage) for build in self.builds]
        if sections[0] != sections[1]:
            return f"settings: {', '.join(settings(*sections))}"
        return "follows from the other changes"


def _bounds(old: ledger.Rule, new: ledger.Rule) -> Iterator[str]:
    for name in ("minimum", "maximum"):
        before, after = (_by_group(getattr(rule, name)) for rule in (old, new))
        changed = [
            (f"{group} " if group != _OTHERS else "") + f"{values[0]} → {values[1]}"
            for group in dict.fromkeys((_OTHERS, *before, *after))
            if (values := [bounds.get(group, bounds[_OTHERS]) for bounds in (before, after)])[0] != values[1]
        ]
        yield from changed[:1]  # that of all groups that have none of their own is enough


#: In bounds by group: all groups that are not named.
_OTHERS = "*"


def _by_group(bound: ledger.Threshold | None) -> Mapping[str, float | None]:
    """A bound by language or domain; NaN, which never drops, as None."""
    named = dict(bound) if isinstance(bound, Mapping) else {_OTHERS: bound}
    return {_OTHERS: None} | {group: None if value != value else value for group, value in named.items()}


def settings(old: Any, new: Any, name: str = "") -> Iterator[str]:
    """The fields in which two sections of a recipe differ, with both values."""
    if type(old) is type(new) and isinstance(old, BaseModel):
        for field in type(old).model_fields:
            yield from settings(getattr(old, field), getattr(new, field), f"{name}.{field}" if name else field)
    elif old != new:
        values = ["on" if isinstance(value, BaseModel) else "off" if value is None else value for value in (old, new)]
        yield f"{name or 'section'} {values[0]} → {values[1]}"
