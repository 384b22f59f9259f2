"""Web archives: pages and texts are read, broken records are rejected, and no page can hold up the reading."""

from __future__ import annotations

import gzip
import io
import random
import zlib
from collections.abc import Iterable

import brotli
import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter

from pipeline.sources import warc
from pipeline.sources.base import Document, Rejected
from pipeline.sources.extract import ExtractionFailed, Extractor
from pipeline.sources.warc import Warc

SENTENCES = "The quick brown fox jumps over the lazy dog, and nobody was surprised. " * 4


def page(body: str = "", head: str = "") -> str:
    return f"<html><head>{head}<title>T</title></head><body><article><p>{SENTENCES}{body}</p></article></body></html>"


def archive(records: Iterable[tuple[str, dict[str, str], bytes]], compressed: bool = False) -> bytes:
    """A WARC of ``records``: type, HTTP headers (of a response) and payload."""
    buffer = io.BytesIO()
    writer = WARCWriter(buffer, gzip=compressed)
    for number, (kind, headers, payload) in enumerate(records):
        status = headers.pop("status", "200 OK")
        http = StatusAndHeaders(status, list(headers.items()), "HTTP/1.1") if kind == "response" else None
        own = {"WARC-Record-ID": f"<urn:uuid:{number}>", "WARC-Date": "2026-01-02T03:04:05Z"}
        if kind != "response":
            own["Content-Type"] = headers.get("Content-Type", "text/plain")
        record = writer.create_warc_record(
            f"http://site/{number}", kind, io.BytesIO(payload), len(payload), http_headers=http, warc_headers_dict=own
        )
        writer.write_record(record)
    return buffer.getvalue()


def read(data: bytes, name: str = "a.warc", **fields) -> list[Document | Rejected]:
    fsspec.filesystem("memory").pipe(f"/warc/{name}", data)
    config = Warc.model_validate({"name": "w", "path": f"memory://warc/{name}", **fields})
    (file,) = warc.list_files(config)
    return list(warc.read(config, file))


def texts(found: list[Document | Rejected]) -> list[str]:
    return [row.text for row in found if isinstance(row, Document)]


def rejected(found: list[Document | Rejected]) -> list[tuple[int, int | None, str]]:
    return [(row.record, row.offset, row.reason) for row in found if isinstance(row, Rejected)]


HTML = {"Content-Type": "text/html"}


def pages(count: int) -> list[tuple[str, dict[str, str], bytes]]:
    return [("response", dict(HTML), page(f"Page number {number}.").encode()) for number in range(count)]


@pytest.mark.parametrize("library", ["resiliparse", "trafilatura"])
@pytest.mark.parametrize("name", ["a.warc", "a.warc.gz", "one-member.warc.gz"])
def test_every_page_becomes_a_document(library, name):
    if library == "trafilatura":
        pytest.importorskip("lxml_html_clean", reason="trafilatura cannot be imported without it")
    data = archive(pages(3), compressed=name == "a.warc.gz")
    found = read(gzip.compress(data) if name == "one-member.warc.gz" else data, name, extractor=library, domain="d")
    assert [(row.id, row.url, row.domain, row.metadata) for row in found if isinstance(row, Document)] == [
        (f"w/{name}#{number}", f"http://site/{number}", "d", '{"date":"2026-01-02T03:04:05Z"}') for number in range(3)
    ]
    for number, text in enumerate(texts(found)):
        assert text.strip() == f"{SENTENCES}Page number {number}."


def test_only_good_pages_and_converted_texts_are_documents():
    body = page().encode()
    found = read(
        archive(
            [
                ("response", {"Content-Type": "image/png"}, b"\x89PNG"),
                ("response", {"Content-Type": "text/html", "status": "404 Not Found"}, body),
                ("response", {"Content-Type": "text/html", "status": "301 Moved"}, body),
                ("metadata", {}, b"a: b"),
                ("resource", {"Content-Type": "text/html"}, body),
                ("resource", {"Content-Type": "text/plain"}, body),
                ("conversion", {}, "Grüße\u2028\u0085 aus dem WET\0".encode()),
                ("conversion", {}, b""),
                ("response", {"Content-Type": "application/XHTML+xml; charset=x"}, body),
            ]
        )
    )
    assert [row.id for row in found if isinstance(row, Document)] == [
        "w/a.warc#4",
        "w/a.warc#6",
        "w/a.warc#7",
        "w/a.warc#8",
    ]
    assert texts(found)[1:3] == ["Grüße\u2028\u0085 aus dem WET\0", ""]


@pytest.mark.parametrize(
    ("charset", "head"),
    [
        ("; charset=iso-8859-2", ""),
        ("", '<meta charset="iso-8859-2">'),
        ("; charset=utf-8", '<meta charset="iso-8859-2">'),
        ("; charset=no-such-thing", '<meta charset="iso-8859-2">'),
    ],
)
def test_the_character_set_is_what_the_server_says_or_else_the_page(charset, head):
    (found,) = texts(
        read(archive([("response", {"Content-Type": f"text/html{charset}"}, page("Łódź", head).encode("iso-8859-2"))]))
    )
    assert found.strip().endswith("Łódź")


@pytest.mark.parametrize("compression", ["gzip", "deflate", "br", "unknown"])
@pytest.mark.parametrize("honest", [True, False])
def test_pages_are_decompressed_where_they_are_compressed(compression, honest):
    compress = {"gzip": gzip.compress, "deflate": zlib.compress, "br": brotli.compress, "unknown": bytes}[compression]
    body = page("End.").encode()
    headers = {"Content-Type": "text/html", "Content-Encoding": compression}
    (found,) = texts(read(archive([("response", headers, compress(body) if honest else body)])))
    assert found.strip().endswith("End.")


def test_chunked_transfer_is_undone():
    body = page("End.").encode()
    chunked = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:100], body[100:])) + b"0\r\n\r\n"
    (found,) = texts(read(archive([("response", {"Transfer-Encoding": "chunked", **HTML}, chunked)])))
    assert found.strip().endswith("End.")


def test_arc_files_are_read_and_their_ids_do_not_change():
    http = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n" + page().encode()
    head = b"1 1 Someone\nURL IP-address Archive-date Content-type Archive-length\n"
    records = b"filedesc://a.arc 0.0.0.0 20260102030405 text/plain %d\n%s\n" % (len(head), head)
    for number in range(2):
        records += b"http://site/%d 1.2.3.4 20260102030405 text/html %d\n%s\n" % (number, len(http), http)
    found = read(records, "a.arc")
    assert [(row.id, row.url) for row in found if isinstance(row, Document)] == [
        ("w/a.arc#2", "http://site/0"),
        ("w/a.arc#3", "http://site/1"),
    ]
    assert read(gzip.compress(records), "a.arc.gz")[0].id == "w/a.arc.gz#2"  # type: ignore[union-attr]


def test_after_a_broken_record_reading_goes_on():
    whole = archive(pages(3))
    second = whole.index(b"WARC/1.0", 10)
    for broken, lost in (
        (whole[:second] + b"garbage\n\x00\xff\n" + whole[second:], 0),
        (whole[:second] + whole[second:].replace(b"Content-Length: ", b"Content-Length: x", 1), 1),
        (whole[:second] + whole[second:].replace(b"HTTP/1.1", b"GOPHER", 1), 1),
    ):
        found = read(broken)
        assert len(texts(found)) == 3 - lost
        assert rejected(found) == [(2, second, "not a WARC or ARC record")]


@pytest.mark.parametrize("compressed", [False, True])
def test_of_a_truncated_archive_the_records_before_the_cut_are_kept(compressed):
    whole = archive(pages(20), compressed)
    cut = len(whole) // 2 if compressed else whole.index(b"jumps", len(whole) // 2)
    found = read(whole[:cut], "cut.warc" + (".gz" if compressed else ""))
    kept = texts(found)
    assert 7 <= len(kept) <= 12
    ((record, _, reason),) = rejected(found)
    assert record == len(kept) + 1
    assert reason == ("the compressed file ends in mid stream" if compressed else "the file ends in mid record")


def test_a_record_beyond_the_size_is_passed_over():
    records = pages(3)
    records[1] = ("response", dict(HTML), page("x" * 100_000).encode())
    found = read(archive(records), max_document_bytes=50_000)
    assert len(texts(found)) == 2
    assert [(record, reason) for record, _, reason in rejected(found)] == [(2, "longer than max_document_bytes")]


def test_a_text_that_is_not_utf8_is_rejected():
    found = read(archive([("conversion", {}, b"\xff"), ("conversion", {}, b"good")]))
    assert texts(found) == ["good"]
    assert [(record, reason) for record, _, reason in rejected(found)] == [(1, "invalid UTF-8")]


def test_a_page_beyond_its_time_is_rejected_and_the_next_is_read():
    records = pages(3)
    records[1] = ("response", dict(HTML), page("<p>word" * 3_000_000).encode())
    found = read(archive(records), page_seconds=0.2)
    assert len(texts(found)) == 2
    assert [(record, reason) for record, _, reason in rejected(found)] == [
        (2, "extraction takes longer than page_seconds")
    ]


def test_a_page_beyond_its_memory_is_rejected_and_the_next_is_read():
    bomb = gzip.compress(bytes(600 << 20), compresslevel=1)
    records = pages(3)
    records[1] = ("response", {"Content-Encoding": "gzip", **HTML}, bomb)
    found = read(archive(records), page_memory="512MiB")
    assert len(texts(found)) == 2
    assert [(record, reason) for record, _, reason in rejected(found)] == [
        (2, "extraction takes more than page_memory")
    ]


def test_an_extractor_that_cannot_start_is_not_taken_for_a_bad_page():
    with Extractor("no-such-library", 1, 1 << 30) as extractor, pytest.raises(RuntimeError, match="does not start"):
        extractor.text(b"<p>x")
    with Extractor("resiliparse", 1, 1 << 20) as extractor, pytest.raises((RuntimeError, ExtractionFailed)):
        extractor.text(b"<p>x")


@given(st.integers(0, 2**32))
def test_no_damage_whatever_stops_the_reading(seed):
    source = random.Random(seed)
    data = bytearray(archive([("conversion", {}, b"text %d" % number) for number in range(4)]))
    for _ in range(source.randrange(1, 30)):
        data[source.randrange(len(data))] = source.randrange(256)
    for row in read(bytes(data[: source.randrange(len(data) + 1)])):
        assert isinstance(row, Document | Rejected)
