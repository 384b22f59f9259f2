"""A file is known by its content, whatever it is called."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
from pathlib import Path

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest
import zstandard

from pipeline.sources.base import File
from pipeline.sources.sniff import HEAD, Seen, look

RECORDS = "".join(json.dumps({"id": n, "text": f"é {n} " * 20}, ensure_ascii=False) + "\n" for n in range(300))
PROSE = "It was a dark night, and it rained, heavily.\n\nThen, at last, the sun, pale, rose.\n" * 30
WARC = "WARC/1.0\r\nWARC-Type: warcinfo\r\nContent-Length: 0\r\n\r\n\r\n\r\n"


def seen(folder: Path, data: bytes | str, name: str = "file") -> Seen:
    path = folder / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return look(File(str(path), name, path.stat().st_size))


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (RECORDS, "jsonl"),
        ("\n\n" + RECORDS, "jsonl"),
        (json.dumps({"text": "x" * 2 * HEAD}), "jsonl"),
        ("id,body\n1,a\n2,b\n3,c\n", "csv"),
        ("id\tbody\n1\ta\n2\tb\n3\tc\n", "csv"),
        (PROSE, "text"),
        ("# A title\n\nWords.", "text"),
        (WARC, "warc"),
    ],
)
@pytest.mark.parametrize(
    "pack", [bytes, gzip.compress, bz2.compress, lzma.compress, zstandard.ZstdCompressor().compress]
)
def test_text_of_each_format_packed_or_not(tmp_path, data, kind, pack):
    assert seen(tmp_path, pack(data.encode())).kind == kind


def test_tables_in_columns(tmp_path):
    table = pa.table({"text": ["a"]})
    pyarrow.parquet.write_table(table, tmp_path / "a")
    pyarrow.feather.write_feather(table, tmp_path / "b")
    with pa.ipc.new_stream(str(tmp_path / "c"), table.schema) as stream:
        stream.write_table(table)
    assert [look(File(str(tmp_path / name), name, 1)).kind for name in "abc"] == ["parquet"] * 3


def test_the_delimiter_and_the_names_of_a_table(tmp_path):
    quoted = 'id;body\n1;"two\nlines; and more"\n2;b\n'
    assert seen(tmp_path, quoted, "x.csv")[:4] == ("csv", "", ";", ("id", "body"))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"),
        (b"\n \n", "empty"),
        (b"\x89PNG\r\n\x1a\n\0\0", "binary data"),
        ("Grüße".encode("latin-1"), "not UTF-8 (byte 2)"),
        (gzip.compress(RECORDS.encode(), mtime=0)[:40], "a file that cannot be read"),
        (json.dumps([{"text": "a"}], indent=1).encode(), "one JSON document"),
        (json.dumps({"a": 1}, indent=1).encode(), "one JSON document"),
    ],
)
def test_what_no_source_reads_is_named(tmp_path, data, words):
    found = seen(tmp_path, data)
    assert found.kind == ""
    assert found.words.startswith(words)


def test_a_character_cut_by_the_end_of_the_look_is_no_fault(tmp_path):
    assert seen(tmp_path, "a" + "é" * HEAD).kind == "text"
