"""Web archives: WARC, WET and ARC, plain or compressed; one document for each page of HTML or each converted text.

Records of other kinds (requests, metadata, images, redirects, errors) are passed over. A record that cannot be parsed
is rejected, and reading goes on at the next line that can begin a record.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import ByteSize, Field
from warcio.bufferedreaders import ChunkedDataReader
from warcio.exceptions import ArchiveLoadFailed
from warcio.recordloader import ArcWarcRecord, ArcWarcRecordLoader
from warcio.statusandheaders import StatusAndHeadersParserException

from pipeline.sources.base import Document, File, FileConfig, Ids, Rejected, dump_json, excerpt, find_files
from pipeline.sources.extract import ExtractionFailed, Extractor
from pipeline.sources.reading import Damaged, open_file
from pipeline.sources.reading import identity as identity

VERSION = 1
_LINE = 1 << 20
_HTML = ("text/html", "application/xhtml+xml")
#: What begins a record: a WARC version, or the five fields of ARC version 1.
_START = re.compile(rb"WARC/\d|[a-z]+:\S+ [\d.]+ \d{14} \S+ \d+\s*$")


class Warc(FileConfig):
    """Documents from web archives. Offsets in quarantine are those in the uncompressed file.

    ``extractor`` makes text of HTML, with ``page_seconds`` of processor time and ``page_memory`` bytes of address space
    for each page; a page beyond them goes to quarantine.
    """

    kind: Literal["warc"] = "warc"
    extractor: Literal["resiliparse", "trafilatura"] = "resiliparse"
    page_seconds: Annotated[float, Field(gt=0)] = 10.0
    page_memory: ByteSize = ByteSize(2 << 30)


def list_files(config: Warc) -> list[File]:
    return find_files(config)


class _Entry(NamedTuple):
    """A record: its place, and either what it holds or the fault that it has."""

    offset: int
    own_id: str | None = None
    headers: Any = None
    http: Any = None
    content: bytes = b""
    fault: str | None = None


def read(config: Warc, file: File) -> Iterator[Document | Rejected]:
    ids = Ids(config.name, file)
    with (
        open_file(file, config.max_compression_ratio) as stream,
        Extractor(config.extractor, config.page_seconds, config.page_memory) as extractor,
    ):
        for position, entry in enumerate(_entries(stream, config.max_document_bytes), 1):
            fault, text = entry.fault, ""
            if fault is None:
                kind, charset, compression = _content_type(entry)
                if kind is None:
                    continue
                try:
                    text = (
                        entry.content.decode()
                        if kind == "text"
                        else extractor.text(entry.content, charset, compression)
                    )
                except (ExtractionFailed, UnicodeDecodeError) as error:
                    fault = "invalid UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
            if fault is not None:
                yield Rejected(file.path, position, entry.offset, fault, excerpt(entry.content))
            else:
                yield _document(config, ids, entry, text, position)


def _document(config: Warc, ids: Ids, entry: _Entry, text: str, position: int) -> Document:
    identifier, _ = ids.take(entry.own_id, position)
    metadata = {"date": entry.headers.get_header("WARC-Date")}
    url = entry.headers.get_header("WARC-Target-URI")
    return Document(identifier, text, config.name, config.domain or config.name, url, dump_json(metadata))


def _content_type(entry: _Entry) -> tuple[str | None, str, str]:
    """``text`` or ``html`` (None: not a document), and the character set and content encoding claimed for it."""
    record_type = entry.headers.get_header("WARC-Type")
    compression = ""
    if record_type == "conversion":
        return "text", "", ""
    if record_type == "response" and entry.http is not None:
        stated = entry.http.get_header("Content-Type") or ""
        compression = (entry.http.get_header("Content-Encoding") or "").strip().lower()
        good = (entry.http.get_statuscode() or "").startswith("2")
    else:
        stated = entry.headers.get_header("Content-Type") or ""
        good = record_type == "resource"
    kind, _, parameters = stated.partition(";")
    charset = re.search(r"charset=[\"']?([\w.:-]+)", parameters)
    is_page = good and kind.strip().lower() in _HTML
    return "html" if is_page else None, charset[1] if charset else "", compression


def _entries(raw: io.BufferedReader, limit: int) -> Iterator[_Entry]:
    """All records of an archive in order; damage of the file is the last of them."""
    loader = ArcWarcRecordLoader()
    stream = _Lines(raw)
    offset = 0
    try:
        line = _next_line(stream)
        while line:
            offset = stream.tell() - len(line)
            try:
                record = loader.parse_record_stream(stream, line)
                if record.rec_type != "warcinfo" and not _length(record).isdecimal():
                    raise ArchiveLoadFailed("no length")
                own = record.rec_headers.get_header("WARC-Record-ID") if line.startswith(b"WARC/") else None
                own = (own or "").strip("<>").removeprefix("urn:uuid:")  # of ARC the loader makes a random one
                entry = _load(record, limit)._replace(offset=offset, own_id=own or None)
                next_line = _next_line
            except (ArchiveLoadFailed, StatusAndHeadersParserException, EOFError, ValueError) as error:
                if isinstance(error, Damaged):
                    raise
                entry = _Entry(offset, content=line, fault="not a WARC or ARC record")
                next_line = _next_start
            yield entry
            offset = stream.tell()
            line = next_line(stream)
    except Damaged as error:
        yield _Entry(offset, fault=str(error))


def _length(record: ArcWarcRecord) -> str:
    return record.rec_headers.get_header("Content-Length") or ""


def _load(record: ArcWarcRecord, limit: int) -> _Entry:
    """The content of ``record`` without its transfer encoding; the stream stands behind it then."""
    content, body = bytearray(), record.raw_stream
    if record.http_headers and record.http_headers.get_header("Transfer-Encoding") == "chunked":
        body = ChunkedDataReader(body)
    while len(content) <= limit and (block := body.read(min(_LINE, limit + 1 - len(content)))):
        content += block
    while record.raw_stream.read(_LINE):
        pass
    fault = "longer than max_document_bytes" if len(content) > limit else None
    if getattr(record.raw_stream, "limit", 0):
        fault = "the file ends in mid record"
    return _Entry(0, None, record.rec_headers, record.http_headers, bytes(content), fault)


class _Lines:
    """``stream`` with lines of bounded length, as the record loader takes it."""

    def __init__(self, stream: io.BufferedReader):
        self._stream = stream
        self.read, self.tell = stream.read, stream.tell

    def readline(self, length: int | None = None) -> bytes:
        return self._stream.readline(_LINE if length is None else min(length, _LINE))


def _next_line(stream: _Lines) -> bytes:
    """The next line that is not blank; b"" at the end."""
    while (line := stream.readline()) and not line.strip():
        pass
    return line


def _next_start(stream: _Lines) -> bytes:
    """The next line that can begin a record; b"" if there is none."""
    while (line := stream.readline()) and not _START.match(line):
        pass
    return line
