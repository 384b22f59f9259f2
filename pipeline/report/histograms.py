"""Histograms of signals, counted shard by shard and drawn with the thresholds that were applied.

Two fixed grids serve every signal: 200 equal bins over (0, 1], and 8 bins an octave over positive numbers. Zeros and
negative values are counted apart. So shards add up exactly, whatever they hold, and counts stay a few kilobytes.
Which grid is shown is decided at the end: the first where no value lies above 1.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.report.charts import Mark
from pipeline.store import ledger
from pipeline.text.formats import number

LINEAR = 200
PER_OCTAVE, LOWEST, HIGHEST = 8, -20, 44  # octaves: 2^-20 to 2^44
LOG = PER_OCTAVE * (HIGHEST - LOWEST)
BINS = 2 + LINEAR + LOG  # below zero, zero, the linear grid, the logarithmic grid
GROUPS = ("kept", "dropped", "other")
"""What became of the documents of a bin: kept by the stage, dropped by a rule on this signal, dropped by another."""

MOST_THRESHOLDS = 64
SHOWN_THRESHOLDS = 6
_BARS = 50

COUNTS = pa.list_(
    pa.struct([("stage", pa.string()), ("signal", pa.string()), ("integer", pa.bool_()), ("group", pa.int8()),
               ("bin", pa.int16()), ("documents", pa.int64())])
)  # fmt: skip
THRESHOLDS = pa.list_(
    pa.struct([("stage", pa.string()), ("signal", pa.string()), ("rule", pa.string()), ("drops", pa.string()),
               ("threshold", pa.float64()), ("group", pa.string()), ("documents", pa.int64())])
)  # fmt: skip


@dataclass
class Histogram:
    """The values of one signal: ``counts`` int64 [3, BINS] by what became of the documents, and the thresholds on it.

    ``thresholds`` maps (rule, side that is dropped, threshold) to documents dropped by group: {"de": 12}.
    """

    stage: str
    signal: str
    integer: bool
    counts: np.ndarray = field(default_factory=lambda: np.zeros((len(GROUPS), BINS), np.int64))
    thresholds: dict[tuple[str, str, float], dict[str, int]] = field(default_factory=dict)

    @property
    def negative(self) -> int:
        return int(self.counts[:, 0].sum())

    @property
    def zero(self) -> int:
        return int(self.counts[:, 1].sum())

    @property
    def documents(self) -> int:
        return self.negative + self.zero + int(self.counts[:, 2 + LINEAR :].sum())

    @property
    def varies(self) -> bool:
        """Whether its positive values fill more than one bin: otherwise there is nothing to draw."""
        return bool(np.count_nonzero(self.counts[:, 2 + LINEAR :].sum(0)) > 1)


def bins(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions in [0, BINS) of float64 ``values`` on both grids: (linear or -1 where above 1, logarithmic)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        octave = np.floor(np.log2(np.where(values > 0, values, 1.0)) * PER_OCTAVE) - LOWEST * PER_OCTAVE
    logarithmic = 2 + LINEAR + np.clip(octave, 0, LOG - 1).astype(np.int64)
    linear = np.where(values <= 1, 1 + np.ceil(np.clip(values, 0, 1) * LINEAR), -1).astype(np.int64)
    special = np.where(values < 0, 0, 1)
    positive = values > 0
    return np.where(positive, linear, special), np.where(positive, logarithmic, -1)


def count(stage: str, table: pa.Table, rules: Sequence[ledger.Rule], groups: pa.Array) -> tuple[list, list]:
    """The rows of COUNTS and of THRESHOLDS for one ledger.

    ``groups`` names, for each row of it, what may have chosen its threshold: its language or domain.
    """
    dropped = table["dropped_by"].combine_chunks()
    names = dropped.dictionary.to_pylist()
    verdict = dropped.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    numeric = [f.name for f in table.schema if _is_numeric(f.type) and f.name not in ledger.VERDICT_COLUMNS]
    values = {name: ledger.numbers(table[name]) for name in numeric}
    judged = _judged_signals(table, names, verdict, values, rules)
    counts: list[dict] = []
    for signal in numeric:
        measured = ~np.isnan(values[signal])
        by_this = np.isin(verdict, [index for index, name in enumerate(names) if judged.get(name) == signal])
        group = np.where(verdict < 0, 0, np.where(by_this, 1, 2))
        integer = pa.types.is_integer(table.schema.field(signal).type)
        for position in bins(values[signal][measured]):
            chosen = position >= 0
            flat = np.bincount(group[measured][chosen] * BINS + position[chosen], minlength=len(GROUPS) * BINS)
            counts += [
                {"stage": stage, "signal": signal, "integer": integer, "group": int(at // BINS),
                 "bin": int(at % BINS), "documents": int(flat[at])}
                for at in np.flatnonzero(flat)
            ]  # fmt: skip
    return counts, _thresholds(stage, table, judged, groups)


def merge(shards: Iterable[tuple[pa.StructArray, pa.StructArray]]) -> list[Histogram]:
    """Histograms over all shards, in the order in which stages and signals first appear."""
    merged: dict[tuple[str, str], Histogram] = {}
    for counts, thresholds in shards:
        if not len(counts):
            continue
        columns = dict(zip(counts.type.names, counts.flatten(), strict=True))
        names = pa.table([columns["stage"], columns["signal"]], names=["stage", "signal"])
        group, position, documents = (columns[name].to_numpy() for name in ("group", "bin", "documents"))
        first = _runs(names)
        for start, end in zip(first, [*first[1:], len(names)], strict=True):
            key = (names["stage"][start].as_py(), names["signal"][start].as_py())
            entry = merged.setdefault(key, Histogram(*key, columns["integer"][start].as_py()))
            np.add.at(entry.counts, (group[start:end], position[start:end]), documents[start:end])
        for row in thresholds.to_pylist():
            groups = merged[row["stage"], row["signal"]].thresholds
            dropped = groups.setdefault((row["rule"], row["drops"], row["threshold"]), defaultdict(int))
            dropped[row["group"] or ""] += row["documents"]
    return list(merged.values())


def _runs(names: pa.Table) -> list[int]:
    """Where each run of equal rows begins: a signal's counts are written one after the other."""
    codes = [column.combine_chunks().dictionary_encode().indices.to_numpy() for column in names.columns]
    changed = np.any([np.diff(code) != 0 for code in codes], axis=0)
    return [0, *(np.flatnonzero(changed) + 1).tolist()]


def columns_of(histogram: Histogram) -> tuple[list[float], list[np.ndarray], bool]:
    """What to draw of the positive values: column edges, for each group the columns' heights, and if x is logarithmic.

    Raises ValueError if the signal has no positive value.
    """
    log_part = histogram.counts[:, 2 + LINEAR :]
    linear_part = histogram.counts[:, 2 : 2 + LINEAR]
    if not log_part.any():
        raise ValueError(f"{histogram.signal}: no positive value")
    marks = [threshold for _, _, threshold in histogram.thresholds if threshold > 0]
    if linear_part.sum() == log_part.sum() and not histogram.integer:
        return *_linear_columns(linear_part, marks), False
    return *_log_columns(log_part, marks, histogram.integer), True


def static_marks(rules: Sequence[ledger.Rule], signal: str) -> list[tuple[str, str, float]]:
    """(rule, side that is dropped, threshold) of the rules on ``signal``: what holds for all documents, or for those
    that no other threshold of the rule is for."""
    marks = [
        (rule.name, side, float(bound.get("*", math.nan) if isinstance(bound, Mapping) else bound))
        for rule in rules
        if rule.signal == signal
        for side, bound in (("below", rule.minimum), ("above", rule.maximum))
        if bound is not None
    ]
    return [mark for mark in marks if math.isfinite(mark[2])]


def marks(histogram: Histogram, low: float, high: float) -> tuple[list[Mark], int]:
    """The thresholds to draw within [low, high], by place, those that dropped most; and how many are left out.

    A label names the groups (languages) of a threshold where its rule has several.
    """
    groups: dict[tuple[float, str], set[str]] = defaultdict(set)
    drops: dict[tuple[float, str], int] = defaultdict(int)
    per_rule: dict[tuple[str, str], int] = defaultdict(int)
    split: set[tuple[float, str]] = set()  # thresholds of rules that have several, and need a name
    for (rule, side, threshold), dropped in histogram.thresholds.items():
        groups[threshold, side] |= {name for name in dropped if name}
        drops[threshold, side] += sum(dropped.values())
        per_rule[rule, side] += 1
    for rule, side, threshold in histogram.thresholds:
        if per_rule[rule, side] > 1:
            split.add((threshold, side))
    inside = [key for key in groups if low <= key[0] <= high]
    shown = sorted(inside, key=lambda key: (-drops[key], key))[:SHOWN_THRESHOLDS]
    named = {key: _some(sorted(groups[key])) if key in split else "" for key in shown}
    marks = [
        Mark(at + shift(histogram, side), f"{named[at, side]} {number(at)}".strip(), side) for at, side in sorted(shown)
    ]
    return marks, len(inside) - len(shown)


def shift(histogram: Histogram, drops: str) -> float:
    """How far from its threshold a line is drawn: through whole numbers it stands between those that it parts."""
    return (0.5 if drops == "above" else -0.5) if histogram.integer else 0.0


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:2]) + (" …" if len(names) > 2 else "")


def _is_numeric(kind: pa.DataType) -> bool:
    """Whether a signal measures something: 64-bit unsigned integers are names (of clusters), not amounts."""
    return (pa.types.is_integer(kind) or pa.types.is_floating(kind)) and not pa.types.is_uint64(kind)


def _judged_signals(
    table: pa.Table,
    names: list[str],
    verdict: np.ndarray,
    values: Mapping[str, np.ndarray],
    rules: Sequence[ledger.Rule],
) -> dict[str, str]:
    """Which signal each rule judges: by the stage's rules, or the one that equals the verdicts' values everywhere."""
    known = {rule.name: rule.signal for rule in rules}
    value = ledger.numbers(table["value"])
    for index, name in enumerate(names):
        rows = verdict == index
        if name not in known and rows.any():
            equal = [signal for signal in values if np.array_equal(values[signal][rows], value[rows])]
            if equal:
                known[name] = equal[0]
    return known


def _thresholds(stage: str, table: pa.Table, judged: Mapping[str, str], groups: pa.Array) -> list[dict]:
    """Thresholds that dropped documents; a rule with more than MOST_THRESHOLDS (one a document, say) has no line."""
    names = table["dropped_by"].combine_chunks()
    frame = pa.table(
        {
            "rule": names.dictionary_decode(),
            "threshold": table["threshold"],
            "above": pc.greater(table["value"], table["threshold"]),
            "group": groups,
        }
    ).filter(pc.is_valid(names))
    frame = frame.filter(pc.is_finite(frame["threshold"]))
    total = frame.group_by(["rule", "above", "threshold", "group"]).aggregate([([], "count_all")])
    rows = total.sort_by([(name, "ascending") for name in ("rule", "above", "threshold", "group")]).to_pylist()
    distinct: dict[str, set[float]] = defaultdict(set)
    for row in rows:
        distinct[row["rule"]].add(row["threshold"])
    return [
        {"stage": stage, "signal": judged[row["rule"]], "rule": row["rule"],
         "drops": "above" if row["above"] else "below", "threshold": row["threshold"], "group": row["group"],
         "documents": row["count_all"]}
        for row in rows
        if row["rule"] in judged and len(distinct[row["rule"]]) <= MOST_THRESHOLDS
    ]  # fmt: skip


def _linear_columns(part: np.ndarray, marks: Sequence[float]) -> tuple[list[float], list[np.ndarray]]:
    """At most _BARS columns over [0, 1], or over the quarter, half or upper half of it that holds everything."""
    used = np.flatnonzero(part.sum(0))
    low, high = used[0] / LINEAR, (used[-1] + 1) / LINEAR
    marks = [mark for mark in marks if mark <= 1]
    low, high = min([low, *marks]), max([high, *marks])
    start, end = next(((a, b) for a, b in ((0, 0.25), (0, 0.5), (0.5, 1)) if a <= low and high <= b), (0, 1))
    step = round((end - start) * LINEAR / _BARS)
    first, last = round(start * LINEAR), round(end * LINEAR)
    edges = [at / LINEAR for at in range(first, last + 1, step)]
    return edges, list(part[:, first:last].reshape(len(part), -1, step).sum(2))


def _log_columns(part: np.ndarray, marks: Sequence[float], integer: bool) -> tuple[list[float], list[np.ndarray]]:
    """Columns of equal width on a logarithmic axis around everything, at most about _BARS."""
    used = np.flatnonzero(part.sum(0))
    lowest = LOWEST * PER_OCTAVE
    at = [math.floor(math.log2(mark) * PER_OCTAVE) - lowest for mark in marks]
    first, last = max(0, min([used[0], *at])), min(LOG, max([used[-1], *at]) + 1)
    finest = PER_OCTAVE // 2 if integer else 1  # finer columns would fall between whole numbers
    step = next((step for step in (1, 2, 4, 8, 16) if step >= finest and (last - first) / step <= _BARS), 32)
    first, last = first - first % step, last + -last % step
    edges = [2.0 ** ((index + lowest) / PER_OCTAVE) for index in range(first, last + 1, step)]
    wide = np.pad(part, ((0, 0), (0, step)))[:, first:last]
    return edges, list(wide.reshape(len(part), -1, step).sum(2))
