"""What the footer of a Parquet file states of its columns, looked at before pyarrow is asked.

Where that contradicts the schema, pyarrow ends the whole process (26.0.1: what C++ raises as a column's metadata are
made goes through code that expects nothing to be raised). The metadata are ``FileMetaData`` of parquet.thrift:
https://github.com/apache/parquet-format.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from pipeline.sources import thrift
from pipeline.sources.reading import Damaged

if TYPE_CHECKING:
    import pyarrow.parquet as pq

_ROW_GROUPS, _COLUMNS = 4, 1
_META_DATA, _ENCRYPTION, _BY_COLUMN_KEY, _SIZES = 3, 8, 2, 16
_BYTES, _REPETITIONS, _DEFINITIONS = 1, 2, 3
_CONTRADICTS = "the file is damaged: its footer contradicts itself"


class _Leaf(NamedTuple):
    """What the schema says of a column: its levels, and whether its values are bytes of any length."""

    repetitions: int
    definitions: int
    bytes: bool


def check(handle: IO[bytes], opened: pq.ParquetFile) -> None:
    """Raise Damaged unless pyarrow can make the metadata of every column of the file ``opened`` of ``handle``."""
    columns = (opened.schema.column(number) for number in range(len(opened.schema)))
    leaves = [
        _Leaf(each.max_repetition_level, each.max_definition_level, each.physical_type == "BYTE_ARRAY")
        for each in columns
    ]
    handle.seek(-8, 2)
    length = int.from_bytes(handle.read(4), "little")
    handle.seek(-8 - length, 2)
    data = handle.read(length)

    def group(at: int) -> int:
        rest = iter(leaves)
        return _each(data, at, _COLUMNS, lambda at: _check_column(data, at, next(rest, None)))

    try:
        _each(data, 0, _ROW_GROUPS, group)
    except IndexError as error:
        raise Damaged("the file is damaged: its footer ends too early") from error


def _each(data: bytes, at: int, wanted: int, end_of: Callable[[int], int]) -> int:
    """Where the struct at ``at`` ends; ``end_of`` is asked for each struct of its list ``wanted``."""
    number = 0
    while (head := data[at]) != 0:
        number, at = thrift.field(data, at, number)
        if number != wanted or head & 15 != thrift.LIST:
            at = thrift.value(data, at, head & 15, 0)[1]
            continue
        count, kind, at = thrift.listed(data, at)
        if count and kind != thrift.STRUCT:
            raise Damaged(_CONTRADICTS)
        for _ in range(count):
            at = end_of(at)
    return at + 1


def _check_column(data: bytes, at: int, leaf: _Leaf | None) -> int:
    """Where the metadata of a column end that begin at ``at``; ``leaf`` is None for one that the schema has not."""
    if leaf is None:
        raise Damaged(_CONTRADICTS)
    column, at = thrift.struct(data, at)
    if _BY_COLUMN_KEY in _inner(column, _ENCRYPTION):
        raise Damaged("columns of it are encrypted, which are not read")
    sizes = _inner(_inner(column, _META_DATA), _SIZES)
    stated = sizes.get(_REPETITIONS) or 0, sizes.get(_DEFINITIONS) or 0
    if stated[0] not in (0, leaf.repetitions + 1) or stated[1] not in (0, leaf.definitions + 1):
        raise Damaged(_CONTRADICTS)
    if _BYTES in sizes and not leaf.bytes:
        raise Damaged(_CONTRADICTS)
    return at


def _inner(fields: dict[int, Any], number: int) -> dict[int, Any]:
    return value if isinstance(value := fields.get(number), dict) else {}
