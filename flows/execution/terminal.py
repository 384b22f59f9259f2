"""The terminal: whatever data says, no control character of it reaches the screen.

Ids, addresses, file names and texts are other people's; a raw escape sequence among them could retitle the window,
hide lines or write to the clipboard. ``Console`` lets none through, whichever way text comes to it; ``Text`` makes the
escapes before widths are measured, and shows also the few characters that rich's own drops.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from typing import Any

import rich.console
import rich.text
from rich.segment import Segment

from pipeline.store.messages import visible


class Text(rich.text.Text):
    """rich's Text, of visible characters only."""

    def __init__(self, text: str = "", *args: Any, **named: Any) -> None:
        super().__init__(visible(text), *args, **named)

    def append(self, text: Any, style: Any = None) -> Any:
        return super().append(visible(text) if isinstance(text, str) else text, style)


class Console(rich.console.Console):
    """rich's Console; control codes are rich's own (cursor, colours), never those in what is printed.

    Nor are names between colons pictures: they stand in data, as in ``root:x:0``.
    """

    def __init__(self, **named: Any) -> None:
        super().__init__(emoji=False, **named)

    def render_str(self, text: str, **named: Any) -> rich.text.Text:
        return super().render_str(visible(text), **named)

    def render(self, renderable: Any, options: Any = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(visible(segment.text), segment.style)


def write_json(event: str, facts: Mapping[str, Any]) -> None:
    """One line of JSON on stdout, for programs; what is not known (None) is left out."""
    known = {name: value for name, value in facts.items() if value is not None}
    sys.stdout.write(json.dumps({"event": event, **known}, default=str) + "\n")
    sys.stdout.flush()
