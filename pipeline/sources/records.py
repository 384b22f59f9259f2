"""Records of web archives (WARC, WET, ARC) one after another, and reading on behind what is damaged.

A record that does not have the length that it states ends where the next one begins. Lines and headers are of bounded
length, and so is what is read twice to find the next record.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from typing import NamedTuple

from pipeline.sources.reading import Damaged

_LINE = 1 << 16
_HEAD = 1 << 20
_BLOCK = 1 << 20
_WARC = re.compile(rb"WARC/\d")
_ARC = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*:")
_DATE = re.compile(rb"\d{12,14}\Z")
#: What begins a record inside of what should be the content of another: WARC, or the five fields of ARC.
_INSIDE = re.compile(
    rb"(?m)^(?:WARC/\d\.\d+\r?$(?=\n[Ww][Aa][Rr][Cc]-|\nContent-)|[a-z]+:\S+ [\d.]+ \d{14} \S+ \d+\r?$)"
)


class Entry(NamedTuple):
    """A record: its place in the uncompressed file, and what it holds, or the ``fault`` that it has.

    ``fields`` are its headers by their names in lower case; of ARC they are called as in WARC, and ``warc-type`` is
    ``response`` or ``filedesc``. ``mended``: it was shorter or longer than it says.
    """

    offset: int
    fields: dict[str, str]
    content: bytes = b""
    fault: str | None = None
    mended: bool = False


def records(raw: io.BufferedReader, limit: int, size: int) -> Iterator[Entry | Damaged]:
    """All records of an archive of ``size`` bytes in order, and what was not read between them.

    What is longer than ``limit`` bytes is passed over and has a fault.
    """
    stream = _Stream(raw, 8 * size + (64 << 20))
    line, lost = b"", False
    while True:
        entry = damage = None
        try:
            begin = stream.tell()
            if not line:
                line = stream.next_start() if lost else stream.next_line()
            if lost and raw.seekable() and (skipped := stream.tell() - len(line) - begin) > _LINE:
                yield Damaged("no records", begin, skipped)
            if not line:
                return
            entry = _record(stream, line, stream.tell() - len(line), limit)
            lost = entry.fault == _NO_RECORD
            line = b"" if lost else stream.next_line()  # reads on to the checksum of what was read
        except Damaged as error:
            damage, line, lost = error, b"", True
        if damage and not (entry and (damage.missing or entry.offset < (damage.doubtful or 0))):
            yield damage
            continue
        assert entry is not None
        place = None
        if line and not is_start(line) and entry.fault is None:
            place = _INSIDE.search(entry.content, 1)
        if place and stream.push_back(entry.content[place.start() :] + line):
            entry = entry._replace(content=_trimmed(entry.content[: place.start()]), mended=True)
            line = b""
        yield entry
        if damage:
            yield damage


_NO_RECORD = "not a WARC or ARC record"
_TOO_LONG = "longer than max_document_bytes"
_ENDS = "the file ends in mid record"


def is_start(line: bytes) -> bool:
    """Whether ``line`` can begin a record."""
    return _WARC.match(line) is not None or _arc_fields(line) is not None


def parse_fields(lines: bytes) -> dict[str, str]:
    """Headers as ``name: value`` by lower-case name; of several with a name the first, folded lines joined."""
    fields: dict[str, list[str]] = {}
    name = ""
    for line in lines.splitlines():
        if line[:1] in (b" ", b"\t") and name:
            fields[name].append(_text(line))
            continue
        key, colon, value = line.partition(b":")
        if name := _text(key).lower() if colon else "":
            if name in fields:
                name = ""
            else:
                fields[name] = [_text(value)]
    return {name: " ".join(parts) for name, parts in fields.items()}


def _trimmed(content: bytes) -> bytes:
    """Without the two line ends that part records."""
    for _ in range(2):
        content = content.removesuffix(b"\n").removesuffix(b"\r")
    return content


def _text(raw: bytes) -> str:
    raw = raw.strip()
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _record(stream: _Stream, line: bytes, offset: int, limit: int) -> Entry:
    fields = _warc_fields(stream) if _WARC.match(line) else _arc_fields(line)
    length = (fields or {}).get("content-length", "")
    if fields is None or not (length.isascii() and length.isdecimal() and len(length) < 16):
        return Entry(offset, {}, line, _NO_RECORD)
    content = stream.read(min(int(length), limit + 1))
    missing = int(length) - len(content)
    if missing and len(content) <= limit:
        return _ended(stream, Entry(offset, fields, content))
    if missing == 0 and len(content) <= limit:
        return Entry(offset, fields, content)
    if (place := _INSIDE.search(content, 1)) and stream.push_back(content[place.start() :]):
        return Entry(offset, fields, _trimmed(content[: place.start()]), mended=True)
    if stream.skip(missing):
        raise Damaged(_ENDS, missing=True)
    return Entry(offset, fields, content[:1000], _TOO_LONG)


def _ended(stream: _Stream, entry: Entry) -> Entry:
    """A record that the file ends in, or that says so: then another begins in its content. Raises Damaged if not."""
    place = _INSIDE.search(entry.content, 1)
    if place is None or not stream.push_back(entry.content[place.start() :]):
        raise Damaged(_ENDS, missing=True)
    return entry._replace(content=_trimmed(entry.content[: place.start()]), mended=True)


def _warc_fields(stream: _Stream) -> dict[str, str] | None:
    """The headers up to the blank line; None where that does not come."""
    head, size = [], 0
    while (line := stream.readline()).strip():
        head.append(line)
        size += len(line)
        if size > _HEAD or not line.endswith(b"\n"):
            return None
    return parse_fields(b"".join(head)) if line else None


def _arc_fields(line: bytes) -> dict[str, str] | None:
    """Those of an ARC record: url, IP address, date, type, length; in version 2 five more before the length."""
    line = line.strip()
    if not _ARC.match(line):
        return None
    for more in (4, 9):
        parts = line.rsplit(b" ", more)
        if len(parts) == more + 1 and _DATE.match(parts[2]) and parts[-1].isdigit():
            url, _, date, kind = (_text(part) for part in parts[:4])
            date = date.ljust(14, "0")
            day = f"{date[:4]}-{date[4:6]}-{date[6:8]}T{date[8:10]}:{date[10:12]}:{date[12:14]}Z"
            fields = {"warc-type": "filedesc" if url.startswith("filedesc:") else "response", "warc-target-uri": url}
            return {**fields, "warc-date": day, "content-type": kind, "content-length": _text(parts[-1])}
    return None


class _Stream:
    """``stream`` with lines of bounded length, and bytes pushed back into it, at most ``allowed`` in all."""

    def __init__(self, stream: io.BufferedReader, allowed: int):
        self._stream, self._allowed = stream, allowed
        self._ahead, self._at = b"", 0

    def tell(self) -> int:
        return self._stream.tell() - (len(self._ahead) - self._at)

    def push_back(self, data: bytes) -> bool:
        """Whether ``data`` is read once more."""
        self._allowed -= len(data)
        if self._allowed < 0:
            return False
        self._ahead, self._at = data + self._ahead[self._at :], 0
        return True

    def read(self, size: int) -> bytes:
        data = bytearray(self._ahead[self._at : self._at + size])
        self._at += len(data)
        while len(data) < size and (block := self._stream.read(min(_BLOCK, size - len(data)))):
            data += block
        return bytes(data)

    def skip(self, size: int) -> int:
        """How many bytes of ``size`` are not there to be passed over."""
        while size and (block := self.read(min(_BLOCK, size))):
            size -= len(block)
        return size

    def readline(self) -> bytes:
        line = b""
        if self._at < len(self._ahead):
            end = self._ahead.find(b"\n", self._at, self._at + _LINE) + 1
            line = self._ahead[self._at : end or self._at + _LINE]
            self._at += len(line)
            if end or len(line) == _LINE:
                return line
        return line + self._stream.readline(_LINE - len(line))

    def next_line(self) -> bytes:
        """The next line that is not blank; b"" at the end."""
        while (line := self.readline()) and not line.strip():
            pass
        return line

    def next_start(self) -> bytes:
        """The next line that can begin a record; b"" if there is none."""
        while (line := self.readline()) and not is_start(line):
            pass
        return line
