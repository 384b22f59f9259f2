r"""JSON lines, plain or compressed (.gz, .zst): one object a line, lines ending at ``\n`` only."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import orjson

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
from pipeline.sources.reading import identity as identity
from pipeline.sources.reading import open_file, read_lines

VERSION = 1
_BOM = b"\xef\xbb\xbf"


class Jsonl(FileConfig, RecordConfig):
    """Documents from JSON lines. Blank lines are passed over; numbers of records are numbers of lines."""

    kind: Literal["jsonl"] = "jsonl"


def list_files(config: Jsonl) -> list[File]:
    return find_files(config)


def read(config: Jsonl, file: File) -> Iterator[Document | Rejected]:
    ids = Ids(config.name, file)
    with open_file(file, config.max_compression_ratio) as stream:
        for number, offset, data, fault in read_lines(stream, config.max_document_bytes):
            if number == 1:
                data = data.removeprefix(_BOM)
            if not fault and not data.strip():
                continue
            try:
                record = None if fault else orjson.loads(data)
            except orjson.JSONDecodeError as error:
                fault = _reason(data, error)
            if fault is None and not isinstance(record, dict):
                fault = f"a JSON {type(record).__name__}, not an object"
            if fault is not None:
                yield Rejected(file.path, number, offset, fault, excerpt(data))
            else:
                yield to_document(config, file, ids, record, number, offset, data)  # type: ignore[arg-type]


def _reason(data: bytes, error: orjson.JSONDecodeError) -> str:
    try:
        data.decode()
    except UnicodeDecodeError:
        return "invalid UTF-8"
    return f"invalid JSON: {error.msg}"
