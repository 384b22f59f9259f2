"""What a web server answered, as archives keep it: status and headers, and the body without its transfer encoding."""

from __future__ import annotations

import re
from typing import NamedTuple

from pipeline.sources.records import parse_fields

_HEAD = 1 << 20
_STATUS = re.compile(rb"HTTP/\d(?:\.\d)?[ \t]+(\d{3})\b", re.IGNORECASE)
_BLANK = re.compile(rb"\r?\n\r?\n")
_CHUNK = re.compile(rb"[ \t]*([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n]{0,4096})?\r?\n")
_LINE_END = re.compile(rb"\r?\n|\r")
_CHARSET = re.compile(r"""charset\s*+=\s*+(?:["']\s*+)?+([\w.:()+-]{1,40})""", re.IGNORECASE)
_MIME = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,60}/[a-z0-9!#$&^_.+-]{1,60}")


class Response(NamedTuple):
    """``codings``: those to undo of the body, the last applied first (``gzip``, ``br``, ...)."""

    status: int
    fields: dict[str, str]
    body: bytes
    codings: list[str]


def parse(data: bytes) -> Response | None:
    """The response in ``data``; None if it begins with no status line of HTTP (any version)."""
    status = _STATUS.match(data)
    if status is None:
        return None
    blank = _BLANK.search(data, 0, _HEAD)
    head, body = (data[: blank.start()], data[blank.end() :]) if blank else (data[:_HEAD], b"")
    fields = parse_fields(head.partition(b"\n")[2])
    transfer = _listed(fields.get("transfer-encoding", ""))
    if "chunked" in transfer:
        body = unchunked(body)
    codings = _listed(fields.get("content-encoding", "")) + [coding for coding in transfer if coding != "chunked"]
    return Response(int(status[1]), fields, body, codings[::-1])


def _listed(value: str) -> list[str]:
    return [part.strip().lower() for part in value.split(",") if part.strip()][:8]


def unchunked(data: bytes) -> bytes:
    """``data`` without chunk sizes, extensions and trailers; from the first chunk on that is none, as it is."""
    out, at = bytearray(), 0
    while chunk := _CHUNK.match(data, at):
        size = int(chunk[1], 16)
        if size == 0:
            return bytes(out)
        at = chunk.end() + size
        out += data[chunk.end() : at]
        if at >= len(data):
            return bytes(out)
        end = _LINE_END.match(data, at)
        at = end.end() if end else at
    return bytes(out + data[at:])


def media_type(stated: str) -> tuple[str, str]:
    """The media type in lower case ("" for none, ``other`` for what is no such thing), and its character set or ""."""
    kind, _, parameters = stated.partition(";")
    charset = _CHARSET.search(parameters)
    kind = kind.strip().lower()
    return kind if not kind or _MIME.fullmatch(kind) else "other", charset[1] if charset else ""
