"""Web archives: pages and texts are read, broken records are rejected, and no page can hold up the reading."""

from __future__ import annotations

import gzip
import io
import random
import re
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

import brotli
import fsspec
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter

from pipeline import MillError
from pipeline.sources import extract, warc
from pipeline.sources.base import Document, Flagged, PassedOver, Record, Rejected, Unread
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


def read(data: bytes, name: str = "a.warc", **fields) -> list[Record]:
    fsspec.filesystem("memory").pipe(f"/warc/{name}", data)
    config = Warc.model_validate({"name": "w", "path": f"memory://warc/{name}", **fields})
    (file,) = warc.list_files(config)
    return list(warc.read(config, file))


def texts(found: list[Record]) -> list[str]:
    return [row.text for row in found if isinstance(row, Document)]


def rejected(found: list[Record]) -> list[tuple[int, int | None, str]]:
    return [(row.record, row.offset, row.reason) for row in found if isinstance(row, Rejected)]


def passed_over(found: list[Record]) -> list[tuple[int, str]]:
    return [(row.record, row.kind) for row in found if isinstance(row, PassedOver)]


def unread(found: list[Record]) -> list[Unread]:
    return [row for row in found if isinstance(row, Unread)]


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


def test_pages_and_plain_texts_are_documents_and_all_else_is_passed_over_by_kind():
    body = page().encode()
    found = read(
        archive(
            [
                ("response", {"Content-Type": "image/png"}, b"\x89PNG"),
                ("response", {"Content-Type": "text/html", "status": "404 Not Found"}, body),
                ("response", {"Content-Type": "text/html", "status": "301 Moved"}, body),
                ("metadata", {}, b"a: b"),
                ("resource", {"Content-Type": "text/html"}, body),
                ("resource", {"Content-Type": "text/plain"}, b"plain"),
                ("conversion", {}, "Grüße\u2028\u0085 aus dem WET\0".encode()),
                ("conversion", {}, b""),
                ("response", {"Content-Type": "application/XHTML+xml; charset=x"}, body),
                ("response", {"Content-Type": "TEXT/plain; Charset=iso-8859-1"}, "“Grüße”, 5 €".encode("cp1252")),
                ("response", {"Content-Type": "text/plain"}, "Łódź".encode()),
                ("response", {"Content-Type": "application/pdf"}, b"%PDF-1.4"),
                ("response", {"Content-Type": "Application/JSON"}, b"{}"),
                ("response", {}, b"what"),
                ("response", {}, body),
                ("response", {"Content-Type": "\x1b[31m"}, b"what"),
            ]
        )
    )
    documents = [row for row in found if isinstance(row, Document)]
    assert [row.id.partition("#")[2] for row in documents] == ["4", "5", "6", "7", "8", "9", "10", "14"]
    assert texts(found)[1:4] == ["plain", "Grüße\u2028\u0085 aus dem WET\0", ""]
    assert texts(found)[5:7] == ["“Grüße”, 5 €", "Łódź"]
    assert rejected(found) == []
    kinds = [
        "image/png",
        "HTTP 404",
        "HTTP 301",
        "metadata",
        "application/pdf",
        "application/json",
        "no content type",
        "other",
    ]
    assert passed_over(found) == list(zip((1, 2, 3, 4, 12, 13, 14, 16), kinds, strict=True))


BINARY = {
    "PNG": b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 9,
    "PDF": b"%PDF-1.5\n%\xe2\xe3\n1 0 obj<<>>",
    "zip": b"PK\x03\x04" + bytes(100),
    "gzip": b"\x1f\x8b\x08" + b"damaged" * 9,
    "JPEG": b"\xff\xd8\xff\xe0\0\x10JFIF",
    "binary data": b"<p>" + bytes(range(20)) * 50,
}


@pytest.mark.parametrize("what", BINARY)
@pytest.mark.parametrize(("kind", "named"), [("text/html", "HTML"), ("text/plain; charset=utf-8", "text")])
def test_a_binary_that_is_called_a_page_or_a_text_is_refused(what, kind, named):
    records = [("response", {"Content-Type": kind}, BINARY[what]), *pages(1)]
    found = read(archive(records))
    assert [(record, reason) for record, _, reason in rejected(found)] == [(1, f"not {named}: {what}")]
    assert len(texts(found)) == 1


def test_cut_and_partial_pages_are_marked():
    whole = archive([("response", {"status": "206 Partial Content", **HTML}, page().encode()), *pages(2)])
    place = whole.rindex(b"WARC/1.0")
    found = read(whole[:place] + whole[place:].replace(b"WARC-Date:", b"WARC-Truncated: length\r\nWARC-Date:", 1))
    marks = [(row.record, row.kind) for row in found if isinstance(row, Flagged)]
    assert marks == [(1, "partial page (HTTP 206)"), (3, "truncated page")]
    metadata = [row.metadata for row in found if isinstance(row, Document)]
    date = '"date":"2026-01-02T03:04:05Z"'
    assert metadata[0] == f'{{{date},"flags":["partial page (HTTP 206)"]}}'
    assert metadata[1:] == [f"{{{date}}}", f'{{{date},"flags":["truncated page"]}}']


def test_a_record_may_lack_a_target_and_hold_hostile_headers():
    whole = archive(pages(2))
    first = whole.replace(b"WARC-Target-URI: http://site/0\r\n", b"", 1)
    hostile = "WARC-Target-URI: <http://site/\x1b[31mé \x9b>\r\nX-é: \xff".encode()
    found = read(
        first.replace(b"WARC-Target-URI: http://site/1", hostile + b"\xff", 1).replace(b"uuid:1", b"uuid:\x1b]0")
    )
    assert [(row.id, row.url) for row in found if isinstance(row, Document)] == [
        ("w/a.warc#0", None),
        ("w/a.warc#2", "http://site/%1B[31mé%20%C2%9B"),
    ]


def test_nothing_is_printed_on_the_way(capfd):
    read(archive(pages(1)).replace(b"http://site/0", b"http://si te/0 \x1b"))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("charset", "head"),
    [
        ("; charset=iso-8859-2", ""),
        ("", '<meta charset="iso-8859-2">'),
        ("; charset=utf-8", '<meta charset="iso-8859-2">'),
        ("; charset=no-such-thing", '<meta charset="iso-8859-2">'),
        ('; Charset = "ISO-8859-2"', ""),
    ],
)
def test_the_character_set_is_what_the_server_says_or_else_the_page(charset, head):
    (found,) = texts(
        read(archive([("response", {"Content-Type": f"text/html{charset}"}, page("Łódź", head).encode("iso-8859-2"))]))
    )
    assert found.strip().endswith("Łódź")


@pytest.mark.parametrize(
    ("label", "codec", "text"),
    [
        ("ISO-8859-1", "cp1252", "“Grüße” — 5 € ’"),
        ("latin1", "cp1252", "“Grüße” — 5 €"),
        ("ISO-8859-9", "cp1254", "“İstanbul” 5 €"),
        ("shift_jis", "cp932", "①髙は～"),
        ("gb2312", "gbk", "編碼測試頁面"),
        ("euc-kr", "cp949", "똠방각하"),
        ("us-ascii", "utf-8", "“Grüße”"),
        ("us-ascii", "cp1252", "“Grüße”"),
        ("iso-8859-1", "utf-8-sig", "“Grüße”"),
        ("utf-8", "utf-16", "“Grüße” 頁"),
        ("windows-1252", "latin-1", "\x81é"),
    ],
)
@pytest.mark.parametrize("kind", ["html", "plain"])
def test_labels_mean_what_browsers_take_them_for_and_a_byte_order_mark_wins(label, codec, text, kind):
    body = page(text) if kind == "html" else text
    found = texts(read(archive([("response", {"Content-Type": f"text/{kind}; charset={label}"}, body.encode(codec))])))
    assert found[0].strip().endswith(text)


def raw_deflate(data: bytes) -> bytes:
    compress = zlib.compressobj(wbits=-15)
    return compress.compress(data) + compress.flush()


def members(data: bytes) -> bytes:
    return gzip.compress(data[:100]) + gzip.compress(data[100:])


CODINGS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "X-GZIP": members,
    "deflate": zlib.compress,
    "Deflate": raw_deflate,
    "br": brotli.compress,
    "zstd": zstandard.compress,
    "gzip, gzip": lambda data: gzip.compress(gzip.compress(data)),
    "br, gzip": lambda data: gzip.compress(brotli.compress(data)),
    "identity": bytes,
    "unknown": bytes,
}


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("honest", [True, False])
@pytest.mark.parametrize("kind", ["text/html", "text/plain"])
def test_content_codings_are_undone_where_they_are_true(coding, honest, kind):
    body = page("End.") if kind == "text/html" else "Grüße. End."
    headers = {"Content-Type": kind, "Content-Encoding": coding}
    data = CODINGS[coding](body.encode()) if honest else body.encode()
    (found,) = texts(read(archive([("response", headers, data)])))
    assert found.strip().endswith("End.")


def chunked(data: bytes, extension: bytes = b"", trailer: bytes = b"") -> bytes:
    parts = (data[at : at + 100] for at in range(0, len(data), 100))
    return b"".join(b"%x%s\r\n%s\r\n" % (len(part), extension, part) for part in parts) + b"0\r\n" + trailer + b"\r\n"


BODY = page("End.").encode()


@pytest.mark.parametrize(
    ("coding", "data"),
    {
        "chunked": chunked(BODY),
        "Chunked": chunked(BODY, b" ;name=value", b"X-Checksum: 1\r\n"),
        "gzip, chunked": chunked(gzip.compress(BODY)),
        " chunked ": BODY,
        "identity": BODY,
        "CHUNKED": chunked(BODY)[:-5],
    }.items(),
)
def test_transfer_codings_are_undone(coding, data):
    (found,) = texts(read(archive([("response", {"Transfer-Encoding": coding, **HTML}, data)])))
    assert found.strip() == f"{SENTENCES}End."


@pytest.mark.parametrize(
    "line", [b"HTTP/2 200", b"HTTP/1.0 200 OK", b"HTTP/3 200 ", b"http/1.1 203 x", b"HTTP/1.1 200"]
)
def test_status_lines_of_every_version_are_read(line):
    whole = archive(pages(1))
    length = int(re.findall(rb"Content-Length: (\d+)", whole)[0])
    changed = whole.replace(b"HTTP/1.1 200 OK", line).replace(b"h: %d" % length, b"h: %d" % (length + len(line) - 15))
    assert len(texts(read(changed))) == 1


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
    assert passed_over(found) == [(1, "filedesc")]
    assert read(gzip.compress(records), "a.arc.gz")[1].id == "w/a.arc.gz#2"  # type: ignore[union-attr]
    second = records.replace(b" text/html ", b" text/html 200 - - 0 a.arc ").replace(b"http://site/1", b"http://s/a b")
    assert [row.url for row in read(second, "a.arc") if isinstance(row, Document)] == [
        "http://site/0",
        "http://s/a%20b",
    ]


def test_after_a_broken_record_reading_goes_on():
    whole = archive(pages(3))
    second = whole.index(b"WARC/1.0", 10)
    for broken, lost, reason in (
        (whole[:second] + b"garbage\n\x00\xff\n" + whole[second:], 0, "not a WARC or ARC record"),
        (whole[:second] + whole[second:].replace(b"h: ", b"h: x", 1), 1, "not a WARC or ARC record"),
        (whole[:second] + whole[second:].replace(b"HTTP/1.1", b"GOPHER/1", 1), 1, "not an HTTP response"),
    ):
        found = read(broken)
        assert len(texts(found)) == 3 - lost
        assert rejected(found) == [(2, second, reason)]


@pytest.mark.parametrize("change", [-7, 2, 40, 600, 10**6, 10**12])
def test_after_a_wrong_length_every_other_record_is_found(change):
    whole = archive(pages(4))
    second = whole.index(b"WARC/1.0", 10)
    length = int(re.findall(rb"Content-Length: (\d+)", whole[second:])[0])
    found = read(whole[:second] + whole[second:].replace(b"h: %d" % length, b"h: %d" % (length + change), 1))
    assert [text.strip() for text in texts(found)] == [f"{SENTENCES}Page number {number}." for number in range(4)]
    assert [row.kind for row in found if isinstance(row, Flagged)] == ["wrong Content-Length"] * (change > 2)


def test_a_long_stretch_without_records_weighs_by_its_bytes():
    whole = archive(pages(2))
    second = whole.index(b"WARC/1.0", 10)
    found = read(whole[:second] + b"garbage\n" + bytes(300_000) + b"\n" + whole[second:])
    assert len(texts(found)) == 2
    assert [(row.after_record, row.offset, row.bytes) for row in unread(found)] == [(2, second + 8, 300_001)]


@pytest.mark.parametrize("at", [0.1, 0.5, 0.9])
def test_a_damaged_member_is_passed_over_and_those_behind_it_are_read(at):
    whole = bytearray(archive(pages(10), compressed=True))
    starts = [match.start() for match in re.finditer(rb"\x1f\x8b\x08", whole)]
    damaged = int(len(whole) * at)
    whole[damaged] ^= 0x55
    number = sum(start <= damaged for start in starts) - 1
    found = read(bytes(whole), "a.warc.gz")
    expected = [f"{SENTENCES}Page number {k}." for k in range(10) if k != number]
    assert [text.strip() for text in texts(found)] == expected
    (lost,) = unread(found)
    assert (lost.after_record, lost.of) == (number, len(whole))
    assert lost.offset is not None
    assert starts[number] <= lost.offset <= damaged + 2048
    assert 0 < lost.bytes <= len(whole) - lost.offset


@pytest.mark.parametrize("compressed", [False, True])
def test_of_a_truncated_archive_the_records_before_the_cut_are_kept(compressed):
    whole = archive(pages(20), compressed)
    cut = len(whole) // 2 if compressed else whole.index(b"jumps", len(whole) // 2)
    found = read(whole[:cut], "cut.warc" + (".gz" if compressed else ""))
    kept = texts(found)
    assert 7 <= len(kept) <= 12
    (lost,) = unread(found)
    assert lost.after_record == len(kept)
    assert lost.missing
    assert lost.reason == ("the compressed file ends in mid stream" if compressed else "the file ends in mid record")


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
    with Extractor("no-such-library", 1, 1 << 30) as extractor, pytest.raises(MillError, match="does not start"):
        extractor.text(b"<p>x")
    with Extractor("resiliparse", 1, 1 << 20) as extractor, pytest.raises(MillError):
        extractor.text(b"<p>x")


WAITS = """
import sys, threading
sys.path.insert(0, {folder!r})
from pipeline.sources import page
def waits(text):
    if "wait" in text:
        lock = threading.Lock()
        lock.acquire(); lock.acquire()
    return text
page.LIBRARIES["waits"] = lambda: waits
if sys.argv[1] == "never":
    threading.Event().wait()
page._serve(*sys.argv[1:])
"""


def test_a_library_that_waits_for_itself_costs_its_page_and_no_other(tmp_path, monkeypatch):
    program = tmp_path / "program.py"
    program.write_text(WAITS.format(folder=str(Path(extract.__file__).parents[2])))
    monkeypatch.setattr(extract.program, "__file__", str(program))
    monkeypatch.setattr(extract, "_LOOK", 0.5)
    with Extractor("waits", 1, 1 << 30) as extractor:
        assert extractor.text(b"<p>one") == "<p>one"
        with pytest.raises(ExtractionFailed, match="waits for what never comes"):
            extractor.text(b"<p>wait")
        assert extractor.text(b"<p>two") == "<p>two"
    with Extractor("never", 1, 1 << 30) as extractor, pytest.raises(MillError, match="does not start") as refused:
        extractor.text(b"<p>x")
    assert not isinstance(refused.value, ExtractionFailed)  # no page's fault


@given(st.integers(0, 2**32))
def test_no_damage_whatever_stops_the_reading(seed):
    source = random.Random(seed)
    data = bytearray(archive([("conversion", {}, b"text %d" % number) for number in range(4)]))
    for _ in range(source.randrange(1, 30)):
        data[source.randrange(len(data))] = source.randrange(256)
    for row in read(bytes(data[: source.randrange(len(data) + 1)])):
        assert isinstance(row, Record)
