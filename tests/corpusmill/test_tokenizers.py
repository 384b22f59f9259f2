from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from tokenizers import Tokenizer

import corpusmill
from pipeline.tokenization.steps.inputs import heldout_parts
from tests.corpusmill.conftest import TOKENIZERS


@pytest.mark.parametrize("config", TOKENIZERS, ids=lambda config: config["name"])
def test_the_tokenizer_of_a_build_and_one_from_its_texts_are_the_same_bytes(built, tmp_path, config):
    held_out = {row["id"] for table in heldout_parts(built) for row in table.to_pylist()}
    texts = [row["text"] for row in corpusmill.documents(built) if row["id"] not in held_out]
    fields = {name: value for name, value in config.items() if name != "name"}
    made = corpusmill.train_tokenizer(reversed(texts), folder=tmp_path / "made", **fields)
    paths = [Path(built.path("tokenizers", config["name"])), tmp_path / "made"]
    digests = [hashlib.sha256((path / "tokenizer.json").read_bytes()).hexdigest() for path in paths]
    assert digests[0] == digests[1]
    assert {file.name for file in paths[1].iterdir()} <= {file.name for file in paths[0].iterdir()}
    assert [made.encode(text).ids for text in texts[:20]] == [
        Tokenizer.from_file(str(paths[0] / "tokenizer.json")).encode(text).ids for text in texts[:20]
    ]


def test_special_tokens_in_a_text_are_text_and_a_loaded_tokenizer_gives_the_same_ids(tmp_path):
    made = corpusmill.train_tokenizer(["<|endoftext|> is a token"] * 3, vocab_size=300, folder=tmp_path / "own")
    loaded = corpusmill.load_tokenizer(tmp_path / "own")
    text = "a <|endoftext|> token"
    assert made.encode(text).ids == loaded.encode(text).ids
    assert made.token_to_id("<|endoftext|>") not in made.encode(text).ids
    assert made.decode(made.encode(text).ids, skip_special_tokens=False) == text


def test_mistakes_are_named(tmp_path):
    with pytest.raises(corpusmill.MillError, match="no text to train"):
        corpusmill.train_tokenizer([], vocab_size=300)
    with pytest.raises(corpusmill.MillError, match="bpee"):
        corpusmill.train_tokenizer(["a"], algorithm="bpee", vocab_size=300)
    with pytest.raises(corpusmill.MillError, match="did you mean `min_frequency`"):
        corpusmill.train_tokenizer(["a"], vocab_size=300, min_frequncy=3)
    with pytest.raises(corpusmill.MillError, match="give \\[text\\]"):
        corpusmill.train_tokenizer("a text", vocab_size=300)
    with pytest.raises(corpusmill.MillError, match="nowhere"):
        corpusmill.load_tokenizer(tmp_path / "nowhere")
