import pyarrow as pa
import pytest
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st

from pipeline.store import files, shards


def table(texts: list[str]) -> pa.Table:
    columns = {"id": [f"s/f#{i}" for i in range(len(texts))], "text": texts}
    rest = {name: [None if name == "url" else "x"] * len(texts) for name in ("source", "domain", "url", "metadata")}
    return pa.table({**columns, **rest}, shards.DOCUMENT_SCHEMA)


@given(texts=st.lists(st.text(st.characters(exclude_categories=["Cs"]))))
def test_a_shard_gives_back_what_was_written(tmp_path_factory, texts):
    path = str(tmp_path_factory.mktemp("s") / "a.arrow")
    shards.write_table(path, table(texts), "made-by-this")
    assert shards.read_table(path).to_pylist() == table(texts).to_pylist()
    assert shards.is_current(path, "made-by-this")
    assert not shards.is_current(path, "made-by-that")
    assert shards.read_size(path) == (len(texts), sum(len(text.encode()) for text in texts))


def test_the_size_of_what_is_no_file_of_documents_is_refused_by_name(tmp_path):
    shards.write_table(str(tmp_path / "ledger.arrow"), pa.table({"value": [1.0]}), "f")
    with pytest.raises(shards.DamagedFile, match=r"ledger\.arrow.*Delete it"):
        shards.read_size(str(tmp_path / "ledger.arrow"))
    with pytest.raises(FileNotFoundError):
        shards.read_size(str(tmp_path / "absent.arrow"))


def test_datasets_opens_a_shard(tmp_path):
    shards.write_table(str(tmp_path / "a.arrow"), table(["one", "two"]), "f")
    assert Dataset.from_file(str(tmp_path / "a.arrow"))["text"][:] == ["one", "two"]


@pytest.mark.parametrize("keep", [0.0, 0.2, 0.5, 0.9, 0.99])
def test_a_truncated_shard_is_refused_by_name(tmp_path, keep):
    path = tmp_path / "a.arrow"
    shards.write_table(str(path), table(["some text"] * 500), "f")
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    with pytest.raises(shards.DamagedFile, match=r"a\.arrow.*Delete it and run the build again"):
        shards.read_table(str(path))


def test_a_stream_that_lost_whole_batches_is_refused(tmp_path):
    path = tmp_path / "a.arrow"
    whole = table(["a", "b"]).replace_schema_metadata({shards.ROWS: b"3"})
    with pa.ipc.new_stream(str(path), whole.schema) as writer:
        writer.write_table(whole)
    with pytest.raises(shards.DamagedFile, match="holds 2 rows where 3 were written"):
        shards.read_table(str(path))


def test_a_failed_write_leaves_neither_file_nor_remains(tmp_path):
    with pytest.raises(KeyError), files.replacing(str(tmp_path / "a.json")) as handle:
        handle.write(b"half")
        raise KeyError
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_keeps_the_earlier_file(tmp_path):
    path = str(tmp_path / "a.json")
    files.write_json(path, {"kept": True})
    with pytest.raises(KeyError), files.replacing(path) as handle:
        handle.write(b"half")
        raise KeyError
    assert files.read_json(path) == {"kept": True}


def test_object_stores_hold_shards_too():
    path = "memory://bucket/build/a.arrow"
    shards.write_table(path, table(["here"]), "f")
    assert shards.read_table(path)["text"].to_pylist() == ["here"]
    assert shards.read_fingerprint(path) == "f"
    assert files.list_files("memory://bucket/build", ".arrow") == ["a.arrow"]


def test_a_fingerprint_tells_parts_apart_and_ignores_the_order_of_keys():
    assert files.fingerprint({"a": 1, "b": 2}) == files.fingerprint({"b": 2, "a": 1})
    assert files.fingerprint("ab", "c") != files.fingerprint("a", "bc")
    assert files.fingerprint(1) != files.fingerprint("1")
