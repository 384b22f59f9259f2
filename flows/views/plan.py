"""What a build will cost, in the terminal, and how far off that was."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Group, RenderableType

from flows.execution.terminal import Text
from flows.views.layout import Columns, line
from pipeline.curation.plan import Plan
from pipeline.text import formats


def plan_view(plans: Iterable[tuple[str, Plan, float]], machines: int, cores: int, price: str) -> RenderableType:
    """A row for each size, with its name and its cost in dollars; ``price`` says what that is made of."""
    table = Columns("text", "size|", "core-hours|", "time|", "memory a machine|", "disk|", "files opened|", "cost|")
    for name, plan, dollars in plans:
        cells = (
            formats.size(plan.size),
            formats.number(plan.processor / 3600),
            formats.duration(plan.clock / 3600),
            formats.size(plan.memory * cores),
            formats.size(plan.disk),
            formats.short(round(plan.opened)),
            f"${dollars:,.2f}",
        )
        table.add_row(*map(Text, (name, *cells)))
    where = f"{formats.several(machines, 'machine')} with {formats.several(cores, 'core')}"
    return Group(line("plan", f"curation, tokenizers and packing on {where}"), table, Text(f"  {price}", "dim"))


def error_line(seconds: tuple[float, float], memory: tuple[float, float]) -> str:
    """How far off a plan was, in seconds of processor time and in bytes of memory of one process."""
    planned, took = seconds
    return (
        f"plan: {planned:,.1f} s of processor time planned, {took:,.1f} s taken ({planned / took - 1:+.0%});"
        f" memory of a process: {formats.size(memory[0])} planned, {formats.size(memory[1])} taken"
        f" ({memory[0] / memory[1] - 1:+.0%})"
    )
