"""Thrift's compact protocol, as far as the metadata of Parquet need it: numbers, structs, and how long lists are.

https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

from __future__ import annotations

from typing import Any

from pipeline.sources.reading import Damaged

LIST, STRUCT = 9, 12
_DEEPEST = 8
_TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _SET = 1, 2, 3, 7, 8, 10
_NUMBERS = (4, 5, 6)


def struct(data: bytes, at: int, depth: int = 0) -> tuple[dict[int, Any], int]:
    """The fields of the struct at ``at``, numbers, structs, and of lists how many entries they have; and where it ends.

    Raises IndexError beyond the data.
    """
    if depth > _DEEPEST:
        raise Damaged("the file is damaged")
    fields: dict[int, Any] = {}
    number = 0
    while (head := data[at]) != 0:
        number, at = field(data, at, number)
        fields[number], at = value(data, at, head & 15, depth)
    return fields, at + 1


def field(data: bytes, at: int, before: int) -> tuple[int, int]:
    """The number of the field of a struct that begins at ``at``, after the field ``before``; where its value begins."""
    if step := data[at] >> 4:
        return before + step, at + 1
    return _number(data, at + 1)


def value(data: bytes, at: int, kind: int, depth: int) -> tuple[Any, int]:
    if kind in (_TRUE, _FALSE):
        return None, at
    if kind in _NUMBERS:
        return _number(data, at)
    if kind == STRUCT:
        return struct(data, at, depth + 1)
    if kind in (_BYTE, _DOUBLE):
        return None, at + (1 if kind == _BYTE else 8)
    if kind == _BINARY:
        length, at = unsigned(data, at)
        return None, at + length
    if kind not in (LIST, _SET) or depth > _DEEPEST:
        raise Damaged("the file is damaged")
    count, of, at = listed(data, at)
    for _ in range(count):
        at = at + 1 if of in (_TRUE, _FALSE) else value(data, at, of, depth + 1)[1]
        _ = data[at - 1]  # raises IndexError, so that no count of its own makes this long
    return count, at


def listed(data: bytes, at: int) -> tuple[int, int, int]:
    """How many entries the list at ``at`` has, of which kind they are, and where the first begins."""
    head, at = data[at], at + 1
    count = head >> 4
    if count == 15:
        count, at = unsigned(data, at)
    return count, head & 15, at


def _number(data: bytes, at: int) -> tuple[int, int]:
    raw, at = unsigned(data, at)
    return raw >> 1 ^ -(raw & 1), at


def unsigned(data: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while shift < 70:
        byte, at = data[at], at + 1
        number, shift = number | (byte & 0x7F) << shift, shift + 7
        if byte < 0x80:
            return number, at
    raise Damaged("the file is damaged")
