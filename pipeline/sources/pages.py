"""What the pages of a Parquet column state, read before anything is read or decompressed.

pyarrow allocates what a page's header states, and a damaged one may state gigabytes. Headers are thrift structs in the
compact protocol (parquet.thrift, `PageHeader`): https://github.com/apache/parquet-format, and
https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md.
"""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, Any, NamedTuple

from pipeline.sources.reading import EXPANDS, FREE, Damaged

if TYPE_CHECKING:
    import pyarrow.parquet as pq

DICTIONARY = 2
_KINDS = range(4)
#: Bytes read at first for a header, and the most that one may have (it may hold long values as its statistics).
_HEADER, _LARGEST = 256, 1 << 24
_DEEPEST = 8
#: Writers before parquet-mr 1.2.9 leave this many bytes out of the size of a column (PARQUET-816).
_MISSING = 100
_TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _LIST, _SET, _STRUCT = 1, 2, 3, 7, 8, 9, 10, 12
_NUMBERS = (4, 5, 6)


class Page(NamedTuple):
    """``expanded`` and ``stored`` are the sizes of its content in bytes, ``values`` how many it holds."""

    kind: int
    expanded: int
    stored: int
    values: int


def check(handle: IO[bytes], column: pq.ColumnChunkMetaData, max_ratio: float) -> int:
    """Bytes of the values that rows of ``column`` repeat by number, its dictionary; 0 if it has none.

    Raises Damaged for pages that lie beyond the column, hold more values than it, or expand beyond ``max_ratio``.
    """
    dictionary = values = 0
    at = start(column)
    end = at + column.total_compressed_size + _MISSING
    while values < column.num_values:
        page, at = _page(handle, at)
        at += page.stored
        if page.kind not in _KINDS or min(page) < 0 or at > end:
            raise Damaged("the file is damaged")
        if page.expanded > FREE + max_ratio * page.stored:
            raise Damaged(EXPANDS)
        if page.kind == DICTIONARY:
            dictionary = max(dictionary, page.expanded)
        else:
            values += page.values
    if values > column.num_values:
        raise Damaged("the file is damaged")
    return dictionary


def start(column: pq.ColumnChunkMetaData) -> int:
    """Where the first page of ``column`` begins."""
    starts = (column.dictionary_page_offset or 0, column.data_page_offset)
    return min(start for start in starts if start > 0)


def _page(handle: IO[bytes], at: int) -> tuple[Page, int]:
    """The page whose header begins at ``at``, and where its content begins."""
    size = _HEADER
    while True:
        handle.seek(at)
        header = handle.read(size)
        try:
            fields, length = _struct(header, 0)
        except IndexError:
            if len(header) < size or size >= _LARGEST:
                raise Damaged("the file is damaged") from None
            size <<= 4
            continue
        about = next((fields[number] for number in (5, 7, 8) if isinstance(fields.get(number), dict)), {})
        stated = [fields.get(number) for number in (1, 2, 3)]
        if not all(isinstance(number, int) for number in stated):
            raise Damaged("the file is damaged")
        values = about.get(1, 0)
        return Page(*stated, values if isinstance(values, int) else -1), at + length  # type: ignore[arg-type]


def _struct(data: bytes, at: int, depth: int = 0) -> tuple[dict[int, Any], int]:
    """The numbers and structs of the struct at ``at`` by their fields, and where it ends. Raises IndexError beyond."""
    if depth > _DEEPEST:
        raise Damaged("the file is damaged")
    fields: dict[int, Any] = {}
    number = 0
    while (head := data[at]) != 0:
        at += 1
        if head >> 4:
            number += head >> 4
        else:
            number, at = _number(data, at)
        fields[number], at = _value(data, at, head & 15, depth)
    return fields, at + 1


def _value(data: bytes, at: int, kind: int, depth: int) -> tuple[Any, int]:
    if kind in (_TRUE, _FALSE):
        return None, at
    if kind in _NUMBERS:
        return _number(data, at)
    if kind == _STRUCT:
        return _struct(data, at, depth + 1)
    if kind in (_BYTE, _DOUBLE):
        return None, at + (1 if kind == _BYTE else 8)
    if kind == _BINARY:
        length, at = _unsigned(data, at)
        return None, at + length
    if kind not in (_LIST, _SET) or depth > _DEEPEST:
        raise Damaged("the file is damaged")
    head, at = data[at], at + 1
    count = head >> 4
    if count == 15:
        count, at = _unsigned(data, at)
    for _ in range(count):
        _, at = (None, at + 1) if head & 15 in (_TRUE, _FALSE) else _value(data, at, head & 15, depth + 1)
        _ = data[at - 1]  # raises IndexError, so that no count of its own makes this long
    return None, at


def _number(data: bytes, at: int) -> tuple[int, int]:
    raw, at = _unsigned(data, at)
    return raw >> 1 ^ -(raw & 1), at


def _unsigned(data: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while shift < 70:
        byte, at = data[at], at + 1
        number, shift = number | (byte & 0x7F) << shift, shift + 7
        if byte < 0x80:
            return number, at
    raise Damaged("the file is damaged")
