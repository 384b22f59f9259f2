"""Nothing that data says steers the terminal."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pyarrow as pa
import pytest
from rich.panel import Panel
from rich.table import Table

from flows.commands import options
from flows.execution.progress import TerminalReporter
from flows.execution.terminal import Console
from flows.views import layout, questions
from pipeline import MillError
from pipeline.build.build import Build
from pipeline.questions import why as inspect
from pipeline.questions.sample import sample
from pipeline.report import tables
from pipeline.store import messages
from pipeline.store.ledger import Rule
from tests.helpers import small_build
from tests.helpers.small_build import document

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
    why = printed(questions.explanation_view(inspect.why(build, f"web/{NASTY}#1")), terminal)
    assert not STEERS.search(why)
    assert f"web/{SHOWN}#1" in why
    assert f"http://x/{SHOWN}" in why
    assert f"d{SHOWN}, row" in why
    survivor = printed(questions.explanation_view(inspect.why(build, "web/page.jsonl#2")), terminal)
    assert not STEERS.search(survivor)
    assert f"kept in its place: web/{SHOWN}#1" in survivor


@pytest.mark.parametrize("terminal", [False, True])
def test_samples_are_shown_and_not_obeyed(build: Build, terminal: bool):
    shown = printed(questions.sample_view("near_duplicate", sample(build, "near_duplicate", 1)), terminal)
    assert "web/page.jsonl#2" in shown
    entry = sample(build, "near_duplicate", 1)[0]
    nasty = type(entry)(**{**vars(entry), "id": NASTY, "text": f"one\n{NASTY}"})
    shown = printed(questions.sample_view(NASTY, [nasty]), terminal)
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


def test_names_between_colons_are_no_pictures():
    table = Table()
    table.add_row("root:x:0")
    for what in ("root:x:0", table, Panel("root:x:0")):
        assert "root:x:0" in printed(what, True)


def test_brackets_in_the_name_of_a_folder_are_no_markup(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    root = str(tmp_path / "b[red] [" / "] small")
    with options.shown("build", tmp_path / "small.yaml", root):
        pass
    assert root in capsys.readouterr().out.replace("\n", "")


def test_messages_of_errors_are_visible():
    for error in (MillError(f"{NASTY}: no"), FileNotFoundError(2, "No such file", NASTY)):
        told = messages.message(error)
        assert told is not None
        assert SHOWN in told
        assert not STEERS.search(told)


def test_the_lines_of_a_run_fit_80_columns_and_lose_nothing():
    shown = io.StringIO()
    name = "Pretrain a-model-with-quite-a-long-name"
    with TerminalReporter(Console(file=shown, width=80)) as reporter:
        with reporter.step("count", "Split off held-out documents", 1_234_567) as advance:
            advance(1_234_567, "1234.5 MB/s")
        with reporter.training("train", name) as progress:
            progress(150, 150, {"loss": 6.487, "tokens_per_second": 123_456, "mfu": 0.123})
    lines = shown.getvalue().split("\n")
    assert max(map(len, lines)) <= 80
    printed = "".join("".join(lines).split())
    for whole in ("1234567of", "1234.5MB/s", "150of150", "loss6.487,123k", "12.3%"):
        assert whole in printed
    columns = "".join(line[2:30].strip() for line in lines)
    assert columns.endswith(name.replace(" ", ""))


def test_a_table_that_is_too_wide_goes_on_below_with_every_name_and_number_whole():
    row = {"documents": 1_000_000, "bytes": 10**9, "tokens": 250_000_000, "read": 500_000_000}
    more = {"bytes_per_token": 4.0, "assumed": 3.5, "planned": 1e6}
    names = [f"machine-learning-{number}" for number in range(3)]
    found = {"tokenizer": "bpe", "rows": [{"domain": name, **row, **more} for name in names], "total": row}
    shown = io.StringIO()
    Console(file=shown, width=80).print(layout.drawn(tables.tokens_by_domain(found)))
    lines = shown.getvalue().split("\n")
    assert max(map(len, lines)) <= 80
    words = shown.getvalue().split()
    for name in names:
        assert words.count(name) == 2
    for number in ("1,000,000", "250,000,000", "500,000,000", "4.00"):
        assert words.count(number) == len(names) + 1  # and the sum's
    for number in ("1.00M", "3.50"):
        assert words.count(number) == len(names)


def test_the_id_above_a_text_is_whole_however_long():
    shown = io.StringIO()
    name = "/".join(["a-folder-with-a-name"] * 12)
    Console(file=shown, width=80).print(layout.text_panel(name, "text"))
    lines = shown.getvalue().split("\n")
    assert max(map(len, lines)) <= 80
    assert "".join(lines).startswith(name)
