"""What tables and panels of the terminal look like."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.panel import Panel
from rich.table import Table as RichTable

from flows.execution.terminal import Text

if TYPE_CHECKING:
    from pipeline.report.tables import Table

#: Characters that a column of words gets at least beside columns of numbers.
_LEAST_WORDS = 18


class Columns:
    """A table without lines. A column whose title ends in ``|`` is of numbers, aligned to the right and never folded.

    Others fold between words. Columns for which there is no room stand in a table below, beside the first column again.
    """

    def __init__(self, *titles: str) -> None:
        self.titles = titles
        self.rows: list[tuple[tuple[RenderableType, ...], str | None]] = []

    def add_row(self, *cells: RenderableType, style: str | None = None) -> None:
        self.rows.append((cells, style))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        least = [self._least(at, console, options) for at in range(len(self.titles))]
        blocks: list[list[int]] = [[0]]
        for at in range(1, len(self.titles)):
            if len(blocks[-1]) > 1 and sum(least[other] + 2 for other in (*blocks[-1], at)) > options.max_width:
                blocks.append([0])
            blocks[-1].append(at)
        for number, block in enumerate(blocks):
            if number:
                yield Text()
            yield self._block(block, least)

    def _least(self, at: int, console: Console, options: ConsoleOptions) -> int:
        """The least width of a column: that of its longest number, or of its longest word up to _LEAST_WORDS."""
        cells = [cells[at] for cells, _ in self.rows if at < len(cells)]
        widths = [console.measure(cell, options=options) for cell in cells]
        if self.titles[at].endswith("|"):
            words = self.titles[at].removesuffix("|").split()
            return max([*map(len, words), *(one.maximum for one in widths)], default=0)
        widths.append(console.measure(Text(self.titles[at]), options=options))
        return max(min(one.minimum, _LEAST_WORDS) for one in widths)

    def _block(self, block: Sequence[int], least: Sequence[int]) -> RichTable:
        table = RichTable(box=None, padding=(0, 2, 0, 0), header_style="dim")
        for at in block:
            title = self.titles[at]
            if title.endswith("|"):
                title = heading(title.removesuffix("|"), least[at])
                table.add_column(Text(title), justify="right", no_wrap=True, overflow="fold", min_width=least[at])
            else:
                table.add_column(Text(title), overflow="fold", min_width=least[at])
        for cells, style in self.rows:
            table.add_row(*(cells[at] if at < len(cells) else "" for at in block), style=style)
        return table


def drawn(table: Table) -> Columns:
    """A table of the report in the terminal."""
    columns = Columns(*(f"{title}|" if kind == "number" else title for title, kind in table.columns))
    styles = ["dim" if kind == "note" else "" for _, kind in table.columns]
    for number, row in enumerate(table.rows):
        total = number >= len(table.rows) - table.totals
        columns.add_row(*map(Text, row, styles), style="bold" if total else None)
    return columns


def line(name: str, text: str) -> RenderableType:
    return Text.assemble((name, "bold"), f"  {text}")


def text_panel(title: str, text: RenderableType) -> RenderableType:
    """``text`` in a frame below its title, which a frame's own edge would cut."""
    return Group(Text(title, "bold", overflow="fold"), Panel(text, border_style="dim"))


def heading(title: str, width: int) -> str:
    """The title of a column of numbers, in lines that make the column no wider than its numbers do."""
    return "\n".join(textwrap.wrap(title, max(width, 1), break_long_words=False)) or title
