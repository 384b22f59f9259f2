"""Decisions about labels that look wrong, applied to copies of the files that the rows stand in.

A file of decisions has the columns ``place``, ``label`` and ``decision``, as `mill finetune --minutes` writes them into
suspects.csv. A decision is ``keep`` (as is nothing), ``remove``, ``suggested``, or the right label.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import MillError
from pipeline.sources.base import File, value_of
from pipeline.store import files
from training.labelled import tables
from training.labelled.kinds.texts import name_of


class WrongFix(MillError):
    """A decision that cannot be carried out. The message names its row, and the remedy."""


@dataclass(frozen=True)
class Fixed:
    """A corrected copy of ``file``."""

    file: Path
    copy: Path
    relabelled: int
    removed: int


@dataclass(frozen=True)
class _Decision:
    place: str
    was: str
    label: str | None  # None: the row is removed


def apply(decisions: Path, column: str, columns: tuple[str, ...] | None = None) -> list[Fixed]:
    """Carry out ``decisions`` on the column of labels ``column``; a copy NAME.fixed.EXT beside each file.

    ``columns`` are those of tables without a header, in order; None: their first row names them.

    Rows without a decision stay byte for byte. Raises WrongFix where a row is not as the decision has it, so where the
    file has changed since; then nothing is written.
    """
    by_file: dict[Path, dict[int, _Decision]] = defaultdict(dict)
    for decision in _read(decisions):
        path, _, line = decision.place.rpartition(":")
        if not path or not line.isdigit():
            raise WrongFix(f"{decisions}: {decision.place!r} is no place in a file; leave `place` as it was written")
        by_file[Path(path)][int(line)] = decision
    made = {path: _corrected(path, wanted, column, columns) for path, wanted in sorted(by_file.items())}
    fixed = []
    for path, content in made.items():
        copy = path.with_name(f"{path.stem}.fixed{path.suffix}")
        with files.replacing(str(copy), summed=False) as handle:
            handle.write(content)
        decided = by_file[path].values()
        relabelled = sum(decision.label not in (None, decision.was) for decision in decided)
        fixed.append(Fixed(path, copy, relabelled, sum(decision.label is None for decision in decided)))
    return fixed


def _read(path: Path) -> list[_Decision]:
    rows = list(csv.DictReader(io.StringIO(path.read_bytes().decode("utf-8-sig"), newline="")))
    lacking = [name for name in ("place", "label", "decision") if rows and name not in rows[0]]
    if lacking or not rows:
        raise WrongFix(f"{path}: no column {', '.join(lacking) or 'at all'}; give the file that the label audit wrote")
    made = []
    for row in rows:
        decided = (row["decision"] or "").strip()
        if decided in ("", "keep"):
            continue
        if "\t" in decided or "\n" in decided:
            raise WrongFix(f"{path}: the decision on {row['place']} holds a tab or a line end, and a label has none")
        if decided == "suggested" and not row.get("suggested"):
            raise WrongFix(f"{path}: {row['place']} takes a suggestion, and there is none; write the label itself")
        label = None if decided == "remove" else row["suggested"] if decided == "suggested" else decided
        made.append(_Decision(row["place"], row["label"], label))
    return made


def _corrected(path: Path, wanted: dict[int, _Decision], column: str, columns: tuple[str, ...] | None) -> bytes:
    if not path.is_file():
        raise WrongFix(f"{path}: not there; run `mill labels` in the folder where the labels were audited")
    data = path.read_bytes()
    if path.suffix in (".csv", ".tsv"):
        return _edited_table(path, data, wanted, column, columns)
    if columns is not None:
        raise WrongFix(f"{path}: it names its fields itself; leave out --columns")
    if path.suffix == ".jsonl":
        return _edited_lines(path, _lines(data), wanted, column)
    raise WrongFix(f"{path}: labels are corrected in .csv, .tsv and .jsonl files; correct this one where it is made")


def _lines(data: bytes) -> list[bytes]:
    """With their ends; only a line feed ends one."""
    return list(io.BytesIO(data))


def _edited_lines(path: Path, lines: list[bytes], wanted: dict[int, _Decision], column: str) -> bytes:
    for number, decision in wanted.items():
        if number > len(lines):
            raise WrongFix(f"{path}: there is no line {number}; audit the labels of the file as it is now")
        line = lines[number - 1]
        row, last = _object(path, number, line), column
        holder = row
        if column not in row:  # `a.b` names a field of an object
            *names, last = column.split(".")
            holder = value_of(row, ".".join(names)) if names else row
        was = holder.get(last) if isinstance(holder, dict) else None
        _is_as_it_was(decision, was)
        if decision.label is None:
            lines[number - 1] = b""
            continue
        holder[last] = _like(was, decision.label)
        end = line[len(line.rstrip(b"\r\n")) :]
        lines[number - 1] = json.dumps(row, ensure_ascii=False).encode() + end
    return b"".join(lines)


def _object(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        row = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
    except ValueError:
        row = None
    if not isinstance(row, dict):
        raise WrongFix(f"{path}:{number}: no JSON object; audit the labels of the file as it is now")
    return row


def _like(was: Any, label: str) -> Any:
    """``label`` as the file writes labels, where ``was`` is one: a truth value, a number, or a text."""
    if isinstance(was, bool) and label in ("True", "False"):
        return label == "True"
    if isinstance(was, int | float) and not isinstance(was, bool):
        for number in (int, float):
            with contextlib.suppress(ValueError):
                if math.isfinite(value := number(label)) and name_of(value) == label:
                    return value
    return label


def _style(path: Path, columns: tuple[str, ...] | None) -> dict[str, Any]:
    """How the table is written; in a TSV, quotes are characters like others."""
    tabs = path.suffix == ".tsv"
    table = tables.table("labels", File(str(path), path.name, 0), tabs=tabs, columns=columns)
    return {"delimiter": table.delimiter, **({"quoting": csv.QUOTE_NONE, "quotechar": None} if tabs else {})}


def _edited_table(
    path: Path, data: bytes, wanted: dict[int, _Decision], column: str, columns: tuple[str, ...] | None
) -> bytes:
    style = _style(path, columns)
    lines = _lines(data)
    decoded = (line.decode("utf-8-sig" if at == 0 else "utf-8") for at, line in enumerate(lines))
    reader = csv.reader(decoded, **style)
    names = next(reader, []) if columns is None else list(columns)
    if column not in names:
        raise WrongFix(
            f"{path}: no column {column!r}; name the column of the labels by --label, and by --columns those of a table"
            " without a header"
        )
    place, first, left = names.index(column), reader.line_num + 1, dict(wanted)
    made = lines[: reader.line_num]
    for row in reader:
        part = lines[first - 1 : reader.line_num]
        decision = left.pop(first, None)
        first = reader.line_num + 1
        if decision is None:
            made += part
            continue
        _is_as_it_was(decision, row[place])
        if decision.label is not None:
            row[place] = decision.label
            text = io.StringIO()
            end = "\r\n" if part[-1].endswith(b"\r\n") else "\n" if part[-1].endswith(b"\n") else ""
            csv.writer(text, **style, lineterminator=end).writerow(row)
            made.append(text.getvalue().encode())
    if left:
        raise WrongFix(f"{path}: no row begins in line {min(left)}; audit the labels of the file as it is now")
    return b"".join(made)


def _is_as_it_was(decision: _Decision, value: Any) -> None:
    label = name_of(value)  # as it was read
    if label != decision.was:
        raise WrongFix(
            f"{decision.place}: the label is {label!r} and was {decision.was!r} when it was audited; audit the labels"
            " of the file as it is now"
        )
