"""Tokenizers on real text: our merges beside Hugging Face's, our likelihood beside SentencePiece's, equal files."""

import gzip
import hashlib
import itertools
import json
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import sentencepiece
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from pipeline.tokenization.config import TokenizerConfig
from pipeline.tokenization.encoding.encode import Encoder
from pipeline.tokenization.formats import export
from pipeline.tokenization.training import counts, train
from tests.pipeline.tokenization.training.test_counts import CONFIGS, as_counter, by_engine

BYTES = TokenizerConfig(name="bytes", algorithm="bpe", vocab_size=16_000)
EACH = [
    BYTES,
    TokenizerConfig(name="pieces", algorithm="wordpiece", vocab_size=8_000),
    TokenizerConfig(name="unigram", algorithm="unigram", vocab_size=8_000),
]


def prose(shared: Path, size: int) -> list[str]:
    """About ``size`` bytes of documents, every file of the collection in turn."""

    def lines(path: Path) -> Iterator[str]:
        with gzip.open(path, "rt", encoding="utf-8", newline="\n") as stream:
            yield from (json.loads(line)["text"] for line in stream)

    streams = [lines(path) for path in sorted(shared.glob("prose/*/*.jsonl.gz"))]
    found = [text for text in itertools.chain.from_iterable(itertools.zip_longest(*streams)) if text]
    sizes = np.cumsum([len(text.encode()) for text in found])
    return found[: int(np.searchsorted(sizes, size)) + 1]


@pytest.mark.slow
def test_byte_bpe_equals_hugging_faces_merges_on_30_mb(shared):
    texts = prose(shared, 30_000_000)
    learned = train.train(counts.count(pa.array(texts), BYTES), BYTES)
    reference = Tokenizer(models.BPE())
    reference.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    trainer = trainers.BpeTrainer(
        vocab_size=16_000,
        min_frequency=2,
        show_progress=False,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    reference.train_from_iterator(texts, trainer)
    model = json.loads(reference.to_str())["model"]
    assert learned.merges == [tuple(pair) for pair in model["merges"]]
    assert learned.pieces == sorted(model["vocab"], key=model["vocab"].get)


def file_hashes(texts: list[str], shard_count: int) -> list[str]:
    """SHA-256 of each tokenizer.json from counts made shard by shard, partition by partition."""
    found = []
    for config in EACH:
        tables = [counts.count(pa.array(texts[i::shard_count]), config) for i in range(shard_count)]
        parts = [counts.merge(counts.partition(t, p) for t in tables) for p in range(counts.PARTITIONS)]
        made = export.to_json(train.train(pa.concat_tables(parts), config), config)
        found.append(hashlib.sha256(made).hexdigest())
    return found


@pytest.mark.slow
def test_four_processes_and_three_shard_sizes_write_the_same_files(shared):
    texts = prose(shared, 1_000_000)
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn"), max_tasks_per_child=1) as pool:
        runs = [pool.submit(file_hashes, texts, shard_count) for shard_count in (1, 3, 7, 7)]
        first, *others = [run.result() for run in runs]
    assert others == [first] * 3


@pytest.mark.slow
def test_unigram_is_as_likely_as_sentencepieces_on_held_out_text(shared, tmp_path):
    lines = [line for text in prose(shared, 4_000_000) for line in text.split("\n") if line.strip()]
    learn_from, held_out = [line for i, line in enumerate(lines) if i % 20], lines[::20]
    config = EACH[2]
    vocabulary = train.train(counts.count(pa.array(learn_from), config), config)
    (tmp_path / "text.txt").write_text("\n".join(learn_from), encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(tmp_path / "text.txt"),
        model_prefix=str(tmp_path / "model"),
        vocab_size=config.vocab_size,
        model_type="unigram",
        character_coverage=1.0,
        normalization_rule_name="nfkc",
        max_sentence_length=1 << 20,
        minloglevel=2,
    )
    theirs = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "model.model"))
    ours = export.to_tokenizer(vocabulary, config)
    unknown = min(vocabulary.scores[3:]) - 10  # for either model, as both engines have it
    our_scores = np.array(vocabulary.scores)
    our_scores[ours.token_to_id("<unk>")] = unknown
    their_scores = np.array([theirs.get_score(i) for i in range(theirs.get_piece_size())])
    their_scores[theirs.unk_id()] = unknown
    our_total = sum(our_scores[e.ids].sum() for e in ours.encode_batch(held_out, add_special_tokens=False))
    their_total = sum(their_scores[ids].sum() for ids in theirs.encode(held_out) if ids)
    assert our_total >= their_total * 1.01  # both are negative: at most 1 % less likely


@pytest.mark.slow
@pytest.mark.parametrize("config", EACH, ids=lambda c: c.name)
def test_real_text_of_every_kind_trains_and_encodes(shared, config):
    texts = prose(shared, 1_000_000)
    texts += [line for path in sorted(shared.glob("langid/*"))[:3] for line in _head(path)]
    tokenizer = export.to_tokenizer(train.train(counts.count(pa.array(texts), config), config), config)
    tokens = sum(len(block.tokens) for block in Encoder(tokenizer).encode(pa.array(texts)))
    size = sum(len(text.encode()) for text in texts)
    assert 1.0 < size / tokens < 8.0
    if config.byte_level:
        assert all(tokenizer.decode(tokenizer.encode(text).ids) == text for text in texts[:500])


@pytest.mark.slow
@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: c.model_dump_json(include=set(counts.counting_part(c))))
def test_pre_tokens_of_75_languages_are_the_engines(shared, config):
    with gzip.open(shared / "langid" / "lingua_sentences.tsv.gz", "rt", encoding="utf-8", newline="\n") as stream:
        texts = [line.rstrip("\n").split("\t")[1] for line in itertools.islice(stream, 0, None, 25)]
    texts += prose(shared, 300_000)
    assert as_counter(counts.count(pa.array(texts), config)) == by_engine(texts, config)


@pytest.mark.slow
def test_the_engine_encodes_every_pre_token_as_the_trainer_left_it(shared):
    counted = counts.count(pa.array(prose(shared, 4_000_000)), BYTES)
    words, letters = counted["word"].to_pylist(), export.byte_alphabet()
    order = sorted(range(256), key=letters.__getitem__)
    rank = np.argsort(order).astype(np.int32)
    symbols = rank[np.frombuffer("".join(words).encode(), np.uint8)]
    bounds = np.cumsum([0, *(len(word.encode()) for word in words)])
    alphabet = [bytes([byte]) for byte in order]
    frequency = counted["count"].to_numpy()
    train.learn(symbols, bounds, frequency, alphabet, np.zeros(256, bool), BYTES)
    engine = export.to_tokenizer(train.train(counted, BYTES), BYTES)
    for word, start, end in zip(words, bounds, bounds[1:], strict=False):
        left = symbols[start:end]
        special = len(BYTES.reserved)  # they come before the pieces
        assert [index - special for index in engine.encode(word).ids] == left[left >= 0].tolist(), word


@pytest.mark.slow
@pytest.mark.parametrize("config", EACH, ids=lambda c: c.name)
def test_one_line_of_100_mb_is_counted_and_trained_on(shared, config):
    line = " ".join(prose(shared, 1_000_000)).replace("\n", " ")
    times = 100_000_000 // len(line.encode()) + 1
    counted = counts.count(pa.array([f"{line} " * times], pa.large_string()), config)
    once = as_counter(counts.count(pa.array([f"{line} "]), config))
    several = as_counter(counted)
    assert len(several.keys() ^ once.keys()) <= 2  # where the line meets itself
    assert all(abs(several[word] - times * count) <= times for word, count in once.items())
    assert len(train.train(counted, config).pieces) == config.vocab_size


def _head(path: Path) -> list[str]:
    if path.suffix == ".gz":
        with gzip.open(path, "rt", encoding="utf-8", errors="replace", newline="\n") as stream:
            return list(itertools.islice(stream, 2000))
    return path.read_text(encoding="utf-8", errors="replace").split("\n")[:2000] if path.is_file() else []
