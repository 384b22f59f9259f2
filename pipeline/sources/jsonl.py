r"""JSON lines, plain or compressed (.gz, .zst, .bz2, .xz): one object a line, lines ending at ``\n`` only.

NaN and the infinities, as Python and pandas write them, are read as null; integers of any size keep their digits.
Of a key that an object has twice the last value counts, as in Python and JavaScript.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import orjson
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
    kind_of,
    to_document,
)
from pipeline.sources.reading import TORN, bounded, open_file, read_lines
from pipeline.sources.reading import identity as identity

VERSION = 2
_BOM = b"\xef\xbb\xbf"
_NOT_A_NUMBER = re.compile(rb"NaN|Infinity")
_LARGEST = 4000  # digits; Python converts no more than 4,300


class Jsonl(FileConfig, RecordConfig):
    """Documents from JSON lines. Blank lines are passed over; numbers of records are numbers of lines."""

    kind: Annotated[Literal["jsonl"], Field(description="JSON lines, a document per line")] = "jsonl"


def list_files(config: Jsonl) -> list[File]:
    return find_files(config)


@bounded
def read(config: Jsonl, file: File) -> Iterator[Record]:
    ids = Ids(config.name, file)
    for record in records(config, file):
        if isinstance(record, Fields):
            yield to_document(config, file, ids, record.values, record.record, record.offset, record.raw)
        else:
            yield record


def records(config: Jsonl, file: File) -> Iterator[Fields | Rejected | Unread]:
    """The objects of ``file``, and what is none. Raises Damaged, and what a parser raises."""
    with open_file(file, config.max_compression_ratio) as stream:
        for number, offset, data, fault, damage, torn in read_lines(stream, config.max_document_bytes):
            if damage is not None:
                yield damage.unread(file, number)
                continue
            if number == 1:
                data = data.removeprefix(_BOM)
            if not fault and not data.strip():
                continue
            record, fault = (None, fault) if fault else _parse(data)
            if fault is not None:
                remedy = "`jq -c '.[]'` makes JSON lines of a list" if fault.startswith("a list") else ""
                yield Rejected(file.path, number, offset, TORN if torn else fault, excerpt(data), remedy=remedy)
            else:
                yield Fields(number, number, offset, record or {}, data)


def _parse(data: bytes) -> tuple[dict[str, Any] | None, str | None]:
    """The object in ``data``, or why there is none."""
    try:
        record = orjson.loads(data)
        exact = not _holds_large_numbers(record)
        reason = "nested too deeply"
    except orjson.JSONDecodeError as error:
        record, exact, reason = None, False, _reason(data, error)
        if not _NOT_A_NUMBER.search(data):
            return None, reason
    if not exact:
        try:
            record = _exact(data)
        except (ValueError, RecursionError):
            return None, reason
    return (record, None) if isinstance(record, dict) else (None, f"{kind_of(record)}, not an object")


def _holds_large_numbers(value: Any) -> bool:
    """Whether a number in ``value`` is beyond 64 bits: orjson makes floats of such integers."""
    waiting = [value]
    while waiting:
        value = waiting.pop()
        kind = type(value)
        if kind is float and abs(value) >= 2**63:
            return True
        if kind is dict or kind is list:
            waiting.extend(value.values() if kind is dict else value)
    return False


def _exact(data: bytes) -> Any:
    return json.loads(
        data.decode(),
        parse_constant=lambda _name: None,
        parse_int=lambda digits: int(digits) if len(digits) < _LARGEST else digits,
    )


def _reason(data: bytes, error: orjson.JSONDecodeError) -> str:
    try:
        data.decode()
    except UnicodeDecodeError:
        return "invalid UTF-8"
    return f"invalid JSON: {error.msg}"
