"""Text files: a file is one document, or cut at blank lines into blocks."""

from __future__ import annotations

import gzip

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.sources import text
from pipeline.sources.base import Document, Record, Rejected, Unread
from pipeline.sources.text import Text


def read(data: bytes, name: str = "a.txt", **fields) -> list[Record]:
    fsspec.filesystem("memory").pipe(f"/text/{name}", data)
    config = Text(name="s", path=[f"memory://text/{name}"], **fields)
    (file,) = text.list_files(config)
    return list(text.read(config, file))


def texts(found: list[Record]) -> list[str]:
    return [row.text for row in found if isinstance(row, Document)]


@given(st.text() | st.sampled_from(["", "\n", "a\u2028b\u0085c\r\nd\0e", "\n\n# Title\n\n"]))
def test_a_file_is_one_document_exactly_as_it_stands(written):
    for name, data in (("a.txt", written.encode()), ("a.md.gz", gzip.compress(written.encode()))):
        assert read(data, name, domain="prose") == [Document(f"s/{name}", written.removeprefix("\ufeff"), "s", "prose")]


@given(st.lists(st.sampled_from(["one", "two three", "", " ", "\t", "x" * 20, "é\r"]), max_size=30), st.integers(1, 40))
def test_blocks_hold_every_line_once_and_end_at_the_first_blank_line_after_their_size(lines, size):
    found = texts(read("\n".join(lines).encode(), block_bytes=size))
    assert [line.strip() for block in found for line in block.split("\n") if line.strip()] == [
        line.strip() for line in lines if line.strip()
    ]
    for block in found:
        first, last = block.split("\n")[0], block.split("\n")[-1]
        assert first.strip()
        assert last.strip()
        held = position = 0
        for line in block.split("\n"):
            assert line.strip() or held < size, "the block went on after a blank line though it was long enough"
            position += len(line.encode()) + 1
            held = position - 1 if line.strip() else held
    assert all(len(block.encode()) + 1 >= size for block in found[:-1])


def test_blocks_are_named_by_their_number():
    found = read(b"\n\none\none\n\ntwo\n\n\nthree", block_bytes=1)
    assert [(row.id, row.text) for row in found if isinstance(row, Document)] == [
        ("s/a.txt#1", "one\none"),
        ("s/a.txt#2", "two"),
        ("s/a.txt#3", "three"),
    ]


def test_windows_paragraphs_are_split_too():
    assert texts(read(b"one\r\nmore\r\n\r\ntwo\r\n", block_bytes=1)) == ["one\r\nmore", "two"]


def test_a_block_that_cannot_be_read_does_not_take_its_neighbours_with_it():
    long = b"y" * 60 + b"\n" + b"y" * 60
    data = b"one\n\nbad \xff byte\n\n" + long + b"\n\n" + b"z" * 300 + b"\nrest of it\n\nlast\n"
    found = read(data, block_bytes=1, max_document_bytes=100)
    assert texts(found) == ["one", "last"]
    assert [(row.record, row.offset, row.reason) for row in found if isinstance(row, Rejected)] == [
        (2, data.index(b"\xff"), "invalid UTF-8"),
        (3, data.index(b"yy"), "longer than max_document_bytes"),
        (4, data.index(b"z"), "longer than max_document_bytes"),
    ]


def test_of_a_truncated_file_whole_blocks_are_kept():
    data = gzip.compress(b"".join(b"paragraph %d\n\n" % (i * 2654435761 % 2**32) for i in range(5000)))
    found = read(data[: len(data) // 2], "cut.txt.gz", block_bytes=1)
    assert len(texts(found)) == len(found) - 1 > 1000
    assert texts(found) == [f"paragraph {i * 2654435761 % 2**32}" for i in range(len(found) - 1)]
    last = found[-1]
    assert isinstance(last, Unread)
    assert (last.after_record, last.missing) == (len(found) - 1, True)
    assert last.reason == "the compressed file ends in mid stream"


@pytest.mark.parametrize(
    ("data", "name", "offset", "reason"),
    [
        (b"good \xe9 bad", "latin.txt", 5, "invalid UTF-8"),
        ("utf-16".encode("utf-16"), "wide.txt", 0, "invalid UTF-8"),
        (b"x" * 101, "long.txt", 0, "longer than max_document_bytes"),
        (gzip.compress(b"x" * 1000, mtime=0)[:-4], "cut.txt.gz", 0, "longer than max_document_bytes"),
        (gzip.compress(b"x" * 50, mtime=0)[:-4], "short.txt.gz", 0, "the compressed file ends in mid stream"),
        (b"not gzip", "false.txt.gz", 0, "the compressed data is damaged (error)"),
    ],
)
def test_a_file_that_cannot_be_read_is_rejected_as_a_whole(data, name, offset, reason):
    (found,) = read(data, name, max_document_bytes=100)
    assert isinstance(found, Rejected)
    assert (found.record, found.offset, found.reason) == (1, offset, reason)
