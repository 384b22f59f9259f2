"""CSV and TSV, plain or compressed (.gz, .zst, .bz2, .xz): one document a row (RFC 4180, any delimiter, any quote).

A quote that is never closed, or closed in a later row, costs its own row: reading goes on at the next line. Columns of
one name are told apart as text, text.1, text.2.
"""

from __future__ import annotations

import contextlib
import csv
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Annotated, Literal

from pydantic import Field

from pipeline.sources.base import (
    Fields,
    File,
    FileConfig,
    Ids,
    Record,
    RecordConfig,
    Rejected,
    Unread,
    excerpt,
    find_files,
    to_document,
)
from pipeline.sources.column_names import distinct
from pipeline.sources.reading import TORN, Damaged, Line, bounded, open_file, read_lines
from pipeline.sources.reading import identity as identity

VERSION = 3
_BOM = "\ufeff"
#: Lines that a quoted field goes on over are taken for rows if this many delimiters stand in them where rows have them.
_EVIDENCE = 8
_EVIDENCE_OF_TABS = 2  # and of others that prose does not have
_MOST_PUT_BACK = 5_000_000


class Csv(FileConfig, RecordConfig):
    r"""Documents from tables as text. The first row names the columns, unless ``columns`` does.

    ``delimiter: "\t"`` with ``quote: null`` reads tab-separated values in which quotes are ordinary characters.
    """

    kind: Annotated[Literal["csv"], Field(description="CSV and TSV, a document per row")] = "csv"
    delimiter: Annotated[
        str,
        Field(
            min_length=1,
            max_length=1,
            description="character between two values of a row; \\t in double quotes for a tab",
        ),
    ] = ","
    quote: Annotated[
        Annotated[str, Field(min_length=1, max_length=1)] | None,
        Field(
            description="character around a value that holds delimiters or line ends; null: quotes are ordinary"
            " characters"
        ),
    ] = '"'
    escape: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=1,
            description="Character before a quote that is part of the text: a backslash as MySQL and Spark write it; "
            "by default none, such a quote is doubled (RFC 4180).",
        ),
    ] = None
    columns: Annotated[
        Annotated[list[str], Field(min_length=1)] | None,
        Field(description="names of the columns; default: the first row of each file"),
    ] = None


def list_files(config: Csv) -> list[File]:
    return find_files(config)


@bounded
def read(config: Csv, file: File) -> Iterator[Record]:
    ids = Ids(config.name, file)
    for record in records(config, file):
        if isinstance(record, Fields):
            yield to_document(config, file, ids, record.values, record.record, record.offset)
        else:
            yield record


def records(config: Csv, file: File) -> Iterator[Fields | Rejected | Unread]:
    """The rows of ``file``, and what is none. Raises Damaged, and what a parser raises."""
    columns = None if config.columns is None else distinct(config.columns)
    position = 0
    csv.field_size_limit(max(csv.field_size_limit(), int(config.max_document_bytes)))  # else 128 KiB
    with open_file(file, config.max_compression_ratio) as stream:
        lines = _Lines(read_lines(stream, config.max_document_bytes), config.max_document_bytes)
        rows = _reader(config, lines)
        while (first := lines.begin()) is not None:
            if first.damage is not None:
                lines.drop()
                yield first.damage.unread(file, position)
                continue
            row: list[str] = []
            fault = first.fault or (TORN if first.torn else None)
            if fault is not None:
                lines.drop()
            else:
                row, fault = _row(config, rows, lines, columns)
                if fault is not None:
                    rows = _reader(config, lines)
            if columns is None and fault is None:
                columns = distinct(row)
                continue
            if not row and fault is None:
                continue
            position += 1
            columns = columns or []  # without a readable header no row can be read
            if fault is None and len(row) != len(columns):
                fault = f"not {len(columns)} fields, as there are columns"
            if fault is not None:
                yield Rejected(file.path, position, first.offset, fault, excerpt(first.data))
            else:
                yield Fields(position, first.number, first.offset, dict(zip(columns, row, strict=True)))


def column_names(config: Csv, file: File) -> list[str]:
    """The columns that ``file`` has. Raises Damaged where its header cannot be read."""
    if config.columns is not None:
        return config.columns
    with open_file(file, config.max_compression_ratio) as stream:
        lines = _Lines(read_lines(stream, config.max_document_bytes), config.max_document_bytes)
        first = lines.begin()
        if first is None:
            return []
        if first.damage is not None:
            raise first.damage
        row, fault = _row(config, _reader(config, lines), lines, None)
        if fault is not None:
            raise Damaged(fault)
        return row


class _Lines:
    """The lines of a file as csv.reader takes them; those of the record at hand can be put back.

    A record ends before damage, before a line that cannot be read, and beyond ``limit`` bytes: csv.reader is given no
    more then, and ``cut`` says why a record that goes on is none.
    """

    def __init__(self, lines: Iterator[Line], limit: int):
        self._lines, self._limit = lines, limit
        self._waiting: deque[Line] = deque()
        self._put_back = 0
        self._clear()

    def _clear(self) -> None:
        self.taken: list[Line] = []
        self.cut: str | None = None
        self.fault: str | None = None
        self._size = 0

    def begin(self) -> Line | None:
        """The next record's first line, which is not taken yet; None at the end."""
        self._clear()
        if not self._waiting:
            self._waiting.extend(islice(self._lines, 1))
        return self._waiting[0] if self._waiting else None

    def drop(self) -> None:
        self._waiting.popleft()

    def put_back(self) -> None:
        """All lines of the record but its first come again. Raises Damaged if that goes on and on."""
        self._put_back += len(self.taken) - 1
        if self._put_back > _MOST_PUT_BACK:
            raise Damaged("too many quotes that are never closed")
        self._waiting.extendleft(reversed(self.taken[1:]))

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self._waiting.popleft() if self._waiting else next(self._lines, None)
        if line is None or line.damage is not None or line.torn:
            ends = "a quote that is never closed"
        else:
            ends = line.fault or ("longer than max_document_bytes" if self._size > self._limit else None)
        if self.taken and ends:
            self.cut = ends
            self._waiting.extendleft([] if line is None else [line])
            raise StopIteration
        assert line is not None  # ``begin`` has seen it
        self._size += len(line.data)
        data = line.data if self.taken or not line.data.isspace() else b""  # a run of blank lines is one row of none
        self.taken.append(line)
        try:
            text = data.decode()
        except UnicodeDecodeError:
            text, self.fault = data.decode("utf-8", "replace"), "invalid UTF-8"
        return (text.removeprefix(_BOM) if line.number == 1 else text) + "\n"


def _reader(config: Csv, lines: Iterable[str]) -> Iterator[list[str]]:
    quoting = csv.QUOTE_MINIMAL if config.quote else csv.QUOTE_NONE
    return csv.reader(
        lines,
        delimiter=config.delimiter,
        quotechar=config.quote,
        escapechar=config.escape,
        quoting=quoting,
        strict=True,
    )


def _row(
    config: Csv, rows: Iterator[list[str]], lines: _Lines, columns: list[str] | None
) -> tuple[list[str], str | None]:
    """The next row, or why there is none. Lines that a quote took in by mistake are put back."""
    try:
        row, fault = next(rows), lines.fault
    except (csv.Error, StopIteration) as error:
        row, fault = [], lines.fault or f"not valid CSV: {error}"
        if lines.cut:
            fault = lines.fault or lines.cut
            lines.put_back()
        elif len(lines.taken) > 1 and _are_rows(config, lines.taken[1:], columns):
            lines.put_back()
    else:
        if len(lines.taken) > 1 and fault is None and _took_in_rows(config, lines.taken[1:], columns):
            lines.put_back()
            row, fault = [], "a quote that is closed in another row"
    return row, fault


def _took_in_rows(config: Csv, more: list[Line], columns: list[str] | None) -> bool:
    """Whether the lines that a quoted field goes on over, ``more``, are rows: delimiters stand where they do in rows.

    Prose has commas, too, but not the same number in line after line.
    """
    delimiters = len(columns) - 1 if columns else 0
    enough = _EVIDENCE if config.delimiter in " ,.:;" else _EVIDENCE_OF_TABS
    delimiter = config.delimiter.encode()
    return len(more) * delimiters >= enough and all(line.data.count(delimiter) == delimiters for line in more)


def _are_rows(config: Csv, more: list[Line], columns: list[str] | None) -> bool:
    """Whether most of the lines ``more`` are rows by themselves."""
    if columns is None or len(columns) < 2:
        return False
    good = 0
    for line in more:
        with contextlib.suppress(csv.Error, StopIteration):
            good += len(next(_reader(config, [line.data.decode("utf-8", "replace")]))) == len(columns)
    return 2 * good > len(more)
