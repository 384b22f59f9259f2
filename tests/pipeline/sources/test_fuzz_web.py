"""Web archives with damage of every sort: nothing raises, time is bounded, and what is not damaged is found."""

from __future__ import annotations

import gzip
import random
import re
import time

import pytest

from pipeline.sources.base import Document, Record
from tests.pipeline.sources.test_warc import HTML, archive, page, read

_SECONDS = 5.0
_COUNT = 8


def _texts(count: int) -> list[tuple[str, dict[str, str], bytes]]:
    """Plain texts, which need no extraction, and one page."""
    kept = [("conversion", {}, b"text number %d. " % number * 20) for number in range(count - 1)]
    return [*kept, ("response", dict(HTML), page().encode())]


def _arc(count: int) -> bytes:
    records = b"filedesc://a.arc 0.0.0.0 20260102030405 text/plain 20\n1 0 Someone\nURL IP\n\n"
    for number in range(count):
        text = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n" + b"text number %d. " % number * 20
        records += b"http://site/%d 1.2.3.4 20260102030405 text/plain %d\n%s\n" % (number, len(text), text)
    return records


FILES = {
    "a.warc": archive(_texts(_COUNT)),
    "a.warc.gz": archive(_texts(_COUNT), compressed=True),
    "one.warc.gz": gzip.compress(archive(_texts(_COUNT)), mtime=0),
    "a.arc": _arc(_COUNT),
    "a.arc.gz": gzip.compress(_arc(_COUNT), mtime=0),
}
_PIECES = (
    b"\0",
    b"\n",
    b"\r\n\r\n",
    b"WARC/1.0\r\n",
    b"Content-Length: 99999999999\r\n",
    b"\xff" * 9,
    b"\x1f\x8b\x08\0",
)


def _damaged(data: bytes, source: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(source.randrange(1, 12)):
        at, size = source.randrange(len(changed)), source.choice((1, 3, 40, 400))
        match source.randrange(5):
            case 0:
                changed[at] = source.randrange(256)
            case 1:
                del changed[at : at + size]
            case 2:
                changed[at:at] = source.choice(_PIECES)
            case 3:
                changed[at:at] = changed[source.randrange(len(changed)) :][:size]
            case _:
                changed[at : at + size] = bytes(source.randrange(256) for _ in range(size))
        if not changed:
            changed += b"W"
    return bytes(changed[: source.randrange(len(changed) // 2, len(changed)) + 1])


@pytest.mark.parametrize("name", FILES)
def test_no_damage_raises_or_takes_long(name):
    source = random.Random(name)
    end = time.process_time() + _SECONDS / 2
    for _ in range(120):
        data = _damaged(FILES[name], source)
        start = time.process_time()
        assert all(isinstance(row, Record) for row in read(data, name, page_seconds=2))
        assert time.process_time() - start < _SECONDS  # of the processor: a loaded machine is no fault of the file
        if start > end:
            break


@pytest.mark.parametrize("name", ["a.warc", "a.warc.gz"])
def test_records_that_are_not_damaged_are_found(name):
    whole = FILES[name]
    starts = [match.start() for match in re.finditer(rb"\x1f\x8b\x08" if name.endswith("gz") else rb"WARC/1\.0", whole)]
    assert len(starts) == _COUNT
    expected = [row.text for row in read(whole, name) if isinstance(row, Document)]
    source = random.Random(name)
    for _ in range(40):
        number = source.randrange(_COUNT - 1)
        changed = bytearray(whole)
        for _ in range(source.randrange(1, 5)):
            changed[source.randrange(starts[number], starts[number + 1])] = source.randrange(256)
        found = [row.text for row in read(bytes(changed), name) if isinstance(row, Document)]
        missing = [text for place, text in enumerate(expected) if place != number and text not in found]
        assert missing == []


@pytest.mark.parametrize("unit", [b"WARC/1.0\r\nContent-Length: 9999999\r\n\r\n", b"WARC/1.0\r\n", b"a:b 1 ", b"\n"])
def test_time_is_bounded_on_a_hostile_archive(unit):
    start = time.process_time()
    rows = list(read(unit * (300_000 // len(unit)), "h.warc"))
    assert time.process_time() - start < 10
    assert all(isinstance(row, Record) for row in rows)


@pytest.mark.parametrize(
    "more", [b"; charset=%b;" % (b" " * 900_000), b"\r\nX: y" + b"\n " * 400_000], ids=["charset", "folded"]
)
def test_time_is_bounded_on_a_hostile_header(more):
    content = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain%b\r\n\r\nA text." % more
    start = time.process_time()
    rows = read(b"http://a/ 1.2.3.4 20260102030405 text/html %d\n%b\n" % (len(content), content), "h.arc")
    assert time.process_time() - start < 2
    assert [row.text for row in rows if isinstance(row, Document)] == ["A text."]


def test_hostile_pages_are_read_or_refused():
    source = random.Random(5)
    base = page("<p>&amp;&#0;&#x110000;<![CDATA[x]]><svg><math>").encode()
    records = [("response", {"Content-Type": "text/html"}, _damaged(base, source)) for _ in range(60)]
    records += [("response", {"Content-Type": "text/html"}, b"<div>" * 20_000)]
    found = read(archive(records), page_seconds=2)
    assert all(isinstance(row, Record) for row in found)
    assert sum(isinstance(row, Document) for row in found) > 30
