import os
import re
import subprocess
import sys

import pyarrow as pa
import pytest
import sentencepiece
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from pipeline.tokenization.config import TokenizerConfig
from pipeline.tokenization.formats import export
from pipeline.tokenization.formats.folder import save
from pipeline.tokenization.training import counts, train
from tests.pipeline.tokenization.conftest import documents

ROLES = {"cls": "<s>", "sep": "</s>", "pad": "<pad>", "unk": "<unk>", "mask": "<mask>"}
CONFIGS = {
    "gpt2": {"algorithm": "bpe"},
    "marks": {"algorithm": "bpe", "pre_tokenizer": "gpt2_marks"},
    "gpt4": {"algorithm": "bpe", "pre_tokenizer": "gpt4", "split_digits": True},
    "roberta": {"algorithm": "bpe", "template": "roberta", "special_tokens": ROLES},
    "sennrich": {"algorithm": "bpe", "pre_tokenizer": "whitespace"},
    "fallback": {"algorithm": "bpe", "pre_tokenizer": "metaspace", "byte_fallback": True, "vocab_size": 700},
    "bert": {"algorithm": "wordpiece", "added_tokens": ["[NEW]"]},
    "albert": {
        "algorithm": "unigram",
        "template": "bert",
        "special_tokens": {"pad": "<pad>", "unk": "<unk>", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"},
    },
    "t5": {"algorithm": "unigram", "added_tokens": ["<extra_id_0>"]},
    "bytes": {"algorithm": "unigram", "byte_fallback": True, "vocab_size": 700},
}


def made(name: str):
    config = TokenizerConfig.model_validate({"name": name, "vocab_size": 500, **CONFIGS[name]})
    texts = pa.array([d["text"] for d in documents()] + ["<0x41>"])
    return train.train(counts.count(texts, config), config), config


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizers")
    return {name: (str(folder / name), save(str(folder / name), *made(name))) for name in CONFIGS}


@pytest.mark.parametrize("name", CONFIGS)
def test_both_libraries_load_it_and_agree(saved, name):
    folder, digest = saved[name]
    engine = Tokenizer.from_file(f"{folder}/tokenizer.json")
    auto = AutoTokenizer.from_pretrained(folder)
    _, config = made(name)
    for document in documents()[:20]:
        assert auto(document["text"])["input_ids"] == engine.encode(document["text"]).ids
    for role, token in config.special.items():
        assert getattr(auto, f"{role}_token") == token
        assert getattr(auto, f"{role}_token_id") == export.special_ids(config)[role] == engine.token_to_id(token)
    assert auto.model_max_length > 1 << 60  # none stated
    assert len(auto) == engine.get_vocab_size() <= config.vocab_size
    assert len(digest) == 64


SPECIAL = re.compile(r"<\w+>|<\|\w+\|>|\[\w+\]")


@given(text=st.text(max_size=60).filter(lambda text: not SPECIAL.search(text)))  # decoding leaves special tokens out
@pytest.mark.parametrize("name", ["gpt2", "gpt4", "roberta"])
def test_byte_level_round_trip_is_exact(saved, name, text):
    engine = Tokenizer.from_file(f"{saved[name][0]}/tokenizer.json")
    assert engine.decode(engine.encode(text, add_special_tokens=False).ids) == text


@pytest.mark.parametrize("name", ["fallback", "bytes"])
def test_byte_fallback_writes_what_the_alphabet_lacks(saved, name):
    engine = Tokenizer.from_file(f"{saved[name][0]}/tokenizer.json")
    text = "new 🦜 Ω <0x41>"
    encoded = engine.encode(text, add_special_tokens=False)
    assert "<unk>" not in encoded.tokens
    assert "<0xF0>" in encoded.tokens
    assert "<0x41>" not in encoded.tokens
    assert engine.decode(encoded.ids) == text


MIXED = [
    "Ünïcode e\u0301t ﬁne ½ ①",
    "中文字 ＡＢＣ 한국",
    "tabs\tand\n\nlines ",
    " ▁mark",
    "",
    "😉 🦜🦜 x",
    "u\u0308\u0304 Ǖ ¨",
]


@pytest.mark.parametrize("options", [{}, {"normalizer": "none"}, {"lowercase": True, "strip_accents": True}], ids=str)
@pytest.mark.parametrize("byte_fallback", [False, True])
def test_sentencepiece_segments_as_the_engine_does(tmp_path, options, byte_fallback):
    config = TokenizerConfig.model_validate(
        {"name": "x", "algorithm": "unigram", "vocab_size": 700, "byte_fallback": byte_fallback, **options}
    )
    texts = [d["text"] for d in documents()]
    vocabulary = train.train(counts.count(pa.array(texts + MIXED[:3]), config), config)
    save(str(tmp_path), vocabulary, config)
    theirs = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "sentencepiece.model"))
    engine = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert [theirs.id_to_piece(i) for i in range(len(theirs))] == vocabulary.pieces
    assert (theirs.unk_id(), theirs.pad_id(), theirs.eos_id(), theirs.bos_id()) == (2, 0, 1, -1)
    for text in texts + MIXED:  # sorted: equally likely segmentations fall out differently in 32-bit and 64-bit sums
        assert sorted(theirs.encode(text)) == sorted(engine.encode(text, add_special_tokens=False).ids)


def test_templates_frame_one_text_and_two(saved):
    def framed(name: str) -> list[str]:
        encoded = Tokenizer.from_file(f"{saved[name][0]}/tokenizer.json").encode("new", "fast")
        marks = {*ROLES.values(), "[CLS]", "[SEP]"}
        return [token if token in marks else "x" for token in encoded.tokens]

    def once(tokens: list[str]) -> list[str]:
        return [token for i, token in enumerate(tokens) if token != "x" or tokens[i - 1 : i] != ["x"]]

    assert once(framed("bert")) == ["[CLS]", "x", "[SEP]", "x", "[SEP]"]
    assert once(framed("roberta")) == ["<s>", "x", "</s>", "</s>", "x", "</s>"]
    assert once(framed("t5")) == ["x", "</s>", "x", "</s>"]
    assert once(framed("gpt2")) == ["x"]
    engine = Tokenizer.from_file(f"{saved['bert'][0]}/tokenizer.json")
    encoded = engine.encode("new", "fast")
    ids, tokens = encoded.type_ids, encoded.tokens
    assert ids == [0] * (tokens.index("[SEP]") + 1) + [1] * (len(tokens) - tokens.index("[SEP]") - 1)


def test_added_tokens_follow_the_special_ones(saved):
    engine = Tokenizer.from_file(f"{saved['t5'][0]}/tokenizer.json")
    assert [engine.id_to_token(i) for i in range(4)] == ["<pad>", "</s>", "<unk>", "<extra_id_0>"]
    assert "<extra_id_0>" in engine.encode("new <extra_id_0> fast").tokens


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("bert", ["input_ids", "token_type_ids", "attention_mask"]),
        ("albert", ["input_ids", "token_type_ids", "attention_mask"]),
        ("roberta", ["input_ids", "attention_mask"]),
        ("t5", ["input_ids", "attention_mask"]),
        ("gpt2", ["input_ids", "attention_mask"]),
    ],
)
def test_pairs_have_type_ids_in_berts_template_alone(saved, name, keys):
    auto = AutoTokenizer.from_pretrained(saved[name][0])
    encoded = auto("new", "fast")
    assert sorted(encoded) == sorted(keys)
    if "token_type_ids" in keys:
        first = encoded["input_ids"].index(auto.sep_token_id) + 1
        assert encoded["token_type_ids"] == [0] * first + [1] * (len(encoded["input_ids"]) - first)


def test_every_tokenizer_with_an_end_token_pads(saved):
    for name in ("gpt2", "gpt4"):
        auto = AutoTokenizer.from_pretrained(saved[name][0])
        batch = auto(["new", "new fast widest un"], padding=True)
        assert auto.pad_token == auto.eos_token == "<|endoftext|>"
        assert [len(ids) for ids in batch["input_ids"]] == [len(batch["input_ids"][1])] * 2
        assert 0 in batch["attention_mask"][0]
    assert AutoTokenizer.from_pretrained(saved["t5"][0]).pad_token == "<pad>"


def test_decoding_joins_the_pieces_of_words(saved):
    for name in ("sennrich", "t5", "fallback"):
        engine = Tokenizer.from_file(f"{saved[name][0]}/tokenizer.json")
        assert engine.decode(engine.encode("newest fast widing").ids) == "newest fast widing"
    engine = Tokenizer.from_file(f"{saved['bert'][0]}/tokenizer.json")
    assert engine.decode(engine.encode("newest fast").ids) == "newest fast"


@pytest.mark.slow
def test_another_process_with_other_hashes_writes_the_same_bytes(saved):
    code = (
        "import sys, tempfile; from tests.pipeline.tokenization.formats.test_export import *\n"
        "print([save(tempfile.mkdtemp(), *made(name)) for name in CONFIGS])"
    )
    expected = str([digest for _, digest in saved.values()])
    found = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONHASHSEED": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.strip() == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"algorithm": "unigram", "pre_tokenizer": "gpt2"},
            "`pre_tokenizer` of a unigram tokenizer is one of",
        ),
        ({"algorithm": "bpe", "byte_fallback": True}, "byte-level BPE has no unknown bytes"),
        (
            {"algorithm": "wordpiece", "special_tokens": {"unk": "[UNK]"}},
            "template 'bert' needs a special token",
        ),
        ({"algorithm": "wordpiece", "special_tokens": {"pad": "[x]"}, "template": "none"}, "token for 'unk'"),
        ({"algorithm": "wordpiece", "added_tokens": ["pad"]}, "may be a word of the text"),
        ({"algorithm": "wordpiece", "added_tokens": ["##pad"]}, "may be a word of the text"),
        ({"algorithm": "wordpiece", "continuing_subword_prefix": "x"}, "needs a punctuation mark"),
        ({"algorithm": "bpe", "special_tokens": {"eos": "$"}}, "may be a character of the text"),
        ({"algorithm": "bpe", "pre_tokenizer": "whitespace", "added_tokens": ["a</w>"]}, "may be a character"),
        ({"algorithm": "bpe", "added_tokens": ["<|endoftext|>"]}, "must differ from each other"),
        ({"algorithm": "bpe", "vocab_sise": 3}, "vocab_sise"),
    ],
)
def test_a_wrong_config_is_refused_with_the_reason(options, message):
    with pytest.raises(ValidationError, match=message):
        TokenizerConfig.model_validate({"name": "x", "vocab_size": 500, **options})
