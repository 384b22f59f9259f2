"""What a file holds by its content, whatever it is called: its beginning is read, and nothing else."""

from __future__ import annotations

import csv
import io
from typing import NamedTuple

import orjson

from pipeline.sources.base import File
from pipeline.sources.reading import OF_CONTENT, Damaged, open_file, open_raw

#: Bytes at the head of a file, unpacked, that are looked at.
HEAD = 1 << 16
#: Lines of them that show whether a file is a table.
_ROWS = 50
_DELIMITERS = "\t,;|"
_ARROW = (b"ARROW1", b"\xff\xff\xff\xff")
_ARCHIVES = (b"WARC/", b"filedesc:")
_MOST_RATIO = 1e6  # only HEAD bytes are unpacked

#: What each kind of source reads, in words.
FORMATS = {
    "parquet": "Parquet or Arrow",
    "warc": "a web archive",
    "jsonl": "JSON lines",
    "csv": "a table of text (CSV)",
    "text": "plain text",
}


class Seen(NamedTuple):
    """The ``kind`` of source that reads a file, "" for none, then with what it is instead, in words, as ``other``.

    ``delimiter`` and ``columns`` are those of a table as text; ``head`` is the beginning of a text.
    """

    kind: str
    other: str = ""
    delimiter: str = ""
    columns: tuple[str, ...] = ()
    head: str = ""

    @property
    def words(self) -> str:
        return FORMATS.get(self.kind, self.other)


def look(file: File) -> Seen:
    """What ``file`` holds. Raises OSError where it cannot be opened."""
    with open_raw(file) as handle:
        start = handle.read(16)
    if start.startswith(b"PAR1") or start.startswith(_ARROW):
        return Seen("parquet")
    try:
        with open_file(file, _MOST_RATIO) as stream:
            head = stream.read(HEAD)
    except (Damaged, *OF_CONTENT) as error:
        return Seen("", f"a file that cannot be read ({error})")
    if not head.strip():
        return Seen("", "empty")
    if head.lstrip().startswith(_ARCHIVES):
        return Seen("warc")
    try:
        text = head.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if len(head) < HEAD or error.start < HEAD - 4:  # else a character is cut
            what = "binary data" if b"\0" in head else f"not UTF-8 (byte {error.start:,})"
            return Seen("", what)
        text = head[: error.start].decode("utf-8-sig")
    if "\0" in text:
        return Seen("", "binary data")
    return _text(text, whole=len(head) < HEAD, name=file.name.lower())


def _text(text: str, whole: bool, name: str) -> Seen:
    lines = [line for line in text.splitlines() if line.strip()]
    complete = lines if whole else lines[:-1] or lines
    first = complete[0].lstrip()
    if first.startswith("{") and (_is_object(first) or (len(complete) == 1 and not whole)):
        return Seen("jsonl", head=text)
    if first.startswith(("{", "[")) and _is_one_document(text, whole):
        return Seen("", "one JSON document, not a line for each record (`jq -c '.[]'` makes JSON lines of a list)")
    for delimiter in _DELIMITERS:
        if columns := _table(complete[:_ROWS], delimiter, named=any(end in name for end in (".csv", ".tsv"))):
            return Seen("csv", delimiter=delimiter, columns=columns, head=text)
    return Seen("text", head=text)


def _is_object(line: str) -> bool:
    try:
        return isinstance(orjson.loads(line), dict)
    except orjson.JSONDecodeError:
        return False


def _is_one_document(text: str, whole: bool) -> bool:
    if not whole:
        return text.lstrip()[1:].lstrip()[:1] in ('"', "{", "[")
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True


def _table(lines: list[str], delimiter: str, named: bool) -> tuple[str, ...]:
    """The columns of a table with a row of names; () where ``lines`` are none. One row is enough where it is ``named``
    a table; else all rows must have as many values as there are names, and three of them be there.
    """
    try:
        rows = list(csv.reader(io.StringIO("\n".join(lines)), delimiter=delimiter))
    except csv.Error:
        return ()
    names = tuple(rows[0]) if rows else ()
    if len(names) < 2 or len(set(names)) < len(names) or not all(_is_name(name) for name in names):
        return ()
    same = sum(len(row) == len(names) for row in rows)
    if named:
        return names if same * 2 > len(rows) else ()  # a quoted value may hold line ends, and the last row be cut
    return names if same >= 3 and same >= len(rows) - 1 else ()


def _is_name(text: str) -> bool:
    return 0 < len(text.strip()) <= 60 and not text.strip()[0].isdigit()
