"""What a run came to, in a line each: its state's name, the funnel in one sentence, each stage, and why it failed."""

from __future__ import annotations

import math
import traceback
from collections.abc import Container, Mapping
from typing import Any

from pipeline.build.build import Build
from pipeline.report import models, sections
from pipeline.store import messages
from pipeline.text import formats

NOTHING_NEW = "Nothing new"


def conclusion(build: Build, worked: bool) -> tuple[str, str]:
    """The name of a completed run's state, and the build in one line. ``worked``: whether anything was made."""
    account = sections.funnel(build)
    records = account["quarantined"] if account else 0
    name = f"Quarantined {formats.count(records)}" if records else "Completed"
    return name if worked else NOTHING_NEW, summary(build)


def summary(build: Build) -> str:
    """The build in one line: documents read and kept, what was not readable, its models, its warnings."""
    account = sections.funnel(build)
    if account is None:
        return "no corpus yet"
    first, last = account["first"], account["last"]
    parts = [
        f"{formats.count(first['documents'])} documents read",
        f"{formats.count(last['documents'])} kept ({formats.share(last['documents'], first['documents'])}, "
        f"{formats.size(last['bytes'])})",
    ]
    if account["quarantined"]:
        parts.append(f"{formats.several(account['quarantined'], 'record')} quarantined")
    for kind, noun in (("pretrain", "pretrained model"), ("finetune", "fine-tuned model")):
        if runs := list(models.summaries(build, kind)):
            parts.append(formats.several(len(runs), noun))
    if warnings := sections.warnings(build):
        parts.append(formats.several(len(warnings), "warning"))
    return ", ".join(parts)


def stage_lines(account: Mapping[str, Any], seconds: Mapping[str, float], whole: Container[str]) -> list[str]:
    """What each stage did with the documents that came to it, a line each, in order; with its speed if this run did
    all of the stage's work.

    ``account`` is sections.funnel's; ``seconds`` the time of each step of this run, by its name; ``whole`` the steps
    of which nothing was there before.
    """
    taken: dict[str, float] = {}
    for step, time in seconds.items():
        stage = step.split(".")[0]
        taken[stage] = taken.get(stage, 0.0) + (time if step in whole else math.nan)
    lines = []
    before = account["rows"][0]
    for row in account["rows"]:
        line = f"{row['title']}: {formats.count(row['documents'])} documents kept ({formats.size(row['bytes'])})"
        if row["losses"]["documents"]:
            dropped = row["losses"]["documents"]
            line += f", {formats.count(dropped)} dropped ({formats.share(dropped, before['documents'])})"
        if row["cut"]["bytes"]:
            line += f", {formats.size(row['cut']['bytes'])} cut"
        if taken.get(row["stage"], 0) > 0:
            line += f", {formats.size(before['bytes'] / taken[row['stage']])}/s"
        lines.append(line)
        before = row
    return lines


def failure_markdown(error: BaseException) -> str:
    """Why a run failed, where, and what helps, as Markdown; a fault of ours with the end of its traceback."""
    place = messages.place(error)
    lines = [f"**Where**: {escaped(place)}\n"] if place else []
    if message := messages.message(error):
        return "\n".join([*lines, f"**What**: {escaped(message)}\n", "The same command goes on from here."])
    ended = "".join(traceback.format_exception(error))[-3000:]
    return "\n".join(
        [*lines, "This is a fault of corpusmill itself; please report it with these lines:\n", _code(ended)]
    )


def _code(text: str) -> str:
    return "\n".join(f"    {line}" for line in messages.visible(text).splitlines())


def escaped(text: str) -> str:
    """``text`` with no character that Markdown or HTML reads as a mark."""
    return "".join(f"\\{letter}" if letter in "\\`*_{}[]<>#|!~&" else letter for letter in text)
