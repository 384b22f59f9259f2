"""What the messages of an Arrow IPC file or stream say they expand to, read before anything is decompressed.

pyarrow allocates what a compressed buffer states. The sizes stand in front of the buffers, which the flatbuffers of the
format place (Message.fbs, `Message` and `RecordBatch`): https://arrow.apache.org/docs/format/Columnar.html.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import IO

from pipeline.sources.reading import EXPANDS, FREE, Damaged

_CONTINUES = 0xFFFFFFFF
_DICTIONARY_BATCH, _RECORD_BATCH = 2, 3
#: Metadata of a message is a few bytes a column; and no reader may be made to ask for much more than a file has.
_LARGEST = 1 << 26
_CUT = "the file ends before its end mark"
_MAGIC = b"ARROW1"
#: Zeros that may stand behind the mark of the end.
_PADDING = 64


def check(handle: IO[bytes], max_ratio: float, closed: bool) -> tuple[int, Damaged | None]:
    """The end of the messages, from where ``handle`` stands, that are whole and expand to no more than ``max_ratio``.

    And what is wrong with the next; None if nothing is. ``closed``: the mark of the end must follow the last.
    """
    begin = handle.tell()
    size = handle.seek(0, 2)
    handle.seek(begin)
    good = begin
    try:
        for end, stored, expanded in _sizes(handle, size, closed):
            if expanded > FREE + max_ratio * stored:
                return good, Damaged(EXPANDS, good)
            good = end
    except (struct.error, OverflowError):
        return good, Damaged("the file is damaged", good)
    except Damaged as error:
        return good, Damaged(str(error), good, missing=error.missing)
    return handle.tell(), None


def _sizes(handle: IO[bytes], size: int, closed: bool) -> Iterator[tuple[int, int, int]]:
    """Of each message its end, and the bytes of its body as they are stored, and as they come out.

    ``handle`` stands behind the last one at the end. Raises Damaged.
    """
    while len(word := handle.read(4)) == 4:
        (length,) = struct.unpack("<I", word)
        if length == _CONTINUES:  # older streams have the size alone
            (length,) = struct.unpack("<I", handle.read(4).ljust(4, b"\0"))
        if length == 0:
            _check_end(handle, size, closed)
            return
        if length > _LARGEST:
            raise Damaged("the file is damaged")
        metadata = handle.read(length)
        if len(metadata) < length:
            raise Damaged(_CUT, missing=True)
        stored, buffers = _body(metadata)
        begin, expanded = handle.tell(), 0
        if stored > size - begin + _LARGEST:
            raise Damaged("the file is damaged")
        if begin + stored > size:
            raise Damaged(_CUT, missing=True)
        for offset in buffers:
            handle.seek(begin + offset)
            (length,) = struct.unpack("<q", handle.read(8).ljust(8, b"\0"))
            expanded += max(length, 0)  # -1: stored as it is
        handle.seek(begin + stored)
        yield begin + stored, stored, expanded
    if word or closed:
        raise Damaged(_CUT, missing=True)


def _check_end(handle: IO[bytes], size: int, closed: bool) -> None:
    """Raise Damaged if more stands behind the mark of the end than belongs there: of a file its footer alone.

    What looks like the mark may be where messages were lost, or where another stream was appended.
    """
    begin = handle.tell()
    footer = 0
    if closed:
        handle.seek(max(begin, size - 10))
        length, magic = struct.unpack("<I6s", handle.read(10).ljust(10, b"\0"))
        footer = length + 10 if magic == _MAGIC else size
    padding = size - begin - footer
    handle.seek(begin)
    if not 0 <= padding <= _PADDING or handle.read(padding).strip(b"\0"):
        raise Damaged("what stands behind the mark of the end is not read")
    handle.seek(begin)


def _body(metadata: bytes) -> tuple[int, list[int]]:
    """The size of a message's body, and where in it compressed buffers begin."""

    def read(kind: str, at: int) -> int:
        if at < 0:
            raise struct.error("negative offset")
        return struct.unpack_from(f"<{kind}", metadata, at)[0]

    def field(table: int, number: int) -> int | None:
        layout = table - read("i", table)
        if 4 + 2 * number >= read("H", layout):
            return None
        offset = read("H", layout + 4 + 2 * number)
        return table + offset if offset else None

    def follow(at: int | None) -> int | None:
        return None if at is None else at + read("I", at)

    message = read("I", 0)
    kind, length = field(message, 1), field(message, 3)
    stored = 0 if length is None else read("q", length)
    if stored < 0:
        raise Damaged("the file is damaged")
    batch = follow(field(message, 2))
    name = None if kind is None else read("B", kind)
    if name == _DICTIONARY_BATCH and batch is not None:
        batch = follow(field(batch, 1))
    if name not in (_DICTIONARY_BATCH, _RECORD_BATCH) or batch is None or field(batch, 3) is None:
        return stored, []
    listed = follow(field(batch, 2))
    if listed is None:
        return stored, []
    places = [(read("q", at), read("q", at + 8)) for at in range(listed + 4, listed + 4 + 16 * read("I", listed), 16)]
    if any(offset < 0 or offset + size > stored for offset, size in places):
        raise Damaged("the file is damaged")
    return stored, [offset for offset, size in places if size >= 8]
