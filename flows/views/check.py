"""What `mill check` found, in the terminal: the sources, what the build may take, the plans of its models."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType

from flows.execution.terminal import Text
from flows.views.layout import Columns, line
from pipeline.curation.forecast import Range
from pipeline.text import formats
from training.recipe.sections import BudgetConfig


def check_view(sources: Iterable[Mapping[str, Any]], ranges: Sequence[Range]) -> RenderableType:
    """The sources that were looked at, and the ranges with where each comes from."""
    table = Columns("source", "kind", "files|", "size|", "opened|")
    for row in sources:
        cells = ("not known", "", "")
        if row["files"] is not None:
            cells = (formats.count(row["files"]), formats.size(row["bytes"]), formats.count(row["opened"]))
        table.add_row(*map(Text, (row["source"], row["kind"], *cells)))
    return Group(table, *map(_range, ranges))


def plan_view(name: str, budget: Mapping[str, Any], ranges: Sequence[Range], config: BudgetConfig) -> RenderableType:
    """A run that is planned: its tokens beside those that its size asks for, and what it may take."""
    asked = budget["total"] * config.tokens_per_parameter
    words = (
        f"{formats.short(budget['total'])} parameters read {formats.short(budget['trained_tokens'])} tokens"
        f" ({budget['epochs']:.2g} passes); {config.tokens_per_parameter:g} a parameter are {formats.short(asked)}"
    )
    short = budget["trained_tokens"] < asked / 2
    notes = [Text("  fewer than half of what that size asks for (Hoffmann 2022)", "yellow")] if short else []
    notes += [Text(f"  {budget['assumed']}", "dim")] if budget.get("assumed") else []
    return Group(line(name, words), *notes, *map(_range, ranges))


def _range(estimate: Range) -> RenderableType:
    return Group(line(estimate.what, estimate.words), Text(f"  {estimate.origin}", "dim"))
