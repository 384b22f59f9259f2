"""CSV: fields come back as they were written, and no broken row is read as something else."""

from __future__ import annotations

import csv as standard
import gzip
import io
from typing import Any

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.sources import csv
from pipeline.sources.base import Document, Record, Rejected, Unread
from pipeline.sources.csv import Csv


def read(data: bytes, name: str = "a.csv", **fields) -> list[Record]:
    fsspec.filesystem("memory").pipe(f"/csv/{name}", data)
    config = Csv.model_validate({"name": "s", "path": f"memory://csv/{name}", **fields})
    (file,) = csv.list_files(config)
    return list(csv.read(config, file))


def texts(found: list[Record]) -> list[str]:
    return [row.text for row in found if isinstance(row, Document)]


def rejected(found: list[Record]) -> list[tuple[int, int | None, str]]:
    return [(row.record, row.offset, row.reason) for row in found if isinstance(row, Rejected)]


FIELD = st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(
    ["a\r\nb", '"', 'x"",\n', "\u2028\u0085\0", " "]
)


@given(st.lists(st.tuples(FIELD, FIELD)), st.sampled_from([",", ";", "\t", "|"]), st.sampled_from(["\n", "\r\n"]))
def test_every_field_comes_back_as_it_was_written(rows, delimiter, line_end):
    buffer = io.StringIO(newline="")
    writer = standard.writer(buffer, delimiter=delimiter, lineterminator=line_end, quoting=standard.QUOTE_ALL)
    writer.writerows([("text", "title"), *rows])
    found = read(gzip.compress(buffer.getvalue().encode()), "a.csv.gz", delimiter=delimiter, url_field="title")
    assert [(row.text, row.url or "") for row in found if isinstance(row, Document)] == rows


def test_the_header_names_the_fields_and_the_rest_is_metadata():
    found = read("\ufefftext,label,id\none,pos,a\n\ntwo,neg,b\n".encode())
    assert found == [
        Document("s/a.csv#a", "one", "s", "s", None, '{"label":"pos"}'),
        Document("s/a.csv#b", "two", "s", "s", None, '{"label":"neg"}'),
    ]


@pytest.mark.parametrize("named", [True, False])
def test_columns_of_the_same_name_are_told_apart(named):
    header = b"" if named else b"text,x,text,x,x.1\n"
    columns: dict[str, Any] = {"columns": ["text", "x", "text", "x", "x.1"]} if named else {}
    (found,) = read(header + b"one,1,two,2,3\n", **columns)
    assert isinstance(found, Document)
    assert (found.text, found.metadata) == ("one", '{"x":"1","text.1":"two","x.2":"2","x.1":"3"}')


def test_a_table_without_header_takes_its_columns_from_the_recipe():
    found = read(b'5\tSaid "so" he\n7\t"\n', columns=["id", "text"], delimiter="\t", quote=None)
    assert [(row.id, row.text) for row in found if isinstance(row, Document)] == [
        ("s/a.csv#5", 'Said "so" he'),
        ("s/a.csv#7", '"'),
    ]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (b"one", "not 2 fields, as there are columns"),
        (b"one,two,three", "not 2 fields, as there are columns"),
        (b"bad \xff,x", "invalid UTF-8"),
        (b'"a"b,x', "not valid CSV: ',' expected after '\"'"),
        (b"x" * 200 + b",x", "longer than max_document_bytes"),
        (b'"a\n' + b"y" * 200 + b'",x', "longer than max_document_bytes"),
        (b"a\rb,x", "not valid CSV: new-line character seen in unquoted field - do you need to open the file"),
    ],
)
def test_a_broken_row_is_rejected_and_its_neighbours_are_read(row, reason):
    found = read(b"text,more\nbefore,x\n" + row + b"\nafter,x\n", max_document_bytes=100)
    if b'"a\n' not in row:
        assert texts(found) == ["before", "after"]
    assert texts(found)[0] == "before"
    ((record, offset, why), *_) = rejected(found)
    assert (record, offset) == (2, 19)
    assert why.startswith(reason)


def test_a_quote_that_is_never_closed_is_rejected_where_it_begins():
    found = read(b'text,more\nbefore,x\n"open,x\nlost,x\n')
    assert texts(found) == ["before", "lost"]
    assert rejected(found) == [(2, 19, "a quote that is never closed")]


def test_a_stray_quote_costs_its_row_alone_wherever_it_is_closed():
    def table(opens: int, closes: int | None, delimiter: str) -> bytes:
        marks = {opens: ('"', ""), closes: ("", '"')}
        rows = [f"{i}{delimiter}{marks.get(i, ('', ''))[0]}text {i}{marks.get(i, ('', ''))[1]}\n" for i in range(400)]
        return f"id{delimiter}text\n{''.join(rows)}".encode()

    for closes in (None, 230, 399):
        for delimiter in (",", "\t"):
            found = read(table(200, closes, delimiter), delimiter=delimiter)
            assert [row.id for row in found if isinstance(row, Document)] == [
                f"s/a.csv#{i}" for i in range(400) if i != 200
            ]
            ((record, _, reason),) = rejected(found)
            assert record == 201
            assert "a quote that is" in reason
    quoted = b"id,text\n" + b"".join(b'%d,%s"text, %d"\n' % (i, b'"' * (i == 5), i) for i in range(10))
    found = read(quoted)  # the row after it holds the quote that closes the stray one
    assert texts(found) == [f"text, {i}" for i in range(10) if i != 5]


def test_texts_of_many_lines_are_taken_for_what_they_are():
    poem = "\n".join(f"line {i}, with a comma" if i % 3 else f"line {i}" for i in range(60))
    buffer = io.StringIO()
    writer = standard.writer(buffer)
    writer.writerows([["id", "text"], ["a", poem], ["b", "short"], ["c", "\n" * 40 + "end"]])
    assert texts(read(buffer.getvalue().encode())) == [poem, "short", "\n" * 40 + "end"]


def test_an_escape_character_takes_the_place_of_doubled_quotes():
    data = b'id,text\n1,"he said \\"yes, now\\", and left"\n2,"a ""doubled"" one"\n3,"back\\\\slash"\n'
    assert texts(read(data, escape="\\")) == ['he said "yes, now", and left', 'a "doubled" one', "back\\slash"]
    assert len(rejected(read(data))) >= 1


def test_without_a_readable_header_every_row_is_rejected():
    found = read(b"te\xffxt,more\none,x\ntwo,x\n")
    assert [reason for _, _, reason in rejected(found)] == ["invalid UTF-8"] + [
        "not 0 fields, as there are columns"
    ] * 2
    assert texts(found) == []


def test_of_a_truncated_file_the_rows_before_the_cut_are_kept():
    data = b"text,n\n" + b"".join(b'"row %d",%d\n' % (i, i * 2654435761 % 2**32) for i in range(5000))
    packed = gzip.compress(data)
    found = read(packed[: len(packed) // 2], "cut.csv.gz")
    kept = len(found) - 1
    assert texts(found) == [f"row {i}" for i in range(kept)]
    last = found[-1]
    assert isinstance(last, Unread)
    assert (last.after_record, last.reason, last.missing) == (kept, "the compressed file ends in mid stream", True)


@given(st.binary(max_size=80))
def test_no_bytes_whatever_stop_the_reading(data):
    for row in read(b"text,more\n" + data):
        assert isinstance(row, Document | Rejected | Unread)
