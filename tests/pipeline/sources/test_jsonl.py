"""JSON lines: every text comes back as it was, and every bad line is rejected with its place and reason."""

from __future__ import annotations

import gzip
import json
import time

import fsspec
import orjson
import pytest
import zstandard
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.sources import jsonl, reading
from pipeline.sources.base import Document, File, Record, Rejected, Unread
from pipeline.sources.jsonl import Jsonl

ODD_TEXTS = [
    "",
    " ",
    "a\u2028b\u2029c\u0085d",
    "nul\0inside",
    "👩‍👩‍👧‍👦 emoji only 🏴‍☠️",
    "\ufeff",
    "line\r\nline\n",
    "\U0010ffff",
]


def read(data: bytes, name: str = "a.jsonl", **fields) -> list[Record]:
    fsspec.filesystem("memory").pipe(f"/jsonl/{name}", data)
    config = Jsonl(name="s", path=[f"memory://jsonl/{name}"], **fields)
    (file,) = jsonl.list_files(config)
    return list(jsonl.read(config, file))


def texts(found: list[Record]) -> list[str]:
    return [row.text for row in found if isinstance(row, Document)]


def rejected(found: list[Record]) -> list[tuple[int, int | None, str]]:
    return [(row.record, row.offset, row.reason) for row in found if isinstance(row, Rejected)]


@given(st.lists(st.text() | st.sampled_from(ODD_TEXTS)), st.booleans(), st.sampled_from(["", ".gz", ".zst"]))
def test_every_text_comes_back_as_it_was(written, escaped, ending):
    lines = "".join(json.dumps({"text": text}, ensure_ascii=escaped) + "\n" for text in written).encode()
    compress = {"": bytes, ".gz": gzip.compress, ".zst": zstandard.ZstdCompressor().compress}[ending]
    found = read(compress(lines), "round.jsonl" + ending)
    assert texts(found) == written
    assert [row.id for row in found if isinstance(row, Document)] == [
        f"s/round.jsonl{ending}#{number}" for number in range(1, len(written) + 1)
    ]


def said_of(line: bytes) -> str:
    """What this release of orjson calls the fault."""
    with pytest.raises(orjson.JSONDecodeError) as raised:
        orjson.loads(line)
    return raised.value.msg


BAD_LINES = [
    (b'{"text": "cut', "invalid JSON: unexpected end of data"),
    (b'{"text": "\xff"}', "invalid UTF-8"),
    (b'{"text": "\xed\xa0\x80"}', "invalid UTF-8"),
    (b'{"text": "\\ud800"}', "invalid JSON: no low surrogate in string"),
    (b'{"body": "x"}', "no field 'text'"),
    (b'{"text": 7}', "field 'text' is a number, not a text"),
    (b'{"text": null}', "field 'text' is null, not a text"),
    (b'["text"]', "a list, not an object"),
    (b"null", "null, not an object"),
    (b'{"text": ' + b"[" * 5000 + b"]" * 5000 + b"}", f"invalid JSON: {said_of(b'[' * 5000)}"),
    (b'{"text": "x", "deep": ' + b"[" * 400 + b"]" * 400 + b"}", "metadata: Recursion limit reached"),
    (b'{"text": "' + b"x" * 6000 + b'"}' + b" " * 6000, "longer than max_document_bytes"),
    (b"\0\0\0\0", "invalid JSON: "),
]


@pytest.mark.parametrize(("line", "reason"), BAD_LINES)
def test_a_bad_line_is_rejected_and_its_neighbours_are_read(line, reason):
    found = read(b'{"text": "before"}\n' + line + b'\n{"text": "after"}', max_document_bytes=12_000)
    assert texts(found) == ["before", "after"]
    ((record, offset, why),) = rejected(found)
    assert (record, offset) == (2, 19)
    assert why.startswith(reason)
    bad = next(row for row in found if isinstance(row, Rejected))
    assert bad.file.endswith("jsonl/a.jsonl")
    assert 0 < len(bad.excerpt.encode()) <= 2000


@given(st.lists(st.sampled_from([line for line, _ in BAD_LINES] + [b'{"text": "good"}', b'{"text": ""}']), max_size=15))
def test_every_line_is_a_document_or_rejected(lines):
    found = read(b"\n".join(lines), max_document_bytes=12_000)
    assert len(found) == len(lines)
    assert len(texts(found)) == sum(line.endswith(b'd"}') or line.endswith(b'""}') for line in lines)


@given(st.binary(max_size=60))
@example(b"\xfd7zXZ\x00")
def test_no_bytes_whatever_stop_the_reading(data):
    found = read(data + b'\n{"text": "last"}')
    if any(isinstance(row, Unread) for row in found):  # begins as a compressed file does: all of it is damage
        assert sum(row.bytes for row in found if isinstance(row, Unread)) == len(data) + 17
        return
    assert texts(found)[-1] == "last"
    assert len(found) == sum(bool(line.strip()) for line in data.split(b"\n")) + 1 - _only_bom(data)


def _only_bom(data: bytes) -> bool:
    return data.split(b"\n")[0].removeprefix(b"\xef\xbb\xbf").strip() == b"" and data.split(b"\n")[0].strip() != b""


def test_a_byte_order_mark_and_windows_line_ends_are_no_part_of_the_records():
    found = read(b'\xef\xbb\xbf{"text": "one"}\r\n\r\n{"text": "two\\r\\n"}\r\n')
    assert texts(found) == ["one", "two\r\n"]
    assert [row.id for row in found if isinstance(row, Document)] == ["s/a.jsonl#1", "s/a.jsonl#3"]


@pytest.mark.parametrize("ending", [".gz", ".zst"])
def test_of_a_truncated_file_the_records_before_the_cut_are_kept(ending):
    lines = [orjson.dumps({"id": f"n{i}", "text": str(i * 2654435761 % 2**32)}) for i in range(30_000)]
    compress = {".gz": gzip.compress, ".zst": zstandard.ZstdCompressor().compress}[ending]
    data = compress(b"\n".join(lines))
    found = read(data[: len(data) * 2 // 3], "cut.jsonl" + ending)
    kept = len(found) - 1
    assert 10_000 < kept < 25_000
    assert texts(found) == [orjson.loads(line)["text"] for line in lines[:kept]]
    offset = sum(len(line) + 1 for line in lines[:kept])
    assert found[-1] == Unread(
        f"memory:///jsonl/cut.jsonl{ending}",
        kept,
        len(data) * 2 // 3,
        "the compressed file ends in mid stream",
        len(data) * 2 // 3,
        len(data) * 2 // 3,
        missing=True,
    )
    assert offset < len(b"\n".join(lines))


def test_behind_a_damaged_member_the_records_of_the_next_are_read():
    members = [
        b"".join(orjson.dumps({"text": f"{m} {i * 2654435761 % 2**32}"}) + b"\n" for i in range(2000)) for m in "abc"
    ]
    packed = [gzip.compress(member) for member in members]
    middle = bytearray(packed[1])
    middle[len(middle) // 2 : len(middle) // 2 + 40] = bytes(40)
    found = read(packed[0] + bytes(middle) + packed[2], "members.jsonl.gz")
    whole = [f"{m} {i * 2654435761 % 2**32}" for m in "abc" for i in range(2000)]
    (at,) = (place for place, row in enumerate(found) if isinstance(row, Unread))
    lost = found[at]
    assert isinstance(lost, Unread)
    assert 2000 < at < 4000
    assert texts(found[:at]) == whole[:at]
    assert texts(found[at:]) == whole[4000:]
    assert lost.after_record == at
    assert lost.offset is not None
    assert lost.offset + lost.bytes == len(packed[0]) + len(middle)
    assert 1000 < lost.bytes < len(middle)
    assert not lost.missing


def test_nan_and_infinity_are_null_and_integers_of_any_size_keep_their_digits():
    found = read(
        b'{"id": 1, "text": "a", "score": NaN, "more": [-Infinity, {"x": Infinity}]}\n'
        b'{"id": 12345678901234567890123, "text": "b", "n": [98765432109876543210987], "f": 1.5e30}\n'
        b'{"text": "NaN", "large": 18446744073709551615}\n'
        b'{"text": NaN}\n'
    )
    rows = [(row.id, row.text, row.metadata) for row in found if isinstance(row, Document)]
    assert rows == [
        ("s/a.jsonl#1", "a", '{"score":null,"more":[null,{"x":null}]}'),
        ("s/a.jsonl#12345678901234567890123", "b", '{"n":[98765432109876543210987],"f":1.5e+30}'),
        ("s/a.jsonl#3", "NaN", '{"large":18446744073709551615}'),
    ]
    assert rejected(found) == [(4, 212, "field 'text' is null, not a text")]


def test_a_text_may_stand_inside_an_object_and_a_field_of_that_very_name_wins():
    fields = {"text_field": "data.text", "id_field": "data.meta.id", "metadata_fields": None}
    found = read(
        b'{"data": {"text": "inner", "meta": {"id": "x", "k": 1}}, "n": 1}\n'
        b'{"data": {"text": "inner"}, "data.text": "literal"}\n{"data": {}}\n',
        **fields,
    )
    documents = [row for row in found if isinstance(row, Document)]
    assert [(row.id, row.text, row.metadata) for row in documents] == [
        ("s/a.jsonl#x", "inner", '{"data":{"meta":{"k":1}},"n":1}'),
        ("s/a.jsonl#2", "literal", '{"data":{"text":"inner"}}'),
    ]
    (bad,) = (row for row in found if isinstance(row, Rejected))
    assert (bad.reason, bad.remedy) == ("no field 'data.text'", "set `text_field`; the record has 'data'")


def test_millions_of_blank_lines_or_of_bad_records_in_a_small_file_are_bounded_in_time():
    packed = zstandard.ZstdCompressor().compress(b"\n" * (24 << 20) + b'{"text": "last"}')
    started = time.process_time()
    (found,) = read(packed, "blank.jsonl.zst", max_compression_ratio=1e9)
    assert isinstance(found, Document)
    assert found.id == f"s/blank.jsonl.zst#{(24 << 20) + 1}"
    assert time.process_time() - started < 5
    packed = zstandard.ZstdCompressor().compress(b"{}\n" * (3 << 20))
    *rows, last = read(packed, "empty.jsonl.zst", max_compression_ratio=1e9)
    assert len(rows) == reading.FREE_RECORDS + len(packed)
    assert isinstance(last, Unread)
    assert "more than" in last.reason


def test_a_record_of_200_mb_is_a_document():
    text = "x" * (200 << 20)
    found = read(b'{"text": "' + text.encode() + b'"}\n{"text": "next"}\n')
    assert texts(found) == [text, "next"]


def test_the_named_fields_are_used():
    config = {"text_field": "body", "id_field": "key", "url_field": "link", "domain_field": "topic"}
    (found,) = read(b'{"body": "t", "key": "k", "link": "http://l", "topic": "law", "id": 5}\n', **config)
    assert found == Document("s/a.jsonl#k", "t", "s", "law", "http://l", '{"id":5}')


def test_the_file_named_in_a_rejection_is_the_one_to_open(tmp_path):
    (tmp_path / "bad.jsonl").write_bytes(b"{\n")
    config = Jsonl(name="s", path=[f"{tmp_path}/*.jsonl"])
    (file,) = jsonl.list_files(config)
    assert file == File(str(tmp_path / "bad.jsonl"), "bad.jsonl", 2)
    (bad,) = jsonl.read(config, file)
    assert isinstance(bad, Rejected)
    assert bad.file == str(tmp_path / "bad.jsonl")
