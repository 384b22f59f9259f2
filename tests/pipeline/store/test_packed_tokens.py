import shutil

import numpy as np
import pyarrow as pa
import pytest

from pipeline.store import packed_tokens
from pipeline.store.files import DamagedFile


def write(folder, shards, vocab_size=100):
    """Shards are lists of documents, a document a list of ids; every third document is read twice."""
    count = 0
    for index, documents in enumerate(shards):
        lengths = np.array([len(d) for d in documents], np.int64)
        rows = np.arange(count, count + len(documents))
        table = pa.table(
            {
                "start": np.cumsum(lengths) - lengths,
                "length": lengths.astype(np.int32),
                "id": [f"doc{i}" for i in rows],
                "domain": ["even" if i % 2 == 0 else "odd" for i in rows],
                "bytes": lengths * 4,
                "repeats": np.where(rows % 3 == 0, 2, 1).astype(np.int32),
                "sentences": [list(range(0, len(d), 2)) for d in documents],
            }
        )
        tokens = np.concatenate([np.zeros(0, int), *map(np.array, documents)]).astype(
            packed_tokens.token_dtype(vocab_size)
        )
        packed_tokens.write_shard(str(folder), index, tokens, table, f"made-by-{index}")
        count += len(documents)
    return packed_tokens.write_manifest(str(folder), list(range(len(shards))), vocab_size, {"eos": 0}, "tokenizer")


SHARDS = [[[1, 2, 3, 0], [4, 0]], [], [[5, 6, 0], [0], [7, 8, 9, 10, 0]]]
FLAT = [t for shard in SHARDS for document in shard for t in document]


@pytest.mark.parametrize(("vocab_size", "width"), [(65536, 2), (65537, 4)])
def test_tokens_are_read_back_in_the_narrowest_dtype_that_holds_the_vocabulary(tmp_path, vocab_size, width):
    write(tmp_path, SHARDS, vocab_size)
    reader = packed_tokens.PackedTokens(str(tmp_path))
    assert len(reader) == len(FLAT)
    assert reader.dtype.itemsize == width
    assert (tmp_path / "tokens-00000.bin").stat().st_size == 6 * width
    for start in range(len(FLAT) + 1):
        for stop in range(start, len(FLAT) + 1):
            assert reader.tokens(start, stop).tolist() == FLAT[start:stop]


def test_document_bounds_run_over_all_shards(tmp_path):
    write(tmp_path, SHARDS)
    reader = packed_tokens.PackedTokens(str(tmp_path))
    found = [reader.tokens(a, b).tolist() for a, b in zip(reader.starts, reader.starts[1:], strict=False)]
    assert found == [document for shard in SHARDS for document in shard]
    assert reader.documents["id"].to_pylist() == [f"doc{i}" for i in range(5)]
    assert reader.repeats.tolist() == [2, 1, 1, 2, 1]


def test_manifest_counts_tokens_once_and_as_often_as_training_reads_them(tmp_path):
    manifest = write(tmp_path, SHARDS)
    assert (manifest["documents"], manifest["tokens"], manifest["bytes"]) == (5, 15, 60)
    assert manifest["repeated_tokens"] == 15 + 4 + 1
    assert manifest["domains"]["even"] == {"documents": 3, "bytes": 48, "tokens": 12, "repeated_tokens": 16}
    assert manifest["domains"]["odd"] == {"documents": 2, "bytes": 12, "tokens": 3, "repeated_tokens": 4}


def test_an_empty_split_opens(tmp_path):
    write(tmp_path, [[], []])
    reader = packed_tokens.PackedTokens(str(tmp_path))
    assert len(reader) == 0
    assert reader.starts.tolist() == [0]
    assert reader.tokens(0, 0).tolist() == []


def test_a_truncated_file_is_refused_with_its_name_and_the_remedy(tmp_path):
    write(tmp_path, SHARDS)
    path = tmp_path / "tokens-00002.bin"
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(
        packed_tokens.DamagedTokens, match=r"tokens-00002\.bin: 16 bytes where 18 .* run the build again"
    ):
        packed_tokens.PackedTokens(str(tmp_path))
    path.unlink()
    with pytest.raises(packed_tokens.DamagedTokens, match="not there"):
        packed_tokens.PackedTokens(str(tmp_path))


def test_documents_of_another_run_are_refused(tmp_path):
    write(tmp_path, SHARDS)
    other = tmp_path / "other"
    write(other, [SHARDS[1], SHARDS[0], SHARDS[2]])
    (tmp_path / "documents-00000.arrow").write_bytes((other / "documents-00001.arrow").read_bytes())
    with pytest.raises(DamagedFile, match=r"documents-00000\.arrow: not as it was written.*Delete"):
        _ = packed_tokens.PackedTokens(str(tmp_path)).documents
    shutil.rmtree(tmp_path / ".checksums")
    with pytest.raises(packed_tokens.DamagedTokens, match=r"documents-00000\.arrow: not the file .*Delete"):
        _ = packed_tokens.PackedTokens(str(tmp_path)).documents


def test_an_edited_manifest_is_refused(tmp_path):
    write(tmp_path, SHARDS)
    path = tmp_path / "manifest.json"
    path.write_text(path.read_text().replace('"vocab_size": 100', '"vocab_size": 200'))
    with pytest.raises(DamagedFile, match=r"manifest\.json: not as it was written.* Delete it and run"):
        packed_tokens.PackedTokens(str(tmp_path))
    shutil.rmtree(tmp_path / ".checksums")
    with pytest.raises(packed_tokens.DamagedTokens, match=r"manifest\.json: changed"):
        packed_tokens.PackedTokens(str(tmp_path))


def test_sentences_are_found_over_all_shards(tmp_path):
    write(tmp_path, SHARDS)
    reader = packed_tokens.PackedTokens(str(tmp_path))
    found = [reader.tokens(*span).tolist() for span in zip(reader.sentence_starts, reader.sentence_ends, strict=True)]
    assert found == [d[i : i + 2] for shard in SHARDS for d in shard for i in range(0, len(d), 2)]
    assert np.diff(reader.sentence_bounds).tolist() == [-(-len(d) // 2) for shard in SHARDS for d in shard]


def test_a_range_outside_the_tokens_is_an_error(tmp_path):
    write(tmp_path, SHARDS)
    reader = packed_tokens.PackedTokens(str(tmp_path))
    with pytest.raises(IndexError, match="holds"):
        reader.tokens(3, 99)
