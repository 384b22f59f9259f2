"""What tables and panels of the terminal look like."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.panel import Panel
from rich.table import Table

from flows.execution.terminal import Text

#: Characters that a column of words gets at least beside columns of numbers.
_LEAST_WORDS = 18
#: Characters of a line in the title of a column of numbers.
_HEADING = 10


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
        numbers = self.titles[at].endswith("|")
        cells = [Text(self._title(at)), *(cells[at] for cells, _ in self.rows if at < len(cells))]
        found = [console.measure(cell, options=options) for cell in cells]
        return max((one.maximum if numbers else min(one.minimum, _LEAST_WORDS) for one in found), default=0)

    def _block(self, block: Sequence[int], least: Sequence[int]) -> Table:
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
        for at in block:
            title = Text(self._title(at))
            if self.titles[at].endswith("|"):
                table.add_column(title, justify="right", no_wrap=True, overflow="fold", min_width=least[at])
            else:
                table.add_column(title, overflow="fold", min_width=least[at])
        for cells, style in self.rows:
            table.add_row(*(cells[at] if at < len(cells) else "" for at in block), style=style)
        return table

    def _title(self, at: int) -> str:
        title = self.titles[at]
        return heading(title.removesuffix("|")) if title.endswith("|") else title


def line(name: str, told: str) -> RenderableType:
    return Text.assemble((name, "bold"), f"  {told}")


def text_panel(title: str, text: RenderableType) -> RenderableType:
    """``text`` in a frame below its title, which a frame's own edge would cut."""
    return Group(Text(title, "bold", overflow="fold"), Panel(text, border_style="dim"))


def heading(title: str) -> str:
    """The title of a column of numbers, in lines that leave the column narrow."""
    return "\n".join(textwrap.wrap(title, _HEADING)) or title
