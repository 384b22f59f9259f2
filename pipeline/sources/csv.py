"""CSV and TSV, plain or compressed (.gz, .zst): one document a row (RFC 4180; any delimiter, quotes or none)."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from pipeline.sources.base import (
    Document,
    File,
    FileConfig,
    Ids,
    RecordConfig,
    Rejected,
    excerpt,
    find_files,
    to_document,
)
from pipeline.sources.reading import Line, open_file, read_lines
from pipeline.sources.reading import identity as identity

VERSION = 1
_BOM = "\ufeff"


class Csv(FileConfig, RecordConfig):
    r"""Documents from tables as text. The first row names the columns, unless ``columns`` does.

    ``delimiter: "\t"`` with ``quote: null`` reads tab-separated values in which quotes are ordinary characters.
    """

    kind: Literal["csv"] = "csv"
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] = ","
    quote: Annotated[str, Field(min_length=1, max_length=1)] | None = '"'
    columns: Annotated[list[str], Field(min_length=1)] | None = None


def list_files(config: Csv) -> list[File]:
    return find_files(config)


def read(config: Csv, file: File) -> Iterator[Document | Rejected]:
    ids = Ids(config.name, file)
    columns = config.columns
    position = 0
    with open_file(file, config.max_compression_ratio) as stream:
        lines = _Lines(read_lines(stream, config.max_document_bytes))
        for row in _rows(config, lines):
            if columns is None and lines.fault is None:
                columns = row
                continue
            if not row and lines.fault is None:
                continue
            position += 1
            columns = columns or []  # without a readable header no row can be read
            if lines.fault is None and len(row) != len(columns):
                lines.fault = f"not {len(columns)} fields, as there are columns"
            if lines.fault is not None:
                yield Rejected(file.path, position, lines.offset, lines.fault, excerpt(lines.start))
            else:
                record = dict(zip(columns, row, strict=True))
                yield to_document(config, file, ids, record, position, lines.offset)


class _Lines:
    """The decoded lines of a file, and of those taken since ``begin`` the first one's place and the first fault."""

    def __init__(self, lines: Iterator[Line]):
        self._lines = lines
        self.begin()

    def begin(self) -> None:
        self.offset: int | None = None
        self.start = ""
        self.fault: str | None = None

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        number, offset, data, fault = next(self._lines)
        try:
            text = "" if fault else data.decode()
        except UnicodeDecodeError:
            text, fault = data.decode("utf-8", "replace"), "invalid UTF-8"
        if number == 1:
            text = text.removeprefix(_BOM)
        if self.offset is None:
            self.offset, self.start = offset, text[:1000]
        self.fault = self.fault or fault
        return text + "\n"


def _rows(config: Csv, lines: _Lines) -> Iterator[list[str]]:
    """Rows of fields; [] for a blank line, and where ``lines.fault`` says why there is none."""
    csv.field_size_limit(max(csv.field_size_limit(), int(config.max_document_bytes)))  # else 128 KiB
    quoting = csv.QUOTE_MINIMAL if config.quote else csv.QUOTE_NONE
    reader = csv.reader(lines, delimiter=config.delimiter, quotechar=config.quote, quoting=quoting, strict=True)
    while True:
        lines.begin()
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            lines.fault = lines.fault or f"not valid CSV: {error}"
            row = []
        yield row
