"""What a run shows while it goes on: bars with rate and remaining time in a terminal, log lines elsewhere."""

from __future__ import annotations

import contextlib
import json
import logging
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn
from rich.table import Column, Table

from flows.execution import tracking
from flows.execution.terminal import Text
from pipeline.store.messages import visible
from pipeline.text import formats
from pipeline.text.formats import short

LIVE_SECONDS = 2.0
"""How long a step takes before its progress is an artifact, and how often that changes."""
CURVE_SECONDS = 60.0
"""The same of a training run's loss."""

Advance = Callable[[int, str], None]
"""Called with how many of a step's items are done, and a short note such as ``12.3 MB/s``."""


class Reporter:
    """Times each step and writes a line to the run's log when it ends. ``seconds`` maps a step's name to its time."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.made = 0  # steps and training runs of which something was not there already
        self.whole: set[str] = set()  # steps of which nothing was there already
        self.processor: dict[str, float] = {}  # seconds of processor time of each of these, in all processes here
        self.facts: dict[str, Any] = {}
        self._total = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def note(self, **facts: Any) -> None:
        """What is known of the running step beside its length: ``bytes``, ``reused``, and ``dropped``, a function."""
        self.facts |= facts

    @contextlib.contextmanager
    def step(self, name: str, title: str, total: int) -> Iterator[Advance]:
        done, note = 0, ""

        began = time.monotonic()
        live = tracking.Live("progress", after=LIVE_SECONDS, every=LIVE_SECONDS)

        def show(last: bool = False) -> None:
            words = f"{title}: {done} of {self._total}{', ' if note else ''}{note}{left(began, done, self._total)}"
            live.show(lambda: 100 * done / max(self._total, 1), words, last)

        def advance(now: int, text: str) -> None:
            nonlocal done, note
            done, note = now, text
            self._advance(done, note)
            show()

        self._total, self.facts = total, {}
        self._open(title, total)
        finished = False
        try:
            yield advance
            finished = True
        finally:
            took = time.monotonic() - began
            self.seconds[name] = self.seconds.get(name, 0.0) + took
            show(last=True)
            self._close(title, f"{done} of {self._total}", note, took, finished)
            self._ended(name, title, done, note, took, finished)

    @contextlib.contextmanager
    def training(self, name: str, title: str) -> Iterator[Callable[[int, int, Mapping[str, float]], None]]:
        """Like ``step`` for a training run, which says its length only once it runs: ``(step, steps, metrics)``."""
        curve = LossCurve(title)
        with self.step(name, title, 1) as advance:
            ran = False

            def progress(step: int, steps: int, metrics: Mapping[str, float]) -> None:
                nonlocal ran
                self.made += not ran
                ran, self._total = True, steps
                self._resize(steps)
                advance(step, _training_note(metrics))
                curve.add(step, metrics)

            yield progress
            curve.end()
            if not ran:
                self.note(reused=True)
                advance(1, "reused")

    def _open(self, title: str, total: int) -> None: ...

    def _resize(self, total: int) -> None: ...

    def _advance(self, done: int, note: str) -> None: ...

    def tell(self, message: str) -> None:
        """A line for the user beside the steps', also in the run's log."""
        tracking.log(message, logging.WARNING)
        self.show(message)

    def stop(self, message: str) -> None:
        """The last line of a run that is stopped."""
        self.tell(message)

    def show(self, message: str) -> None:
        """A line for the user beside the steps'."""
        print(visible(message), file=sys.stderr)

    def _ended(self, name: str, title: str, done: int, note: str, seconds: float, finished: bool) -> None: ...

    def _close(self, title: str, done: str, note: str, seconds: float, finished: bool) -> None:
        tracking.log(
            f"{title}: {done} done in {seconds:.1f} s{', ' if note else ''}{note}{'' if finished else ', not finished'}"
        )


class LossCurve:
    """The loss of a training run so far, as an image in the Prefect UI that is drawn again every minute at most."""

    def __init__(self, title: str) -> None:
        self.title, self._rows = title, list[str]()
        self._live = tracking.Live("image", after=CURVE_SECONDS, every=CURVE_SECONDS)

    def add(self, step: int, metrics: Mapping[str, float]) -> None:
        if (loss := metrics.get("loss")) is None:
            return
        self._rows.append(json.dumps({"step": step, "loss": loss}))
        if len(self._rows) > 20_000:
            self._rows = self._rows[::2]
        self._live.show(self._image, f"{self.title}: loss up to step {step}")

    def end(self) -> None:
        self._live.show(self._image, f"{self.title}: loss", last=True)

    def _image(self) -> str:
        from pipeline.report import charts, models

        chart = models.loss_curve(self.title, self._rows)
        assert chart is not None  # it has a point
        return charts.image(chart)


def left(began: float, done: int, total: int) -> str:
    """How long the rest will take if it goes on as since ``began`` (time.monotonic): ``, 3 min left``."""
    if not 0 < done < total:
        return ""
    return f", {formats.duration((time.monotonic() - began) / done * (total - done) / 3600)} left"


class TerminalReporter(Reporter):
    """Draws the running step as a bar and leaves one line for each finished one."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self.console = console
        self.bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", table_column=Column(overflow="fold")),
            BarColumn(bar_width=10),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}", table_column=Column(overflow="fold")),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=console,
            transient=True,
        )
        self.task = None

    def __enter__(self) -> Self:
        self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bars.stop()

    def _open(self, title: str, total: int) -> None:
        self.task = self.bars.add_task(title, total=total, note="")

    def _resize(self, total: int) -> None:
        if self.task is not None:
            self.bars.update(self.task, total=total)

    def _advance(self, done: int, note: str) -> None:
        if self.task is not None:
            self.bars.update(self.task, completed=done, note=note)

    def show(self, message: str) -> None:
        self.console.print(message, style="yellow", highlight=False, markup=False)

    def stop(self, message: str) -> None:
        self.bars.stop()
        tracking.log(message, logging.WARNING)
        self.console.print(message, highlight=False, markup=False)

    def _close(self, title: str, done: str, note: str, seconds: float, finished: bool) -> None:
        super()._close(title, done, note, seconds, finished)
        if self.task is not None:
            self.bars.remove_task(self.task)
            self.task = None
        line = Table.grid(padding=(0, 1, 0, 0))
        for width in (1, 28, 14, 8, None):
            line.add_column(width=width, justify="right" if width in (14, 8) else "left", overflow="fold")
        mark = Text("✓", "green") if finished else Text("✗", "red")
        line.add_row(mark, Text(title), *(Text(cell, "dim") for cell in (done, f"{seconds:.1f} s", note)))
        self.console.print(line)


def _training_note(metrics: Mapping[str, float]) -> str:
    loss, rate = metrics.get("loss"), metrics.get("tokens_per_second")
    parts = [f"loss {loss:.3f}" if loss is not None else "", f"{short(rate)} tokens/s" if rate is not None else ""]
    if mfu := metrics.get("mfu"):
        parts.append(f"MFU {mfu:.1%}")
    return ", ".join(part for part in parts if part)


_current: list[Reporter] = [Reporter()]


def reporter() -> Reporter:
    """The reporter of the run in this process."""
    return _current[-1]


@contextlib.contextmanager
def reporting(chosen: Reporter) -> Iterator[Reporter]:
    """Use ``chosen`` for the flows run in the block."""
    _current.append(chosen)
    try:
        yield chosen
    finally:
        _current.remove(chosen)
