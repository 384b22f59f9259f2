from __future__ import annotations

import gzip
import json
import pydoc_data.topics
import random
from pathlib import Path

import kenlm
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sentencepiece

from pipeline.stages.perplexity import ccnet, from_files, scoring
from pipeline.stages.perplexity.from_files import Config, NothingToTrainOn, train

TEXTS = [text for _, text in sorted(pydoc_data.topics.topics.items())]
FAST = {"order": 3, "estimator": "own"}


def as_jsonl(path: Path, texts: list[str]) -> str:
    with gzip.open(path, "wt", encoding="utf-8") as handle:
        handle.writelines(json.dumps({"text": text}) + "\n" for text in texts)
    return str(path)


def test_the_model_is_the_same_for_any_order_split_format_and_copies_of_the_texts(tmp_path: Path):
    one = train(Config(inputs=[as_jsonl(tmp_path / "all.jsonl.gz", TEXTS)], **FAST), str(tmp_path / "one.arpa"))
    shuffled = random.Random(1).sample(TEXTS, len(TEXTS))
    pq.write_table(pa.table({"text": shuffled[40:] + shuffled[:50]}), tmp_path / "rest.parquet")
    inputs = [str(tmp_path / "rest.parquet"), as_jsonl(tmp_path / "z.jsonl.gz", shuffled[:40])]
    two = train(Config(inputs=inputs, **FAST), str(tmp_path / "two.arpa"))
    assert (tmp_path / "one.arpa").read_bytes() == (tmp_path / "two.arpa").read_bytes()
    assert one["documents"] == two["documents"] == len(set(TEXTS))
    assert kenlm.Model(str(tmp_path / "one.arpa")).order == 3


def test_above_max_bytes_the_texts_with_the_lowest_hashes_are_taken_in_bounded_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = as_jsonl(tmp_path / "all.jsonl.gz", TEXTS)
    config = Config(inputs=[path], max_bytes="100KB", **FAST)  # type: ignore[arg-type]
    facts = train(config, str(tmp_path / "one.arpa"))
    assert 80_000 < facts["bytes"] - 4 * facts["documents"] <= 100_000
    monkeypatch.setattr(from_files, "_BATCH", 3)
    train(config, str(tmp_path / "two.arpa"))
    assert (tmp_path / "one.arpa").read_bytes() == (tmp_path / "two.arpa").read_bytes()


def test_a_model_that_is_there_is_not_trained_again_and_a_changed_input_is(tmp_path: Path):
    path, output = as_jsonl(tmp_path / "all.jsonl.gz", TEXTS[:20]), str(tmp_path / "en.arpa")
    assert not train(Config(inputs=[path], **FAST), output)["reused"]
    assert train(Config(inputs=[path], **FAST), output)["reused"]
    assert not train(Config(inputs=[path], **{**FAST, "order": 2}), output)["reused"]
    as_jsonl(tmp_path / "all.jsonl.gz", TEXTS[:21])
    assert not train(Config(inputs=[path], **{**FAST, "order": 2}), output)["reused"]


def test_with_a_sentencepiece_model_it_is_a_model_of_pieces(tmp_path: Path):
    with (tmp_path / "sp.model").open("wb") as handle:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(TEXTS[:20]), model_writer=handle, vocab_size=300, minloglevel=2
        )
    pieces, output = str(tmp_path / "sp.model"), str(tmp_path / "en.arpa")
    train(Config(inputs=[as_jsonl(tmp_path / "all.jsonl.gz", TEXTS)], sentencepiece=pieces, **FAST), output)
    known = {p for batch in ccnet.pieces(pa.array(TEXTS), pieces) for text in batch for p in text}
    model = kenlm.Model(output)
    assert all(piece in model for piece in known)
    (seen, noise), _ = scoring.piece_perplexity(pa.array([TEXTS[30], "qqx zzv 9jk wqq " * 20]), output, pieces)
    assert seen < noise


def test_plain_text_and_a_curated_corpus_are_read(tmp_path: Path):
    (tmp_path / "a.txt").write_text("\n\n".join(TEXTS), encoding="utf-8")
    assert train(Config(inputs=[str(tmp_path / "a.txt")], **FAST), str(tmp_path / "a.arpa"))["documents"] > 1
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    (corpus / "manifest.json").write_text("{}")
    table = pa.table({"text": TEXTS[:9], "id": list("abcdefghi")})
    with pa.ipc.new_stream(str(corpus / "data-00000-of-00001.arrow"), table.schema) as writer:
        writer.write_table(table)
    assert train(Config(inputs=[str(corpus)], **FAST), str(tmp_path / "b.arpa"))["documents"] == 9


def test_a_wrong_field_is_told_with_file_record_and_remedy(tmp_path: Path):
    path = as_jsonl(tmp_path / "all.jsonl.gz", TEXTS[:5])
    with pytest.raises(NothingToTrainOn, match=r"(?s)all\.jsonl\.gz: 5 of 5 records.*record 1.*text_field"):
        train(Config(inputs=[path], text_field="body", **FAST), str(tmp_path / "x.arpa"))
    (tmp_path / "empty.txt").write_text("")
    with pytest.raises(NothingToTrainOn, match="no sentence"):
        train(Config(inputs=[str(tmp_path / "empty.txt")], **FAST), str(tmp_path / "x.arpa"))
    assert not (tmp_path / "x.arpa").exists()
