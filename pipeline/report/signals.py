"""The section on signals: a histogram of each, with its thresholds and what these would let through elsewhere."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pipeline.build.build import Build
from pipeline.report import charts, collect, curves, histograms
from pipeline.report.settings import Setting
from pipeline.stages import titles
from pipeline.text import formats


def signals(build: Build, bytes_per_token: float) -> list[dict[str, Any]] | None:
    """A histogram of each numeric signal, grouped by stage; None where the shards are not counted."""
    if not collect.is_collected(build):
        return None
    tables = collect.collected(build)
    merged = histograms.merge(
        tuple(table[name].combine_chunks().flatten() for name in ("counts", "thresholds")) for table in tables
    )
    kept = curves.merge(table["curves"].combine_chunks().flatten() for table in collect.collected(build))
    policies = {stage: collect.policy(build, stage) for stage in build.stages}
    by_stage: dict[str, list[histograms.Histogram]] = defaultdict(list)
    for histogram in merged:
        for rule, side, threshold in histograms.static_marks(policies[histogram.stage].rules, histogram.signal):
            histogram.thresholds.setdefault((rule, side, threshold), {})
        by_stage[histogram.stage].append(histogram)
    shown = []
    for stage, entries in by_stage.items():
        moves = _Moves(stage, kept[stage], policies[stage].settings, bytes_per_token) if stage in kept else None
        shown.append(
            {
                "title": titles.title(stage),
                "signals": [_signal(entry, moves) for entry in entries if entry.varies],
                "constant": [formats.words(entry.signal) for entry in entries if not entry.varies],
            }
        )
    return shown


@dataclass(frozen=True)
class _Moves:
    """What is known of moving a stage's thresholds: what it would keep, and the settings that move them."""

    stage: str
    kept: curves.StageCurves
    settings: Sequence[Setting]
    bytes_per_token: float


def _signal(histogram: histograms.Histogram, moves: _Moves | None) -> dict[str, Any]:
    name = formats.words(histogram.signal)
    edges, heights, log = histograms.columns_of(histogram)
    marks, hidden = histograms.marks(histogram, edges[0], edges[-1])
    layers = [(kind, row.tolist()) for kind, row in zip(histograms.GROUPS, heights, strict=True)]
    thresholds = ", ".join(f"drops {mark.drops} {mark.label}" for mark in marks) or "no threshold"
    description = f"{formats.count(histogram.documents)} documents; {thresholds}"
    if moves is not None:
        marks = [replace(mark, curve=_curve(moves, histogram, mark, edges, log)) for mark in marks]
    return {
        "name": name,
        "documents": histogram.documents,
        "zero": histogram.zero,
        "negative": histogram.negative,
        "hidden_thresholds": hidden,
        "log": log,
        "svg": charts.histogram(f"Histogram of {name}", description, edges, layers, marks, log),
    }


def _curve(
    moves: _Moves, histogram: histograms.Histogram, mark: charts.Mark, edges: Sequence[float], log: bool
) -> dict[str, Any] | None:
    """What the stage keeps with ``mark`` elsewhere, as ``charts.js`` reads it; None if no setting moves it.

    ``documents`` and ``bytes`` have an entry for each of the thresholds ``at``, of which one is the recipe's.
    """
    shift = histograms.shift(histogram, mark.drops)
    wanted = (histogram.signal, mark.drops, mark.at - shift)
    setting = next((one for one in moves.settings if (one.signal, one.drops, one.value) == wanted), None)
    if setting is None:
        return None
    points = curves.points(setting, edges[0], edges[-1], log)
    at, kept = curves.GRID[points], moves.kept.at(setting, points)
    if setting.value not in at:
        place = int(np.searchsorted(at, setting.value))
        at = np.insert(at, place, setting.value)
        kept = np.insert(kept, place, moves.kept.kept, axis=1)
    return {
        "setting": setting.name,
        "rule": titles.rule(setting.rule),
        "stage": titles.title(moves.stage),
        "drops": setting.drops,
        "value": charts.rounded(setting.value),
        "label": formats.number(setting.value),
        "shift": shift,
        "bytes_per_token": charts.rounded(moves.bytes_per_token),
        "at": [charts.rounded(value) for value in at.tolist()],
        "documents": kept[0].tolist(),
        "bytes": kept[1].tolist(),
    }
