"""Nothing that data says steers the terminal."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pyarrow as pa
import pytest
from rich.panel import Panel
from rich.table import Table

from flows import console
from flows.terminal import Console
from pipeline import MillError, inspect, messages
from pipeline.build import Build
from pipeline.sample import sample
from pipeline.store.ledger import Rule
from tests.pipeline import small_build
from tests.pipeline.small_build import document

#: Sets the window's title, makes red, the one-character form of ESC [, goes back over the line, turns the order.
NASTY = "\x1b]0;x\x07 \x1b[31m \x9b2J \r\b \u202e\u2066"
SHOWN = r"\x1b]0;x\x07 \x1b[31m \x9b2J \r\x08 \u202e\u2066"
#: What a terminal acts on; rich's own colours (a CSI that ends in m) are taken out before.
STEERS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
COLOURS = re.compile("\x1b\\[[0-9;]*m")


def printed(what: object, terminal: bool) -> str:
    """What is written on a console for ``what``, without colours, which only a terminal is given."""
    written = io.StringIO()
    Console(width=400, file=written, force_terminal=terminal, color_system=None).print(what)
    coloured = io.StringIO()
    Console(width=400, file=coloured, force_terminal=terminal, color_system="standard").print(what, style="green")
    assert not STEERS.search(COLOURS.sub("", coloured.getvalue()))
    return written.getvalue()


@pytest.fixture
def build(tmp_path: Path) -> Build:
    made = small_build.open_small(tmp_path / "b", exact={}, minhash={})
    nasty = {"id": f"web/{NASTY}#1", "url": f"http://x/{NASTY}", "domain": f"d{NASTY}"}
    small_build.write_documents(made, [document(1, f"first\n{NASTY}\tlast", **nasty), document(2, "plain")], 2)
    small_build.write_ledger(
        made, "exact", {"words": pa.array([1.0, 9.0])}, [Rule(name="exact.words", signal="words", minimum=0)]
    )
    small_build.write_ledger(
        made, "minhash", {"duplicate_of": pa.array([None, f"web/{NASTY}#1"])}, dropped={1: ("near_duplicate", 0.9, 0.8)}
    )
    small_build.close(made)
    return made


@pytest.mark.parametrize("terminal", [False, True])
def test_what_a_document_says_of_itself_is_shown_and_not_obeyed(build: Build, terminal: bool):
    why = printed(console.explanation_view(inspect.why(build, f"web/{NASTY}#1")), terminal)
    assert not STEERS.search(why)
    assert f"web/{SHOWN}#1" in why
    assert f"http://x/{SHOWN}" in why
    assert f"d{SHOWN}, row" in why
    survivor = printed(console.explanation_view(inspect.why(build, "web/page.jsonl#2")), terminal)
    assert not STEERS.search(survivor)
    assert f"kept in its place: web/{SHOWN}#1" in survivor


@pytest.mark.parametrize("terminal", [False, True])
def test_samples_are_shown_and_not_obeyed(build: Build, terminal: bool):
    shown = printed(console.sample_view("near_duplicate", sample(build, "near_duplicate", 1)), terminal)
    assert "web/page.jsonl#2" in shown
    entry = sample(build, "near_duplicate", 1)[0]
    nasty = type(entry)(**{**vars(entry), "id": NASTY, "text": f"one\n{NASTY}"})
    shown = printed(console.sample_view(NASTY, [nasty]), terminal)
    assert not STEERS.search(shown)
    assert shown.count(SHOWN) == 2


@pytest.mark.parametrize("terminal", [False, True])
def test_no_way_of_printing_lets_control_characters_through(terminal: bool):
    table = Table(NASTY, title=NASTY)
    table.add_row(NASTY)
    for what in (NASTY, table, Panel(NASTY, title=NASTY)):
        shown = printed(what, terminal)
        assert not STEERS.search(shown)
        assert r"\x1b[31m" in shown


def test_messages_of_errors_are_visible():
    for error in (MillError(f"{NASTY}: no"), FileNotFoundError(2, "No such file", NASTY)):
        told = messages.message(error)
        assert told is not None
        assert SHOWN in told
        assert not STEERS.search(told)
