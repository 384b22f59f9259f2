"""Web archives: WARC, WET and ARC, plain or compressed; one document for each page of HTML and each plain text.

Records of other kinds (requests, metadata, images, redirects, errors) are passed over and counted by kind. A record
that cannot be parsed is rejected, and what is damaged is reported; reading goes on at the next record.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Literal, NamedTuple
from urllib.parse import quote

from pydantic import ByteSize, Field

from pipeline.sources import http
from pipeline.sources.base import (
    Document,
    File,
    FileConfig,
    Flagged,
    Ids,
    PassedOver,
    Record,
    Rejected,
    dump_json,
    excerpt,
    find_files,
)
from pipeline.sources.extract import ExtractionFailed, Extractor
from pipeline.sources.page import looks_like_html
from pipeline.sources.reading import Damaged, bounded, open_file
from pipeline.sources.reading import identity as identity
from pipeline.sources.records import Entry, records

VERSION = 2
_HTML = ("text/html", "application/xhtml+xml")
_TEXT = "text/plain"
_TYPE = re.compile(r"[a-z_]{1,20}")
_LONGEST_ID = 200


class Warc(FileConfig):
    """Documents from web archives. Offsets in quarantine are those in the uncompressed file.

    ``extractor`` makes text of HTML, with ``page_seconds`` of processor time and ``page_memory`` bytes of address space
    for each page; a page beyond them goes to quarantine.
    """

    kind: Annotated[Literal["warc"], Field(description="web archives (WARC), a document per page")] = "warc"
    extractor: Annotated[
        Literal["resiliparse", "trafilatura"], Field(description="library that extracts the text of HTML pages")
    ] = "resiliparse"
    page_seconds: Annotated[
        float,
        Field(gt=0, description="seconds of processor time for one page; a page that needs more goes to quarantine"),
    ] = 10.0
    page_memory: Annotated[
        ByteSize,
        Field(description="memory for one page in bytes of address space; a page that needs more goes to quarantine"),
    ] = ByteSize(2 << 30)


def list_files(config: Warc) -> list[File]:
    return find_files(config)


@bounded
def read(config: Warc, file: File) -> Iterator[Record]:
    ids = Ids(config.name, file)
    position = 0
    with (
        open_file(file, config.max_compression_ratio) as stream,
        Extractor(config.extractor, config.page_seconds, config.page_memory) as extractor,
    ):
        for entry in records(stream, config.max_document_bytes, file.size):
            if isinstance(entry, Damaged):
                yield entry.unread(file, position)
                continue
            position += 1
            yield from _read_entry(config, file, ids, extractor, entry, position)


class _Page(NamedTuple):
    """What a record holds that may become a document, and the marks it has."""

    kind: str
    content: bytes
    charset: str = ""
    codings: tuple[str, ...] = ()
    marks: tuple[str, ...] = ()


def _read_entry(
    config: Warc, file: File, ids: Ids, extractor: Extractor, entry: Entry, position: int
) -> Iterator[Record]:
    def reject(reason: str) -> Rejected:
        return Rejected(file.path, position, entry.offset, reason, excerpt(entry.content))

    if entry.fault is not None:
        yield reject(entry.fault)
        return
    page = _page(entry)
    if page is None:
        yield reject("not an HTTP response")
    elif page.kind not in ("html", "text"):
        yield PassedOver(file.path, position, entry.offset, page.kind, excerpt(entry.content), len(entry.content))
    else:
        marks = [*page.marks, *(["wrong Content-Length"] if entry.mended else [])]
        try:
            if entry.fields["warc-type"] == "conversion":
                text = page.content.decode()
            else:
                text = extractor.text(page.content, page.charset, page.codings, page.kind)
        except UnicodeDecodeError:
            yield reject("invalid UTF-8")
            return
        except ExtractionFailed as error:
            yield reject(str(error))
            return
        for mark in marks:
            yield Flagged(file.path, position, entry.offset, mark)
        yield _document(config, ids, entry, text, position, marks)


def _document(config: Warc, ids: Ids, entry: Entry, text: str, position: int, marks: list[str]) -> Document:
    own = entry.fields.get("warc-record-id", "").strip("<>").removeprefix("urn:uuid:")
    usable = 0 < len(own) <= _LONGEST_ID and own.isprintable()
    identifier, _ = ids.take(own if usable else None, position)
    metadata: dict[str, object] = {"date": entry.fields.get("warc-date")}
    if marks:
        metadata["flags"] = marks
    return Document(identifier, text, config.name, config.domain or config.name, _url(entry), dump_json(metadata))


def _url(entry: Entry) -> str | None:
    """The target of the record, blanks and control characters in it percent-encoded; None if it has none."""
    url = entry.fields.get("warc-target-uri", "").removeprefix("<").removesuffix(">")
    return "".join(char if char.isprintable() and char != " " else quote(char) for char in url) or None


def _page(entry: Entry) -> _Page | None:
    """The page or text in a record, or the kind of what it is instead; None for a response that is none of HTTP."""
    fields = entry.fields
    record_type = fields.get("warc-type", "").lower()
    stated, charset = http.media_type(fields.get("content-type", ""))
    cut = ("truncated page",) if fields.get("warc-truncated") or fields.get("warc-segment-number") else ()
    if record_type == "conversion":
        return _Page("text" if stated.startswith("text/") or not stated else stated, entry.content, marks=cut)
    if record_type == "resource":
        return _Page(_kind(stated, entry.content), entry.content, charset, marks=cut)
    if record_type != "response":
        return _Page(record_type if _TYPE.fullmatch(record_type) else "unknown record type", b"")
    response = http.parse(entry.content)
    if response is None:
        url = fields.get("warc-target-uri", "").removeprefix("<").lower()
        if stated == "application/http" or url.startswith(("http:", "https:")) or not entry.content:
            return None if entry.content else _Page("empty response", b"")
        return _Page(_kind(stated, entry.content), entry.content, charset, marks=cut)
    if not 200 <= response.status < 300:
        return _Page(f"HTTP {response.status}", b"")
    stated, charset = http.media_type(response.fields.get("content-type", ""))
    if response.status == 206:
        cut = (*cut, "partial page (HTTP 206)")
    return _Page(_kind(stated, response.body), response.body, charset, tuple(response.codings), cut)


def _kind(stated: str, content: bytes) -> str:
    """``html`` or ``text``, or what else it is."""
    if stated in _HTML or (not stated and looks_like_html(content)):
        return "html"
    return "text" if stated == _TEXT else stated or "no content type"
