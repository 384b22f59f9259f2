import itertools
from collections import Counter

import pyarrow as pa
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from pipeline.tokenization import extend
from pipeline.tokenization.config import TokenizerConfig
from pipeline.tokenization.formats import export
from pipeline.tokenization.training import counts, train
from tests.pipeline.tokenization.conftest import documents

GENERAL = [d["text"] for d in documents(60)] + ["The quick brown fox jumps over the lazy dog. " * 3]
DOMAIN = ["The angiogram shows stenosis; angioplasty follows.", "Stenosis, stenosis! An angiogram of the fox."] * 3
CONFIGS = [
    TokenizerConfig(name="bytes", algorithm="bpe", vocab_size=350),
    TokenizerConfig(name="gpt4", algorithm="bpe", vocab_size=350, pre_tokenizer="gpt4"),
    TokenizerConfig(name="pieces", algorithm="wordpiece", vocab_size=200),
]


def trained(config, texts=GENERAL) -> Tokenizer:
    texts = [*texts, "abcdefghijklmnopqrstuvwxyz " * 3]
    tokenizer = export.to_tokenizer(train.train(counts.count(pa.array(texts), config), config), config)
    tokenizer.encode_special_tokens = True
    return tokenizer


def length(tokenizer, texts):
    return sum(len(e.ids) for e in tokenizer.encode_batch(texts, add_special_tokens=False))


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: c.name)
def test_the_domain_becomes_shorter_by_what_was_promised(config):
    before = trained(config)
    found = extend.extend(before, pa.array(DOMAIN), 3)
    assert len(found.tokens) == 3
    assert length(before, DOMAIN) - length(found.tokenizer, DOMAIN) == found.saved.sum() > 0
    assert found.first == before.get_vocab_size()
    assert [found.tokenizer.token_to_id(token) for token in found.tokens] == [found.first + i for i in range(3)]
    for token, pieces in zip(found.tokens, found.pieces, strict=True):
        written = "".join(str(before.id_to_token(index)).removeprefix("##") for index in pieces)
        assert written == token


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: c.name)
def test_text_without_new_words_is_encoded_as_before(config):
    before = trained(config)
    after = extend.extend(before, pa.array(DOMAIN), 8).tokenizer
    for text in [*GENERAL[:-1], *before.get_vocab(), "un widest lowest jumped foxy", "<|endoftext|></s>[SEP] 😉 計算"]:
        assert before.encode(text, add_special_tokens=False).ids == after.encode(text, add_special_tokens=False).ids


@pytest.mark.parametrize("number", [1, 2, 3])
def test_no_other_choice_of_words_saves_more(number):
    before = trained(CONFIGS[0])
    found = extend.extend(before, pa.array(DOMAIN), number, least=1)
    cutter = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words = Counter(word for text in DOMAIN for word, _ in cutter.pre_tokenize_str(text))
    savings = {}
    for word, count in words.items():
        pieces = len(before.model.tokenize(word))
        if before.token_to_id(word) is None:
            savings[word] = count * (pieces - 1)
    best = max(sum(chosen) for chosen in itertools.combinations(savings.values(), number))
    assert found.saved.sum() == best
    assert length(before, DOMAIN) - length(found.tokenizer, DOMAIN) == best


def test_decoding_gives_the_text_back():
    after = extend.extend(trained(CONFIGS[0]), pa.array(DOMAIN), 5).tokenizer
    assert [after.decode(after.encode(text).ids) for text in DOMAIN] == DOMAIN


def test_words_seen_once_are_left_out_and_ties_go_by_spelling():
    texts = pa.array(["zyzzyva qwertz zyzzyva qwertz uiopas"])
    tokenizer = Tokenizer(models.BPE({letter: i for i, letter in enumerate(export.byte_alphabet())}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    found = extend.extend(tokenizer, texts, 9)
    assert found.tokens == ["Ġqwertz"]  # each of the others stands once with and once without its space
    assert extend.extend(tokenizer, texts, 9, least=1).tokens == ["Ġqwertz", "Ġzyzzyva", "zyzzyva", "Ġuiopas"]


def test_what_cannot_be_extended_is_refused():
    with pytest.raises(extend.NotExtensible, match="Unigram"):
        extend.extend(trained(TokenizerConfig(name="u", algorithm="unigram", vocab_size=300)), pa.array(DOMAIN), 1)
    unreachable = Tokenizer(models.BPE({**{x: i for i, x in enumerate(export.byte_alphabet())}, "ab": 256}, []))
    unreachable.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    with pytest.raises(extend.NotExtensible, match="such as 'ab'"):
        extend.extend(unreachable, pa.array(DOMAIN), 1)
