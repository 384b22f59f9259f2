"""What `mill finetune` shows of labelled rows before training, and of the scores after it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding

from flows.execution.terminal import Text
from flows.views.layout import Columns, drawn
from pipeline.report import models, tables, understanding
from pipeline.text import formats
from training.labelled.rows import Labelled

_SETS = {"train": "training", "dev": "development", "test": "test"}
_LABELS = 20  # that are shown, the most frequent of training


def audit_view(rows: Labelled) -> RenderableType:
    """Rows and labels of each set, and what was found in them."""
    audit = rows.audit
    sets = Columns("Set", "Rows|", *(["Truncated|"] if "truncated" in audit else []))
    for name, title in _SETS.items():
        cut = [Text(formats.share(audit["truncated"][name], 1))] if "truncated" in audit else []
        sets.add_row(Text(title), Text(formats.count(audit["rows"][name])), *cut)
    parts: list[RenderableType] = [sets, Padding(_labels(audit["labels"]), (1, 0))]
    parts += [Text(line) for line in _findings(audit)]
    return Group(*parts)


def _labels(labels: Mapping[str, Mapping[str, Any]]) -> RenderableType:
    """How often each label is in each set; of scores what range they have."""
    names = sorted({name for counts in labels.values() for name in counts})
    if not names:
        return Text("")
    whole = all(isinstance(value, int) for counts in labels.values() for value in counts.values())
    if whole:
        names.sort(key=lambda name: -labels["train"].get(name, 0))
    shown = Columns("Label" if whole else "Scores", *(f"{title.capitalize()}|" for title in _SETS.values()))
    for name in names[:_LABELS]:
        values = [labels[part].get(name, 0) for part in _SETS]
        shown.add_row(Text(name), *(Text(formats.count(v) if whole else f"{v:.3g}") for v in values))
    more = len(names) - _LABELS
    return Group(shown, Text(f"and {more:,} more {'label' if more == 1 else 'labels'}", "dim")) if more > 0 else shown


def _findings(audit: Mapping[str, Any]) -> Iterator[str]:
    for kind, fault in audit.get("passed_over", {}).items():
        what = kind if fault["rows"] > 1 else re.sub("rows|lines", lambda many: many[0][:-1], kind, count=1)
        yield f"not used: {formats.count(fault['rows'])} {what}; the first: {fault['example']}"
    yield from audit.get("notes", [])
    if (fault := audit.get("duplicates", {})) and fault["rows"]:
        what = "row repeats" if fault["rows"] == 1 else "rows repeat"
        yield f"duplicates: {formats.count(fault['rows'])} {what} another: {' and '.join(fault['example'])}"
    if (fault := audit.get("contradictions", {})) and fault["texts"]:
        what = "text has" if fault["texts"] == 1 else "texts have"
        yield (
            f"contradictions: {formats.count(fault['texts'])} {what} different labels in several rows, such as"
            f" {', '.join(fault['example'])}"
        )
    for name, key in (("test", "near_copies"), ("dev", "near_copies_of_dev")):
        if (fault := audit.get(key, {})) and fault["rows"]:
            rows, have = ("row", "has") if fault["rows"] == 1 else ("rows", "have")
            yield (
                f"near copies: {formats.count(fault['rows'])} {_SETS[name]} {rows} ({formats.share(fault['share'], 1)})"
                f" {have} one among the training rows, such as {fault['example'][name]} of {fault['example']['train']}"
            )
    for name, fault in audit.get("not_expressible", {}).items():
        if fault["labels"]:
            yield (
                f"{_SETS[name]}: the tokenizer's pieces cannot express {formats.count(fault['labels'])} of"
                f" {formats.several(fault['of'], 'label')}, such as {fault['example']}"
            )


def understanding_view(summary: Mapping[str, Any]) -> RenderableType:
    """The tables of the pages of `understand`."""
    parts: list[RenderableType] = []
    for title, table in understanding.tables(summary):
        parts += [Text(f"\n{title}", "bold"), *([drawn(table)] if table.columns else [])]
    return Group(*parts)


def scores_view(summary: Mapping[str, Any], rows: Labelled) -> RenderableType:
    """The model's scores on the test rows beside its baselines', each with its 95 % interval."""
    title = f"\nScores on {formats.several(len(rows.test), 'test row')}, with 95 % intervals"
    parts: list[RenderableType] = [Text(title, "bold"), drawn(tables.finetuning(models.scored(summary)))]
    if summary.get("adaptation"):
        parts += [Text("\nWith and without text of the domain", "bold"), drawn(tables.adaptation(summary))]
    if left := summary.get("without_near_copies"):
        name, score = models.main_measure(summary), left["scores"][models.main_measure(summary)]
        low, high = (models.score(name, score[end]) for end in ("low", "high"))
        parts.append(
            Text(
                f"without near copies ({formats.several(left['rows'], 'test row')}): {models.words(name)}"
                f" {models.score(name, score['value'])} ({low} to {high})"
            )
        )
    parts += [Text("\nStrategies", "bold"), drawn(tables.strategies(summary))]
    if summary.get("grid"):
        parts += [
            Text("\nSettings that were tried, chosen by the development rows", "bold"),
            drawn(tables.grid(summary)),
        ]
    return Group(*parts)
