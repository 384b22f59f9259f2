"""A sample for `mill plan`: spread over the files, and what it says of the text in them."""

from __future__ import annotations

import gzip
import json
import random
from collections import Counter

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import MillError
from pipeline.build.build import Build
from pipeline.curation import recipe, text_sample
from pipeline.sources import READERS
from pipeline.sources.base import Document

COUNT, FILES = 3000, 20


@pytest.fixture(scope="module")
def rows() -> list[dict]:
    draw = random.Random(1)
    words = ["été", "river", "字", "stone", "lamp"]
    return [{"text": " ".join(draw.choices(words, k=150)), "other": "x" * 300, "file": n % FILES} for n in range(COUNT)]


def build(path: str, **source: str) -> Build:
    kind = {"kind": "jsonl", "name": "s", "path": path, **source}
    return Build("unused", recipe.parse(json.dumps({"name": "r", "sources": [kind]}), recipe.Recipe))


def write(folder, rows, ending: str) -> None:
    for file in range(FILES):
        own = [row for row in rows if row["file"] == file]
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in own).encode()
        path = folder / f"{file:02}{ending}"
        if ending.endswith(".gz"):
            path.write_bytes(gzip.compress(lines))
        elif ending == ".parquet":
            pq.write_table(pa.Table.from_pylist(own), path, row_group_size=50)
        else:
            path.write_bytes(lines)


@pytest.mark.parametrize(("ending", "kind"), [(".jsonl", "jsonl"), (".jsonl.gz", "jsonl"), (".parquet", "parquet")])
def test_a_tenth_of_the_text_tells_how_much_there_is(tmp_path, rows, ending, kind):
    write(tmp_path, rows, ending)
    text = sum(len(row["text"].encode()) for row in rows)
    sample = text_sample.take(build(f"{tmp_path}/*{ending}", kind=kind), text // 10)
    assert text // 10 <= sample.size < text // 10 + 8 * 1200
    assert sample.text == pytest.approx(text, rel=0.1)
    files = Counter(json.loads(json.loads(line.json)["metadata"])["file"] for line in sample.lines["s"])
    assert len(files) == 8
    assert max(files.values()) < 2 * min(files.values())


def test_files_of_an_object_store_tell_as_much(tmp_path, rows, store_cache):  # noqa: ARG001
    write(tmp_path, rows, ".jsonl")
    for path in tmp_path.glob("*.jsonl"):
        fsspec.filesystem("memory").pipe_file(f"/bucket/{path.name}", path.read_bytes())
    size = sum(len(row["text"].encode()) for row in rows) // 10
    local, stored = (text_sample.take(build(f"{at}/*.jsonl"), size) for at in (tmp_path, "memory://bucket"))
    assert (stored.lines, stored.text) == (local.lines, local.text)


def test_all_of_the_text_is_the_sample_where_it_is_small(tmp_path, rows):
    write(tmp_path, rows, ".jsonl")
    text = sum(len(row["text"].encode()) for row in rows)
    sample = text_sample.take(build(f"{tmp_path}/*.jsonl"), 10 * text)
    assert (sample.size, sample.text, sample.documents) == (text, text, COUNT)


def test_what_is_written_reads_as_the_documents_and_is_counted_in_bytes_of_text(tmp_path, rows):
    write(tmp_path, rows, ".jsonl")
    sample = text_sample.take(build(f"{tmp_path}/*.jsonl"), 10**9)
    (folder := tmp_path / "out").mkdir()
    (source,), size = text_sample.write(sample, folder, every=4)
    reader = READERS["jsonl"]
    texts = [r.text for f in reader.list_files(source) for r in reader.read(source, f) if isinstance(r, Document)]
    assert size == sum(len(text.encode()) for text in texts)
    assert texts == [json.loads(line.json)["text"] for line in sample.lines["s"][::4]]


def test_sources_without_text_are_refused(tmp_path):
    (tmp_path / "a.jsonl").write_text("{}\n")
    with pytest.raises(MillError, match="hold no text to measure with"):
        text_sample.take(build(f"{tmp_path}/*.jsonl"), 1000)
