"""Worked examples of papers and of the Hugging Face course that need more than one trainer's file."""

import itertools
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from tokenizers import AddedToken, Tokenizer, models

from pipeline.text.buffers import text_buffers
from pipeline.tokenization.config import TokenizerConfig
from pipeline.tokenization.formats import export
from pipeline.tokenization.training import counts, train, unigram
from tests.helpers.tokenizer_oracles import SENNRICH, apply, merge_all, table
from tests.pipeline.tokenization.training.test_unigram import likelihood_loss

COURSE = [
    "This is the Hugging Face Course.",
    "This chapter is about tokenization.",
    "This section shows several tokenizer algorithms.",
    "Hopefully, you will be able to understand how they are trained and generate tokens.",
]


def merge_counts(words: dict[tuple[str, ...], int], merges: list[tuple[str, str]]) -> list[int]:
    """How often each pair stands in the words when its turn comes."""
    found = []
    for pair in merges:
        found.append(sum(count * list(itertools.pairwise(word)).count(pair) for word, count in words.items()))
        words = {apply(word, pair, "".join(pair)): count for word, count in words.items()}
    return found


def test_sennrichs_merges_with_the_end_of_a_word_as_a_symbol():
    """Algorithm 1: e s (9), es t (9), est </w> (9), l o (7), lo w (7), then 6 6 6 5 3; ties by first appearance."""
    words = {(*word, "</w>"): count for word, count in SENNRICH.items()}
    alphabet = list(dict.fromkeys(itertools.chain.from_iterable(words)))
    config = TokenizerConfig(
        name="x", algorithm="bpe", vocab_size=21, special_tokens={}, pre_tokenizer="whitespace", min_frequency=1
    )
    symbols = np.array([alphabet.index(symbol) for word in words for symbol in word], np.int32)
    bounds = np.cumsum([0, *map(len, words)])
    frequency = np.array(list(words.values()))
    inner = np.zeros(len(alphabet), bool)
    learned, pieces, _ = train.learn(symbols, bounds, frequency, [a.encode() for a in alphabet], inner, config)
    named = [(pieces[left].decode(), pieces[right].decode()) for left, right in learned]
    assert named == merge_all(words, alphabet, 21, likelihood=False)[0]
    assert merge_counts(words, named) == [9, 9, 9, 7, 7, 6, 6, 6, 5, 3]
    assert {"est</w>", "low", "newest</w>", "low</w>"} <= {a + b for a, b in named}


def test_the_courses_corpus_gives_its_byte_bpe():
    """Hugging Face course: 50 entries are <|endoftext|>, 30 letters and 19 merges, from Ġ t (7) on."""
    config = TokenizerConfig(name="x", algorithm="bpe", vocab_size=300, min_frequency=1)
    counted = counts.count(pa.array(COURSE), config)
    learned = train.train(counted, config)
    letters = dict(enumerate(export.byte_alphabet()))
    words = {
        tuple(letters[byte] for byte in word.encode()): count
        for word, count in zip(counted["word"].to_pylist(), counted["count"].to_pylist(), strict=True)
    }
    assert len(set(itertools.chain.from_iterable(words))) == 30
    listed = "Ġ t,i s,e r,Ġ a,Ġt o,e n,T h,Th is,o u,s e,Ġto k,Ġtok en,n d,Ġ is,Ġt h,Ġth e,i n,Ġa b,Ġtoken i"
    course = [(left, right) for left, right in (pair.split(" ") for pair in listed.split(","))]
    assert merge_counts(words, learned.merges[:19]) == merge_counts(words, course)
    assert learned.merges[0] == course[0]
    frequent = {left + right for left, right in learned.merges[:13]}  # three times or more; the rest is ties at two
    assert frequent ^ {left + right for left, right in course[:13]} == {"Ġtok", "ken"}  # two ways to Ġtoken
    tokens = export.to_tokenizer(learned, config).encode("This is not a token.").tokens
    assert tokens[:1] == ["This"]
    assert tokens[-2:] == ["Ġtoken", "."]


def test_the_courses_corpus_gives_its_unigram_loss():
    """Hugging Face course: 300 entries to start from, loss 413.10377642940875; without "ll" 6.376 more."""
    words = Counter("▁" + word for text in COURSE for word in text.split())
    data, offsets = text_buffers(table(words)["word"].combine_chunks())
    known = np.ones(0x110000, bool)
    at, starts, ends, weights = unigram._segments(data, offsets, np.array(list(words.values())), known, 256)
    counted, _ = unigram._count_substrings(data, at, starts, ends, weights, 16)
    n = int(counted.size[0])
    names = [data[a : a + b].tobytes().decode() for a, b in zip(counted.starts[:n], counted.lengths[:n], strict=True)]
    frequency = dict(zip(names, counted.counts[:n].tolist(), strict=True))
    letters = {name: count for name, count in frequency.items() if len(name) == 1}
    longer = sorted(((name, count) for name, count in frequency.items() if len(name) > 1), key=lambda item: -item[1])
    start = letters | dict(longer[: 300 - len(letters)])
    probability = {name: count / sum(start.values()) for name, count in start.items()}
    loss = likelihood_loss(words, probability)
    started_at_one = sum(words.values())  # the course's code gives every word a score of 1 to start with
    assert loss + started_at_one == pytest.approx(413.10377642940875, abs=1e-9)
    for piece, more in (("ll", 6.376412403623874), ("his", 0.0)):
        without = {name: p for name, p in probability.items() if name != piece}
        assert likelihood_loss(words, without) - loss == pytest.approx(more, abs=1e-9)


def test_cl100k_ids_where_the_pattern_alone_decides():
    """tiktoken: hello123!!!? (안녕하세요!) 😉 -> 15339 4513 .. 320 .. 16715 57037: pre-tokens that are tokens."""
    config = TokenizerConfig(name="x", algorithm="bpe", vocab_size=300, pre_tokenizer="gpt4")
    letters = export.byte_alphabet()
    whole = {"hello": 15339, "123": 4513, " (": 320, "!)": 16715, " 😉": 57037, " world": 1917}
    vocabulary = {"".join(letters[byte] for byte in text.encode()): index for text, index in whole.items()}
    vocabulary |= {"?": 0, "<|endoftext|>": 100257}
    tokenizer = Tokenizer(models.BPE(vocabulary, [], unk_token="?", fuse_unk=True, ignore_merges=True))
    tokenizer.pre_tokenizer = export.pre_tokenizer(config)  # type: ignore[assignment]
    tokenizer.add_special_tokens([AddedToken("<|endoftext|>", special=True, normalized=False)])
    ids = tokenizer.encode("hello123!!!? (안녕하세요!) 😉").ids
    assert [index for index in ids if index] == [15339, 4513, 320, 16715, 57037]
    assert tokenizer.encode("<|endoftext|>hello world").ids == [100257, 15339, 1917]
