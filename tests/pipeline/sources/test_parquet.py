"""Parquet and Arrow files: the same documents as from the same records in JSON lines."""

from __future__ import annotations

import random
import resource
import time
from decimal import Decimal
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.sources import jsonl, parquet
from pipeline.sources.base import Document, Record, Rejected, Unread
from pipeline.sources.jsonl import Jsonl
from pipeline.sources.parquet import Parquet


def write(path: Path, table: pa.Table) -> None:
    if path.suffix == ".parquet":
        pq.write_table(table, path, row_group_size=7)
    elif path.suffix == ".feather":
        pa.feather.write_feather(table, str(path))
    else:
        with path.open("wb") as handle, pa.ipc.new_stream(handle, table.schema) as writer:
            writer.write_table(table, max_chunksize=5)


def read(path: Path, **fields) -> list[Record]:
    config = Parquet(name="s", path=[str(path)], **fields)
    (file,) = parquet.list_files(config)
    return list(parquet.read(config, file))


RECORDS = st.lists(
    st.fixed_dictionaries(
        {
            "text": st.text() | st.none() | st.sampled_from(["", "a\u2028\u0085b", "nul\0", "👩‍👧"]),
            "id": st.sampled_from(["a", "b", "c"]) | st.none(),
            "url": st.text() | st.none(),
            "more": st.lists(st.integers(-5, 5)),
        }
    ),
    max_size=25,
)
SCHEMA = pa.schema([("text", pa.string()), ("id", pa.string()), ("url", pa.string()), ("more", pa.list_(pa.int64()))])


@given(RECORDS, st.sampled_from([".parquet", ".feather", ".arrow"]))
def test_the_same_records_give_the_same_documents_as_json_lines(tmp_path_factory, records, ending):
    folder = tmp_path_factory.mktemp("same")
    write(folder / f"x{ending}", pa.Table.from_pylist(records, SCHEMA))
    lines = folder / f"x{ending}.jsonl"
    lines.write_bytes(
        b"".join(orjson.dumps({name: record[name] for name in SCHEMA.names}) + b"\n" for record in records)
    )
    config = Jsonl(name="s", path=[str(lines)])
    expected = jsonl.read(config, jsonl.list_files(config)[0])
    found = read(folder / f"x{ending}")
    assert len(found) == len(records)
    for row, other in zip(found, expected, strict=True):
        if isinstance(other, Document):
            assert row == other._replace(id=other.id.replace(".jsonl#", "#"))
        else:
            assert isinstance(row, Rejected)
            assert isinstance(other, Rejected)
            assert (row.record, row.reason) == (other.record, other.reason)


@pytest.mark.parametrize("ending", [".parquet", ".feather", ".arrow"])
def test_texts_as_bytes_are_decoded_and_what_is_not_utf8_is_rejected(tmp_path, ending):
    texts = [b"good", "écrit".encode(), b"bad \xff", b"last"]
    as_bytes = pa.table({"text": pa.array(texts, pa.binary())})
    as_text = pa.table({"text": pa.array(texts, pa.binary()).view(pa.string()), "other": [1, 2, 3, 4]})
    for table in (as_bytes, as_text):
        write(tmp_path / f"x{ending}", table)
        found = read(tmp_path / f"x{ending}")
        assert [row.text if isinstance(row, Document) else getattr(row, "reason", None) for row in found] == [
            "good",
            "écrit",
            "invalid UTF-8",
            "last",
        ]
        assert [row.record for row in found if isinstance(row, Rejected)] == [3]


def test_other_text_types_are_texts(tmp_path):
    for kind in (pa.large_string(), pa.dictionary(pa.int32(), pa.string())):
        write(tmp_path / "x.arrow", pa.table({"text": pa.array(["a", "b", "a"], pa.string()).cast(kind)}))
        assert [row.text for row in read(tmp_path / "x.arrow") if isinstance(row, Document)] == ["a", "b", "a"]


def test_every_row_is_rejected_where_the_column_is_missing(tmp_path):
    write(tmp_path / "x.parquet", pa.table({"body": ["a", "b"], "id": ["1", "2"]}))
    found = read(tmp_path / "x.parquet")
    assert [(row.record, row.reason) for row in found if isinstance(row, Rejected)] == [
        (1, "no field 'text'"),
        (2, "no field 'text'"),
    ]
    found = read(tmp_path / "x.parquet", text_field="body", metadata_fields=[])
    assert found == [Document("s/x.parquet#1", "a", "s", "s"), Document("s/x.parquet#2", "b", "s", "s")]


@pytest.mark.parametrize("ending", [".parquet", ".feather", ".arrow"])
def test_a_damaged_file_is_rejected_and_never_fatal(tmp_path, ending):
    path = tmp_path / f"x{ending}"
    table = pa.table({"text": [f"text number {i}" for i in range(100)]})
    write(path, table)
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[:-5] + b"\xff" * 5, b"", b"hello"):
        path.write_bytes(damaged)
        found = read(path)
        if ending != ".parquet" and damaged.endswith(b"\xff" * 5):  # the footer, or the mark of the end
            assert sum(isinstance(row, Document) for row in found) == 100
            continue
        assert isinstance(found[-1], Unread)
        assert found[-1].after_record == len(found) - 1
        assert [row.text for row in found[:-1] if isinstance(row, Document)] == table["text"].to_pylist()[
            : len(found) - 1
        ]


@pytest.mark.parametrize("codec", ["zstd", "lz4"])
@pytest.mark.parametrize("ending", [".feather", ".arrow"])
def test_a_compressed_batch_that_expands_too_far_is_rejected_before_it_is_decompressed(tmp_path, ending, codec):
    path = tmp_path / f"x{ending}"
    new = pa.ipc.new_file if ending == ".feather" else pa.ipc.new_stream
    repeated = pa.array(["page " * 20_000_000]).dictionary_encode()
    for bomb in (pa.table({"text": ["page " * 20_000_000]}), pa.table({"text": repeated})):
        options = pa.ipc.IpcWriteOptions(compression=codec)
        with new(str(path), bomb.schema, options=options) as writer:
            writer.write_table(bomb)
        before = pa.default_memory_pool().bytes_allocated()
        (found,) = read(path, max_compression_ratio=50)
        assert isinstance(found, Unread)
        assert found.reason == "expands beyond max_compression_ratio"
        assert pa.default_memory_pool().bytes_allocated() == before
        (found,) = read(path, max_compression_ratio=1e6)
        assert isinstance(found, Document)


@pytest.mark.parametrize("codec", [None, "zstd", "lz4"])
def test_compressed_batches_of_every_shape_are_read_whole(tmp_path, codec):
    """Nested, empty and dictionary columns, several batches, and padding of 64 bytes after the magic word."""
    rows = [{"text": f"text {k}", "tags": ["a"] * (k % 3), "n": {"k": k}, "word": "ab"[k % 2]} for k in range(500)]
    table = pa.Table.from_pylist(rows)
    table = table.set_column(3, "word", table["word"].dictionary_encode())
    with pa.ipc.new_file(
        str(tmp_path / "x.arrow"), table.schema, options=pa.ipc.IpcWriteOptions(compression=codec)
    ) as w:
        w.write_table(table, max_chunksize=120)
    raw = (tmp_path / "x.arrow").read_bytes()
    (tmp_path / "y.arrow").write_bytes(raw[:8] + bytes(56) + raw[8:])
    for name in ("x.arrow", "y.arrow"):
        found = read(tmp_path / name)
        assert [row.text for row in found if isinstance(row, Document)] == table["text"].to_pylist()


@settings(max_examples=150)
@given(
    new=st.sampled_from([pa.ipc.new_file, pa.ipc.new_stream]),
    changes=st.dictionaries(st.floats(0, 1, exclude_max=True), st.integers(0, 255), min_size=1, max_size=3),
    kept=st.just(1.0) | st.floats(0, 1),
)
def test_a_file_with_any_bytes_changed_is_read_as_far_as_it_goes(tmp_path_factory, new, changes, kept):
    """Offsets that lead outside the data would end the process, and sizes of exabytes the machine's memory."""
    table = pa.table({"text": [f"text {k}" for k in range(90)], "d": pa.array(["a", "b"] * 45).dictionary_encode()})
    sink = pa.BufferOutputStream()
    with new(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_table(table, max_chunksize=30)
    raw = bytearray(sink.getvalue().to_pybytes())
    for place, byte in changes.items():
        raw[int(place * len(raw))] = byte
    path = tmp_path_factory.mktemp("changed") / "x.arrow"
    path.write_bytes(raw[: int(kept * len(raw))])
    found = read(path)
    assert len(found) <= 91
    assert all(isinstance(row, Document | Rejected | Unread) for row in found)


def test_a_footer_with_any_bit_turned_costs_its_file_and_nothing_more(tmp_path):
    """pyarrow ends the process at a footer that contradicts its own schema."""
    table = pa.table({"text": ["one", "two"], "more": [[1], [2]]})
    path = tmp_path / "x.parquet"
    pq.write_table(table, path, store_schema=False)
    raw = path.read_bytes()
    length = int.from_bytes(raw[-8:-4], "little")
    for at in range(length):
        changed = bytearray(raw)
        changed[at - 8 - length] ^= 1
        path.write_bytes(changed)
        assert all(isinstance(row, Document | Rejected | Unread) for row in read(path))


def test_of_a_file_with_a_damaged_page_the_other_row_groups_are_read(tmp_path):
    table = pa.table({"id": list(range(2000)), "text": [f"text {i * 2654435761 % 2**32}" for i in range(2000)]})
    pq.write_table(table, tmp_path / "x.parquet", row_group_size=200, compression="none")
    raw = bytearray((tmp_path / "x.parquet").read_bytes())
    about = pq.ParquetFile(tmp_path / "x.parquet").metadata.row_group(5)
    page = about.column(1).data_page_offset
    raw[page : page + 16] = bytes(16)
    (tmp_path / "x.parquet").write_bytes(raw)
    found = read(tmp_path / "x.parquet")
    expected = [i for i in range(2000) if not 1000 <= i < 1200]
    assert [row.id for row in found if isinstance(row, Document)] == [f"s/x.parquet#{i}" for i in expected]
    (lost,) = (row for row in found if not isinstance(row, Document))
    assert isinstance(lost, Unread)
    assert lost.after_record == 1000
    assert lost.of == len(raw)
    assert lost.bytes == sum(about.column(i).total_compressed_size for i in range(2))


@pytest.mark.parametrize("new", [pa.ipc.new_file, pa.ipc.new_stream])
def test_of_a_cut_arrow_file_the_batches_before_the_cut_are_read(tmp_path, new):
    table = pa.table({"text": [f"text {i * 2654435761 % 2**32}" for i in range(2000)]})
    with new(str(tmp_path / "x.arrow"), table.schema) as writer:
        writer.write_table(table, max_chunksize=200)
    raw = (tmp_path / "x.arrow").read_bytes()
    (tmp_path / "x.arrow").write_bytes(raw[: len(raw) // 2])
    *found, lost = read(tmp_path / "x.arrow")
    assert [row.text for row in found if isinstance(row, Document)] == table["text"].to_pylist()[: len(found)]
    assert len(found) >= 800
    assert isinstance(lost, Unread)
    assert (lost.after_record, lost.missing) == (len(found), True)


@pytest.mark.parametrize("ending", [".parquet", ".arrow"])
def test_values_that_python_cannot_hold_are_given_as_text(tmp_path, ending):
    columns = {
        "late": pa.array([0, 2**62], pa.timestamp("us")),
        "early": pa.array([0, -(10**15)], pa.timestamp("ms")),
        "zone": pa.array([0, 1], pa.timestamp("us", "Nowhere/Land")),
        "day": pa.array([0, 2**31 - 1], pa.int32()).cast(pa.date32()),
        "long": pa.array([1, 2**62], pa.duration("us")),
        "nested": pa.array([[{"t": 0}], [{"t": 2**62}]], pa.list_(pa.struct([("t", pa.timestamp("us"))]))),
        "nan": pa.array([float("nan"), float("inf")]),
        "decimal": pa.array([Decimal("1.50"), Decimal("12345678901234567890.12")], pa.decimal128(30, 2)),
    }
    write(tmp_path / f"x{ending}", pa.table({"id": [1, 2], "text": ["one", "two"], **columns}))
    found = read(tmp_path / f"x{ending}")
    assert [row.text for row in found if isinstance(row, Document)] == ["one", "two"]
    one, two = (orjson.loads(row.metadata or "") for row in found if isinstance(row, Document))
    assert one["late"].startswith("1970-01-01")
    assert "4611686018427387904" in two["late"] + str(two["nested"])
    assert two["early"].startswith("-29719-")
    assert "1970-01-01" in one["zone"]
    assert "Nowhere/Land" in one["zone"]
    assert (one["nan"], two["nan"]) == (None, None)
    assert two["decimal"] == "12345678901234567890.12"


@pytest.mark.parametrize("ending", [".parquet", ".arrow"])
@pytest.mark.parametrize("name", ["c{}", "x"])
def test_the_time_for_columns_grows_with_their_number(tmp_path, name, ending):
    names = ["text", *map(name.format, range(2_000))]
    write(tmp_path / f"a{ending}", pa.Table.from_arrays([pa.array(["t"])] * len(names), names))
    began = time.process_time()
    (found,) = read(tmp_path / f"a{ending}")
    assert isinstance(found, Document)
    assert len(orjson.loads(found.metadata or "")) == 2_000
    assert time.process_time() - began < 6  # it takes 0.5 s, and took 20


@pytest.mark.parametrize("ending", [".parquet", ".arrow"])
def test_columns_of_the_same_name_are_told_apart(tmp_path, ending):
    names = ["text", "x", "x", "text", "x.1"]
    table = pa.Table.from_arrays([pa.array([value]) for value in ("one", 1, 2, "two", 3)], names=names)
    write(tmp_path / f"x{ending}", table)
    (found,) = read(tmp_path / f"x{ending}")
    assert isinstance(found, Document)
    assert found.text == "one"
    assert orjson.loads(found.metadata or "") == {"x": 1, "x.2": 2, "text.1": "two", "x.1": 3}
    (found,) = read(tmp_path / f"x{ending}", metadata_fields=["x"])
    assert isinstance(found, Document)
    assert found.metadata == '{"x":1}'


def test_column_names_that_are_no_utf8_cost_their_file_and_nothing_more(tmp_path):
    write(tmp_path / "x.arrow", pa.table({"text": ["one"], "name": ["two"]}))
    raw = (tmp_path / "x.arrow").read_bytes()
    (tmp_path / "x.arrow").write_bytes(raw.replace(b"name", b"n\xff\xfee"))
    (lost,) = read(tmp_path / "x.arrow")
    assert isinstance(lost, Unread)
    assert lost.file.endswith("x.arrow")


def test_millions_of_rows_without_a_text_are_rejected_at_once(tmp_path):
    size = 5_000_000
    texts = pa.chunked_array([pa.array(["a", None, "b"]), pa.nulls(size, pa.string()), pa.array(["c"])])
    pq.write_table(pa.table({"text": texts}), tmp_path / "x.parquet")
    started = time.process_time()
    found = read(tmp_path / "x.parquet")
    assert time.process_time() - started < 10
    assert [(row.id, row.text) for row in found if isinstance(row, Document)] == [
        ("s/x.parquet#1", "a"),
        ("s/x.parquet#3", "b"),
        (f"s/x.parquet#{size + 4}", "c"),
    ]
    assert sum(row.count for row in found if isinstance(row, Rejected)) == size + 1
    assert len(found) < 2000


def test_a_text_inside_a_struct_is_found_whatever_columns_are_chosen(tmp_path):
    write(tmp_path / "x.parquet", pa.table({"data": [{"text": "inner", "k": 1}], "n": [2]}))
    for fields, metadata in (({}, '{"data":{"k":1},"n":2}'), ({"metadata_fields": ["n"]}, '{"n":2}')):
        (found,) = read(tmp_path / "x.parquet", text_field="data.text", **fields)
        assert found == Document("s/x.parquet#1", "inner", "s", "s", None, metadata)


def test_repeated_texts_of_a_dictionary_are_read_in_small_batches(tmp_path):
    indices = pa.array([0] * 3000, pa.int32())
    table = pa.table({"text": pa.DictionaryArray.from_arrays(indices, pa.array(["long text " * 10_000]))})
    write(tmp_path / "x.arrow", table)
    config = Parquet(name="s", path=[str(tmp_path / "x.arrow")], max_compression_ratio=10_000)
    (file,) = parquet.list_files(config)
    with (tmp_path / "x.arrow").open("rb") as handle:
        batches = parquet._arrow_batches(handle, None, 200.0)
        sizes = [batch.nbytes for batch in batches if not isinstance(batch, parquet._Lost)]
    assert max(sizes) < 40_000_000
    assert sum(isinstance(row, Document) for row in parquet.read(config, file)) == 3000


@pytest.mark.parametrize("ending", [".parquet", ".arrow"])
def test_a_file_of_kilobytes_does_not_become_gigabytes_of_text(tmp_path, ending):
    indices = pa.array([0] * 20_000, pa.int32())
    table = pa.table({"text": pa.DictionaryArray.from_arrays(indices, pa.array(["long text " * 10_000]))})
    pq.write_table(table, tmp_path / "x.parquet")
    with pa.OSFile(str(tmp_path / "x.arrow"), "wb") as out, pa.ipc.new_file(out, table.schema) as writer:
        writer.write_table(table)
    *documents, last = read(tmp_path / f"x{ending}")
    assert isinstance(last, Unread)
    assert (last.reason, last.bytes) == ("expands beyond max_compression_ratio", last.of)
    assert len(documents) * 100_000 <= 16 * 2**20 + 200 * last.of


def test_a_row_group_is_read_in_small_batches(tmp_path):
    texts = [str(index) * 100_000 for index in range(1000, 1400)]
    pages = {"use_dictionary": False, "write_batch_size": 1, "data_page_size": 1 << 20}
    pq.write_table(pa.table({"text": texts}), tmp_path / "x.parquet", row_group_size=400, **pages)
    before = pa.total_allocated_bytes()
    config = Parquet(name="s", path=[str(tmp_path / "x.parquet")])
    peak = 0
    rows = 0
    for row in parquet.read(config, parquet.list_files(config)[0]):
        assert isinstance(row, Document)
        assert row.text == texts[rows]
        rows += 1
        peak = max(peak, pa.total_allocated_bytes() - before)
    assert rows == 400
    assert peak < sum(map(len, texts)) / 2


def test_a_dictionary_in_a_large_row_group_expands_in_small_batches(tmp_path):
    """One text, written once, in all rows of a group that other texts make too large to be held by dictionary."""
    long, rows = "long text " * 100_000, 400
    others = random.Random(0).randbytes(40_000_000).hex()
    repeated = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), pa.array([long]))
    table = pa.table({"text": repeated, "url": [others] + [""] * (rows - 1)})
    pq.write_table(table, tmp_path / "x.parquet", use_dictionary=["text"], store_schema=False)
    config = Parquet(name="s", path=[str(tmp_path / "x.parquet")], url_field="url", metadata_fields=[])
    (file,) = parquet.list_files(config)
    assert file.size < 100_000_000
    before, peak, texts = pa.total_allocated_bytes(), 0, 0
    with (tmp_path / "x.parquet").open("rb") as handle:
        for number, batch in enumerate(parquet._parquet_batches(handle, {"text", "url"}, 200.0)):
            assert not isinstance(batch, parquet._Lost)
            if number > 0:  # the first holds the other text
                peak = max(peak, batch.nbytes)
            texts += sum(text == long for text in batch["text"].to_pylist())
    assert texts == rows
    assert peak <= 20_000_000
    assert pa.total_allocated_bytes() - before < 20_000_000


def test_a_long_list_of_one_value_is_rejected_before_it_is_made(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["a"], "list": pa.array([np.zeros(4_000_000, np.int64)])}), path)
    assert path.stat().st_size < 2000
    (found,) = read(path)
    assert isinstance(found, Unread)
    assert found.reason == "expands beyond max_compression_ratio"
    assert isinstance(read(path, metadata_fields=[])[0], Unread)
    pq.write_table(pa.table({"text": ["a"] * 9, "list": pa.array([list(range(1000))] * 9)}), path)
    assert len(read(path)) == 9


def test_rows_that_show_the_same_bytes_are_read_a_few_at_a_time(tmp_path):
    """An Arrow file of a megabyte whose texts are 60 GB: views may overlap."""
    rows, text = 60_000, b"x" * 1_000_000
    views = np.tile(np.array([len(text), int.from_bytes(b"xxxx", "little"), 0, 0], np.int32), (rows, 1))
    column = pa.Array.from_buffers(pa.string_view(), rows, [None, pa.py_buffer(views.tobytes()), pa.py_buffer(text)])
    table = pa.table({"text": column})
    with (tmp_path / "a.arrow").open("wb") as handle, pa.ipc.new_stream(handle, table.schema) as writer:
        writer.write_table(table)
    config = Parquet(name="s", path=[str(tmp_path / "a.arrow")])
    found = parquet.read(config, parquet.list_files(config)[0])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(100):
        assert len(next(found).text) == len(text)  # type: ignore[union-attr]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400_000  # KiB
    hidden = pa.table({"text": ["a"], "more": pa.array([[1, 2]], pa.list_view(pa.int64()))})
    with (tmp_path / "b.arrow").open("wb") as handle, pa.ipc.new_stream(handle, hidden.schema) as writer:
        writer.write_table(hidden)
    (unread,) = read(tmp_path / "b.arrow")
    assert isinstance(unread, Unread)
    assert "which is not read: cast it" in unread.reason
