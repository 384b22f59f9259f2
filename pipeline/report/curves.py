"""What each threshold would let through if it were moved: curves counted from the ledgers, exact at every point.

A curve belongs to one setting of a stage, all other settings being as they are. It says how many documents and bytes
the stage would keep, which is the row of that stage in the answer of `mill whatif`: all that decides it is in the
ledgers. The stages behind it see other documents then; what they make of them only a trial can say.

Each shard counts, for the documents that no other rule of the stage drops, between which points of one fixed grid of
round numbers their value lies, so that shards add up exactly.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from pipeline.report.settings import OTHERS, Setting
from pipeline.store import ledger
from pipeline.store.ledger import Rule

_POSITIVE = [float(f"{digits}e{power}") for power in range(-8, 10) for digits in range(100, 1000, 5)]
GRID = np.array([*(-value for value in reversed(_POSITIVE)), 0.0, *_POSITIVE])
"""The thresholds that curves have points at, float64 ascending: 0, and numbers of three digits that end in 0 or 5."""

CURVES = pa.list_(
    pa.struct(
        [("stage", pa.string()), ("setting", pa.string()), ("kept_documents", pa.int64()), ("kept_bytes", pa.int64()),
         *((name, pa.list_(pa.int64())) for name in ("place", "documents", "bytes"))]
    )
)  # fmt: skip
"""A row without a setting holds what the stage keeps. One with a setting is of the documents whose threshold it moves
and that no other rule drops: those that are kept, and all of them by their place in the grid: how many of its points
lie below their value, and at it where the threshold is a minimum.
"""


@dataclass
class Curve:
    """Of one setting: ``kept`` is [documents, bytes] of its own that pass today; ``steps`` int64 [2, len(GRID) + 1]."""

    kept: np.ndarray = field(default_factory=lambda: np.zeros(2, np.int64))
    steps: np.ndarray = field(default_factory=lambda: np.zeros((2, len(GRID) + 1), np.int64))


@dataclass
class StageCurves:
    """``kept`` is [documents, bytes] that the stage keeps today."""

    kept: np.ndarray = field(default_factory=lambda: np.zeros(2, np.int64))
    curves: dict[str, Curve] = field(default_factory=dict)

    def at(self, setting: Setting, points: np.ndarray) -> np.ndarray:
        """int64 [2, n]: documents and bytes that the stage keeps with ``setting`` at each of the grid's ``points``."""
        curve = self.curves[setting.name]
        if setting.drops == "below":
            passing = curve.steps[:, ::-1].cumsum(1)[:, ::-1][:, 1:]
        else:
            passing = curve.steps.cumsum(1)[:, :-1]
        # a document without a value passes everywhere: it is in `kept` of the stage alone
        totals = (self.kept - curve.kept)[:, None] + passing[:, points]
        totals[:, GRID[points] == setting.value] = self.kept[:, None]
        return totals


def count(
    stage: str,
    table: pa.Table,
    rules: Sequence[Rule],
    settings: Sequence[Setting],
    signals: Mapping[str, pa.Array],
    sizes: np.ndarray,
) -> list[dict[str, Any]]:
    """The rows of CURVES of one shard and stage; [] where its verdicts are not those of ``rules`` alone.

    ``table`` is the stage's ledger; ``signals`` are those of all stages up to it, and ``sizes`` (int64) the bytes of
    each document after its edits, -1 where it did not reach the stage; both have an entry for each row of the shard.
    """
    if not rules or any(rule.signal not in signals for rule in rules):
        return []
    alive = sizes >= 0
    bounds = {(bound.rule, bound.drops): bound for bound in _bounds(rules, signals, len(sizes))}
    failures = np.sum([bound.failed for bound in bounds.values()], axis=0, dtype=np.int16)
    kept = alive & (failures == 0)
    if not np.array_equal(kept, alive & table["dropped_by"].is_null().to_numpy()):
        return []
    rows: list[dict[str, Any]] = [
        {"stage": stage, "kept_documents": int(kept.sum()), "kept_bytes": int(sizes[kept].sum())}
    ]
    for setting in settings:
        bound = bounds[setting.rule, setting.drops]
        alone = alive & (failures == bound.failed) & ~np.isnan(bound.values)  # nothing else drops them
        mine = alone & _moved(setting, signals, len(sizes))
        passing = mine & ~bound.failed
        place = np.searchsorted(GRID, bound.values[mine], "right" if setting.drops == "below" else "left")
        used, inverse = np.unique(place, return_inverse=True)
        rows.append(
            {
                "stage": stage,
                "setting": setting.name,
                "kept_documents": int(passing.sum()),
                "kept_bytes": int(sizes[passing].sum()),
                "place": used,
                "documents": np.bincount(inverse, minlength=len(used)),
                "bytes": np.bincount(inverse, sizes[mine], minlength=len(used)).astype(np.int64),
            }
        )
    return rows


class _Judged(NamedTuple):
    """A bound of a rule: the values of all documents, and which of them fail it."""

    rule: str
    drops: str
    values: np.ndarray
    failed: np.ndarray


def _bounds(rules: Sequence[Rule], signals: Mapping[str, pa.Array], rows: int) -> Iterator[_Judged]:
    for rule in rules:
        values = ledger.numbers(signals[rule.signal])
        groups = signals.get(rule.by) if rule.by else None
        for drops, bound, fails in (("below", rule.minimum, np.less), ("above", rule.maximum, np.greater)):
            if bound is not None:
                with np.errstate(invalid="ignore"):
                    yield _Judged(rule.name, drops, values, fails(values, ledger.limits(bound, groups, rows)))


def _moved(setting: Setting, signals: Mapping[str, pa.Array], rows: int) -> np.ndarray:
    """Boolean mask of the documents whose threshold ``setting`` moves."""
    groups = signals.get(setting.by) if setting.by else None
    return (
        ledger.limits({OTHERS: 0.0, **{name: float(moves) for name, moves in setting.moves.items()}}, groups, rows) > 0
    )


def merge(shards: Iterable[pa.StructArray]) -> dict[str, StageCurves]:
    """The curves of each stage from the rows of CURVES of all shards; a stage is left out if a shard has none of it."""
    merged: dict[str, StageCurves] = {}
    seen: list[set[str]] = []
    for rows in shards:
        columns = {name: rows.field(name) for name in ("place", "documents", "bytes")}
        offsets = columns["place"].offsets.to_numpy()
        place, documents, size = (column.values.to_numpy() for column in columns.values())
        names = [rows.field(name).to_pylist() for name in ("stage", "setting", "kept_documents", "kept_bytes")]
        seen.append(set(names[0]))
        for at, (name, setting, *kept) in enumerate(zip(*names, strict=True)):
            stage = merged.setdefault(name, StageCurves())
            if setting is None:
                stage.kept += kept
                continue
            curve = stage.curves.setdefault(setting, Curve())
            curve.kept += kept
            here = slice(offsets[at], offsets[at + 1])
            curve.steps[:, place[here]] += np.stack([documents[here], size[here]])
    return {name: stage for name, stage in merged.items() if all(name in stages for stages in seen)}


_POINTS = 200
"""Most points of a curve that are shown, about."""


def points(setting: Setting, low: float, high: float, log: bool) -> np.ndarray:
    """Places in the grid of thresholds in [low, high] (above 0 where ``log``), thinned to even steps on the axis."""
    inside = np.flatnonzero((low <= GRID) & (high >= GRID) & ((setting.special is None) | (setting.special != GRID)))
    if setting.whole:
        inside = inside[GRID[inside] == np.round(GRID[inside])]
    x = np.log(GRID[inside]) if log else GRID[inside]
    chosen: list[int] = []
    last = -np.inf
    for place, at in zip(inside.tolist(), x.tolist(), strict=True):
        if at - last >= 0.999 * (x[-1] - x[0]) / _POINTS:
            chosen.append(place)
            last = at
    return np.array(chosen, np.int64)
