"""Documents that a rule dropped, or came near to dropping: the same ones on every call."""

from __future__ import annotations

import difflib
import heapq
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import MillError
from pipeline.build.build import Build, texts_before
from pipeline.report.samples import excerpts
from pipeline.stages import registry
from pipeline.store import ledger
from pipeline.store.ledger import relative_margin
from pipeline.text.hashing import document_hash


class UnknownRule(MillError):
    """No rule of the build has that name; the message names the nearest."""


@dataclass(frozen=True)
class Sampled:
    """A document that a rule dropped (``kept`` false) or passed; ``text`` is its beginning, as the stage saw it."""

    id: str
    shard: str
    row: int
    kept: bool
    value: float
    threshold: float
    margin: float
    hash: int
    text: str = ""


def sample(build: Build, rule: str, count: int, near_threshold: bool = False) -> list[Sampled]:
    """``count`` documents that ``rule`` dropped, chosen by the hash of their id.

    With ``near_threshold`` those nearest to it: ``count`` that it dropped and ``count`` that it let pass (none where
    the threshold was found in the data). Raises UnknownRule.
    """
    stage = _stage_of(build, rule)
    chosen: list[Sampled] = []
    for kept in (False, True) if near_threshold else (False,):
        candidates = (entry for shard in build.shards() for entry in _candidates(build, stage, rule, shard, kept))
        chosen += heapq.nsmallest(
            count,
            candidates,
            key=lambda entry: (entry.margin, entry.hash) if near_threshold else (entry.hash, entry.id),
        )
    texts = [excerpts(texts_before(build, entry.shard, [entry.row], stage))[0] for entry in chosen]
    return [replace(entry, text=text) for entry, text in zip(chosen, texts, strict=True)]


def _stage_of(build: Build, rule: str) -> str:
    known: dict[str, str] = {}
    for stage in build.stages:
        names = [entry.name for entry in registry.rules(build, stage)]
        for shard in build.shards():
            names += build.ledger(stage, shard)["dropped_by"].combine_chunks().dictionary.to_pylist()
        known |= {name: stage for name in names if name}
    if rule not in known:
        near = difflib.get_close_matches(rule, known, n=1)
        remedy = f"did you mean {near[0]}?" if near else f"the rules here: {', '.join(known)}"
        raise UnknownRule(f"{rule}: no such rule; {remedy}")
    return known[rule]


def _candidates(build: Build, stage: str, rule: str, shard: str, kept: bool) -> Iterator[Sampled]:
    table, ids = build.ledger(stage, shard), build.documents(shard)["id"].combine_chunks()
    value, threshold = _passed(build, stage, rule, shard) if kept else _dropped(table, rule)
    rows = np.flatnonzero(~np.isnan(value) & ~np.isnan(threshold))
    hashes = document_hash(ids.take(pa.array(rows)), build.recipe.seed)
    margins = relative_margin(value[rows], threshold[rows])
    for row, margin, key in zip(rows.tolist(), margins.tolist(), hashes.tolist(), strict=True):
        yield Sampled(ids[row].as_py(), shard, row, kept, float(value[row]), float(threshold[row]), margin, key)


def _dropped(table: pa.Table, rule: str) -> tuple[np.ndarray, np.ndarray]:
    """Value and threshold of the documents that ``rule`` dropped, float64 over the shard's rows; NaN for others."""
    names = table["dropped_by"].combine_chunks().cast(pa.string())
    mine = pc.equal(names, rule).fill_null(False).to_numpy(zero_copy_only=False)
    return tuple(np.where(mine, ledger.numbers(table[name]), np.nan) for name in ("value", "threshold"))  # type: ignore[return-value]


def _passed(build: Build, stage: str, rule: str, shard: str) -> tuple[np.ndarray, np.ndarray]:
    """Value and threshold of the documents that passed the stage, and that ``rule`` judged; NaN for others."""
    tables = [build.ledger(name, shard) for name in (*build.stages_before(stage), stage)]
    alive = ledger.alive(tables, len(tables[-1]))
    columns = {name: table[name].combine_chunks() for table in tables for name in table.column_names}
    value, threshold = np.full(len(alive), np.nan), np.full(len(alive), np.nan)
    for bound in (entry for entry in registry.rules(build, stage) if entry.name == rule):
        limit = bound.minimum if bound.minimum is not None else bound.maximum
        if limit is not None:
            groups = columns.get(bound.by) if bound.by else None
            value = np.where(alive, ledger.numbers(columns[bound.signal]), np.nan)
            threshold = ledger.limits(limit, groups, len(alive))
    return value, threshold
