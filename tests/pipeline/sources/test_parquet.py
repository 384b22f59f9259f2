"""Parquet and Arrow files: the same documents as from the same records in JSON lines."""

from __future__ import annotations

from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.sources import jsonl, parquet
from pipeline.sources.base import Document, Rejected
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


def read(path: Path, **fields) -> list[Document | Rejected]:
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
            assert (row.record, row.reason) == (other.record, other.reason)


@pytest.mark.parametrize("ending", [".parquet", ".feather", ".arrow"])
def test_texts_as_bytes_are_decoded_and_what_is_not_utf8_is_rejected(tmp_path, ending):
    texts = [b"good", "écrit".encode(), b"bad \xff", b"last"]
    as_bytes = pa.table({"text": pa.array(texts, pa.binary())})
    as_text = pa.table({"text": pa.array(texts, pa.binary()).view(pa.string()), "other": [1, 2, 3, 4]})
    for table in (as_bytes, as_text):
        write(tmp_path / f"x{ending}", table)
        found = read(tmp_path / f"x{ending}")
        assert [row.text if isinstance(row, Document) else row.reason for row in found] == [
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
        if damaged and ending == ".arrow" and len(damaged) > 100:
            continue  # a stream that ends early is complete as far as it goes; its last bytes are padding
        assert isinstance(found[-1], Rejected)
        assert found[-1].reason == "the file is damaged"
        assert found[-1].record == len(found)
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
        assert isinstance(found, Rejected)
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
    damaged = [row for row in found if isinstance(row, Rejected) and "damaged" in row.reason]
    assert damaged in ([], found[-1:])


def test_repeated_texts_of_a_dictionary_are_read_in_small_batches(tmp_path):
    indices = pa.array([0] * 3000, pa.int32())
    table = pa.table({"text": pa.DictionaryArray.from_arrays(indices, pa.array(["long text " * 10_000]))})
    write(tmp_path / "x.arrow", table)
    config = Parquet(name="s", path=[str(tmp_path / "x.arrow")])
    (file,) = parquet.list_files(config)
    with (tmp_path / "x.arrow").open("rb") as handle:
        sizes = [batch.nbytes for batch in parquet._arrow_batches(handle, None, 200.0)]
    assert max(sizes) < 40_000_000
    assert sum(isinstance(row, Document) for row in parquet.read(config, file)) == 3000


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
    others = "".join(f"{number:08x}" for number in range(10_000_000))  # 80 MB
    repeated = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), pa.array([long]))
    table = pa.table({"text": repeated, "url": [others] + [""] * (rows - 1)})
    pq.write_table(table, tmp_path / "x.parquet", use_dictionary=["text"], store_schema=False)
    config = Parquet(name="s", path=[str(tmp_path / "x.parquet")], url_field="url", metadata_fields=[])
    (file,) = parquet.list_files(config)
    assert file.size < 100_000_000
    before, peak, texts = pa.total_allocated_bytes(), 0, 0
    with (tmp_path / "x.parquet").open("rb") as handle:
        for number, batch in enumerate(parquet._parquet_batches(handle, {"text", "url"}, 200.0)):
            if number > 0:  # the first holds the other text
                peak = max(peak, batch.nbytes)
            texts += sum(text == long for text in batch["text"].to_pylist())
    assert texts == rows
    assert peak <= 20_000_000
    assert pa.total_allocated_bytes() - before < 20_000_000
