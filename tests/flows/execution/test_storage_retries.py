"""Work is done again where the storage fails, and for no other reason."""

from __future__ import annotations

import errno

import pytest

from flows.execution import progress, storage_retries
from flows.execution.run_steps import Pool, run_step
from flows.execution.storage_retries import WAITS, passing, persistent
from pipeline import MillError
from pipeline.build.build import Outcome, Step
from pipeline.store import messages
from tests.helpers import small_build

STORAGE = [
    ConnectionResetError(),
    ConnectionRefusedError(),
    TimeoutError(),
    OSError(errno.EIO, "Input/output error"),
    OSError(errno.EBUSY, "Please reduce your request rate."),
    OSError(errno.ESTALE, "Stale file handle"),
]
OTHERS = [
    FileNotFoundError(errno.ENOENT, "No such file"),
    PermissionError(errno.EACCES, "Permission denied"),
    OSError(errno.ENOSPC, "No space left on device"),
    BrokenPipeError(errno.EPIPE, "Broken pipe"),
    MillError("a message"),
    ValueError("a fault"),
    KeyError("x"),
]


@pytest.mark.parametrize("error", STORAGE, ids=repr)
def test_storage_that_answers_after_a_while_costs_a_line_and_a_wait(error):
    attempts, lines, waits = [], [], []

    def work() -> str:
        attempts.append(1)
        if len(attempts) < 3:
            raise error
        return "done"

    assert passing(error)
    assert persistent(work, lines.append, waits.append) == "done"
    assert waits == list(WAITS[:2])
    assert len(lines) == 2
    assert all(type(error).__name__ in line for line in lines)


def test_storage_that_does_not_come_back_ends_in_its_last_error():
    attempts, waits = [], []

    def work() -> None:
        attempts.append(1)
        raise TimeoutError(f"attempt {len(attempts)}")

    with pytest.raises(TimeoutError, match=f"attempt {len(WAITS) + 1}"):
        persistent(work, lambda _line: None, waits.append)
    assert waits == list(WAITS)


@pytest.mark.parametrize("error", OTHERS, ids=repr)
def test_nothing_else_is_tried_again(error):
    attempts = []

    def work() -> None:
        attempts.append(1)
        raise error

    with pytest.raises(type(error)):
        persistent(work, lambda line: pytest.fail(line), lambda _seconds: pytest.fail("waited"))
    assert len(attempts) == 1


@pytest.mark.parametrize("runner", ["threads", "processes"])
def test_a_step_survives_a_cut_connection_and_an_error_names_step_and_item(tmp_path, monkeypatch, runner):
    monkeypatch.setattr(storage_retries, "WAITS", (0.0, 0.0))
    calls: list[str] = []

    def work(_build, item: str) -> Outcome:
        calls.append(item)
        if item == "b" and calls.count("b") == 1:
            raise ConnectionResetError("cut")
        if item == "c":
            raise MillError("record 7 has no text")
        return Outcome()

    build = small_build.open_small(tmp_path / "small")
    lines: list[str] = []
    reporter = progress.Reporter()
    monkeypatch.setattr(reporter, "tell", lines.append)
    # with one worker the work is done in this process, for either runner
    with (
        progress.reporting(reporter),
        Pool(runner, 1) as pool,
        pytest.raises(MillError, match="record 7") as caught,
    ):
        run_step(build, Step("step", "A step", lambda _build: list("abc"), work), pool)
    assert list(dict.fromkeys(calls)) == ["a", "b", "c"]
    assert calls.count("b") >= 2
    assert any(line.startswith("A step: b: ConnectionResetError: cut") for line in lines)
    assert messages.place(caught.value) == "A step: c"
    assert messages.in_short(caught.value) == "A step: c: record 7 has no text"
