"""The compiled encoder beside the library whose ids it must give."""

import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer

from pipeline.text import sentences
from pipeline.text.buffers import text_buffers
from pipeline.tokenization.config import TokenizerConfig
from pipeline.tokenization.encoding import encode, pieces, pretokenize
from pipeline.tokenization.encoding.encode import Encoder
from pipeline.tokenization.formats import export
from pipeline.tokenization.training import counts, train
from tests.pipeline.tokenization.conftest import documents

CONFIGS = [
    TokenizerConfig.model_validate({"name": name, "vocab_size": 500, **options})
    for name, options in {
        "gpt2": {"algorithm": "bpe"},
        "gpt2-nfc-digits": {"algorithm": "bpe", "normalizer": "nfc", "split_digits": True},
        "gpt2-nfkc-lower": {"algorithm": "bpe", "normalizer": "nfkc", "lowercase": True, "strip_accents": True},
        "gpt2-scripts": {
            "algorithm": "bpe",
            "normalizer": "nfc",
            "split_scripts": ["thai", "hangul"],
            "split_cjk": True,
            "split_digits": True,
        },
        "marks": {"algorithm": "bpe", "pre_tokenizer": "gpt2_marks"},
        "marks-nfc-scripts": {
            "algorithm": "bpe",
            "pre_tokenizer": "gpt2_marks",
            "normalizer": "nfc",
            "split_scripts": ["thai"],
            "split_digits": True,
        },
        "gpt4": {"algorithm": "bpe", "pre_tokenizer": "gpt4"},
        "gpt4-scripts": {"algorithm": "bpe", "pre_tokenizer": "gpt4", "split_scripts": ["han"]},
        "bert-scripts": {"algorithm": "wordpiece", "split_scripts": ["thai", "hangul"], "split_digits": True},
        "unigram-scripts": {"algorithm": "unigram", "split_scripts": ["thai", "han"]},
        "gpt4-digits": {"algorithm": "bpe", "pre_tokenizer": "gpt4", "split_digits": True},
        "bert": {"algorithm": "wordpiece"},
        "bert-cased-digits": {"algorithm": "wordpiece", "lowercase": False, "split_digits": True},
        "bert-accents": {"algorithm": "wordpiece", "strip_accents": False},
        "bert-bpe": {"algorithm": "bpe", "pre_tokenizer": "bert"},
        "words": {"algorithm": "bpe", "pre_tokenizer": "whitespace"},
        "words-nfkc-digits": {
            "algorithm": "bpe",
            "pre_tokenizer": "whitespace",
            "normalizer": "nfkc",
            "split_digits": True,
        },
        "metaspace-bpe": {"algorithm": "bpe", "pre_tokenizer": "metaspace", "byte_fallback": True},
        "unigram": {"algorithm": "unigram"},
        "unigram-kept": {"algorithm": "unigram", "remove_extra_whitespaces": False},
        "unigram-kept-bare": {
            "algorithm": "unigram",
            "normalizer": "none",
            "remove_extra_whitespaces": False,
            "add_dummy_prefix": False,
            "byte_fallback": True,
        },
        "unigram-bare": {"algorithm": "unigram", "add_dummy_prefix": False},
        "metaspace-kept": {
            "algorithm": "bpe",
            "pre_tokenizer": "metaspace",
            "byte_fallback": True,
            "remove_extra_whitespaces": False,
        },
        "metaspace-kept-lower": {
            "algorithm": "bpe",
            "pre_tokenizer": "metaspace",
            "normalizer": "nfkc",
            "lowercase": True,
            "strip_accents": True,
            "split_digits": True,
            "split_scripts": ["thai"],
            "remove_extra_whitespaces": False,
        },
        "metaspace-bare": {
            "algorithm": "bpe",
            "pre_tokenizer": "metaspace",
            "normalizer": "nfkc",
            "split_digits": True,
            "add_dummy_prefix": False,
        },
        "unigram-bytes-lower": {
            "algorithm": "unigram",
            "byte_fallback": True,
            "lowercase": True,
            "split_digits": True,
        },
    }.items()
]
#: What breaks encoders: white space of every kind, controls, marks, case folding, contractions, ▁, digits, long words.
PARTS = [" ", "  ", "\n", "\r\n", "\t", "\x0b", "\x1c", "\x85", "\xa0", "\u2003", "\u200b", "\xad", "\x00", "\x7f"]
PARTS += ["'s", "'S", "'ſ", "can't", "''", "'", "▁", "▁▁a", "İ", "ﬁ", "①", "½", "e\u0301", "\u0301", "\u037e", "\ufdfa"]
PARTS += [
    "計算機",
    "机",
    "ไทย",
    "한국",
    "😉",
    "👩‍👩‍👧",
    "12345",
    "٣",
    "a" * 120,
    "ab" * 200,
    "Ünïcode",
    "</w>",
    "##ing",
]
PARTS += ["<|endoftext|>", "[CLS]", "</s>", "<0x41>", "un", "low", "widest", "newer", ".", "!", "(x_1)", "-", "ß", "Σς"]
TEXTS = st.lists(st.one_of(st.sampled_from(PARTS), st.text(max_size=8)), max_size=12).map("".join)


@pytest.fixture(scope="module")
def tokenizers():
    texts = [d["text"] for d in documents(60)] + ["the lowest of the newer words, un widest 12345 naïve" * 3]
    made = {}
    for config in CONFIGS:
        tokenizer = export.to_tokenizer(train.train(counts.count(pa.array(texts), config), config), config)
        tokenizer.encode_special_tokens = True
        made[config.name] = tokenizer, Encoder(tokenizer)
    return made


def encoded(encoder, texts, **options):
    """``(ids, sentence tokens)`` of each text, as lists."""
    ids, places = [], []
    for block in encoder.encode(pa.array(texts, pa.string()), **options):
        ids += [part.tolist() for part in np.split(block.tokens, np.cumsum(block.lengths)[:-1])]
        places += [part.tolist() for part in np.split(block.sentences, np.cumsum(block.counts)[:-1])]
    return ids, places


@pytest.mark.parametrize("name", [config.name for config in CONFIGS])
@settings(max_examples=50, deadline=None)
@given(texts=st.lists(TEXTS, min_size=1, max_size=4))
@example(texts=["".join(PARTS)])
@example(texts=[" ".join(PARTS)])
def test_ids_are_those_of_tokenizers(tokenizers, name, texts):
    tokenizer, encoder = tokenizers[name]
    assert encoder.compiled
    expected = [piece.ids for piece in tokenizer.encode_batch(texts, add_special_tokens=False)]
    assert encoded(encoder, texts)[0] == expected
    assert encoded(encoder, texts, eos=3)[0] == [[*ids, 3] for ids in expected]


@pytest.mark.parametrize("name", ["gpt2", "bert", "unigram", "unigram-kept", "metaspace-kept"])
@settings(max_examples=50, deadline=None)
@given(texts=st.lists(TEXTS, min_size=1, max_size=3))
def test_kernels_alone_give_the_same_ids(tokenizers, name, texts):
    """Pieces that the kernels segment, and are not left to the library."""
    tokenizer, encoder = tokenizers[name]
    words = [piece for text in texts for piece in text.split() if piece.isascii()]
    lengths = [len(ids) for ids in encoded(encoder, words)[0]]
    for word, length in zip(words, lengths, strict=True):
        raw = np.frombuffer(f"{' ' if encoder._cut.prefixed else ''}{word}".encode(), np.uint8)
        ids, found = encode.segment.segment(raw, np.array([0, len(raw)]), encoder.model)
        whole = tokenizer.encode(word, add_special_tokens=False)
        if found[0] >= 0 and len(set(whole.word_ids)) == 1:
            assert ids.tolist() == whole.ids
            assert found[0] == length


@pytest.mark.parametrize("name", ["gpt2", "gpt4", "bert", "words", "unigram", "unigram-kept"])
def test_pieces_of_every_length_and_wherever_their_buffer_ends(tokenizers, name):
    """Texts are read 8 and 16 bytes at a time: neither a text's neighbours nor what is behind the last one count."""
    tokenizer, encoder = tokenizers[name]
    words = [
        stem[:size] for stem in ("lowestnewer" * 4, "a\x00" * 20, "low.é" * 8, "'s 12" * 8) for size in range(1, 36)
    ]
    texts = [before + word for word in words for before in ("", " ", "un ")]
    expected = [tokenizer.encode(text, add_special_tokens=False).ids for text in texts]
    assert encoded(encoder, texts)[0] == expected
    assert [encoded(encoder, [text])[0][0] for text in texts] == expected


@pytest.mark.parametrize("name", ["unigram", "unigram-kept", "unigram-bytes-lower"])
def test_pieces_that_begin_alike_are_segmented_as_each_is_alone(tokenizers, name):
    """Each goes on from the paths of the one before it, in an order that is not that of the text."""
    tokenizer, encoder = tokenizers[name]
    stems = [("lowest" * 3 + "é" + "newer" * 2 + "計算")[:size] for size in range(30)]
    words = [stem + end for stem in stems for end in ("", ",", "st", "é", "\U0001f999", "ê" * 3, "x" * 300, ".st")]
    texts = [" ".join(words), *words[::-1]]
    expected = [tokenizer.encode(text, add_special_tokens=False).ids for text in texts]
    assert encoded(Encoder(tokenizer), texts)[0] == encoded(encoder, texts)[0] == expected


def test_a_cache_that_grows_keeps_what_it_knows(tokenizers):
    tokenizer, _ = tokenizers["gpt2"]
    encoder, texts = Encoder(tokenizer), ["the low", *(f"{n:x} un{n:018d}" for n in range(20_000)), "the low"]
    expected = [piece.ids for piece in tokenizer.encode_batch(texts, add_special_tokens=False)]
    assert encoded(encoder, texts)[0] == encoded(encoder, texts)[0] == expected


def test_most_english_words_are_segmented_by_the_kernels(tokenizers):
    words = ["the", "lowest", "newer", "words", "un"]
    raw, bounds = np.frombuffer("".join(words).encode(), np.uint8), np.cumsum([0, *map(len, words)])
    for name, (_, encoder) in tokenizers.items():
        _, lengths = encode.segment.segment(raw, bounds, encoder.model)
        assert (lengths > 0).all(), name


@pytest.mark.parametrize("name", ["gpt2", "bert", "unigram"])
def test_what_was_encoded_before_changes_nothing(tokenizers, name):
    tokenizer, _ = tokenizers[name]
    texts = [d["text"] for d in documents(40)]
    fresh, used = Encoder(tokenizer), Encoder(tokenizer)
    encoded(used, texts[::-1])
    assert encoded(used, texts) == encoded(fresh, texts)


@pytest.mark.parametrize("name", ["unigram-kept", "unigram-kept-bare", "metaspace-kept"])
@settings(max_examples=50, deadline=None)
@given(
    text=st.lists(st.sampled_from([" ", "\n", "\t", "low", "new", "x", ".", "   ", "\n\n", "計"]), max_size=20).map(
        "".join
    )
)
@example(text="  x.\n\treturn  low\n\n    new \n ")
def test_white_space_that_is_kept_comes_back(tokenizers, name, text):
    tokenizer, encoder = tokenizers[name]
    assert tokenizer.decode(encoded(encoder, [text])[0][0], skip_special_tokens=False) == text


@pytest.mark.parametrize("name", ["unigram-bare", "metaspace-bare"])
def test_without_a_dummy_prefix_the_first_word_has_no_mark(tokenizers, name):
    tokenizer, _ = tokenizers[name]
    assert tokenizer.encode(" \nlow  low", add_special_tokens=False).tokens == ["lo", "w", "▁lo", "w"]
    assert tokenizer.decode(tokenizer.encode("low low").ids) == "low low"


def test_a_full_cache_is_begun_anew(tokenizers, monkeypatch):
    monkeypatch.setattr(encode, "_MOST_WORDS", 10)
    monkeypatch.setattr(encode, "_BLOCK", 100)
    tokenizer, _ = tokenizers["bert"]
    encoder, texts = Encoder(tokenizer), [d["text"] for d in documents(40)]
    assert encoded(encoder, texts)[0] == [tokenizer.encode(text, add_special_tokens=False).ids for text in texts]
    assert encoder._cache.size[0] < 200


@pytest.mark.parametrize(
    "name", ["gpt2", "gpt2-nfkc-lower", "gpt4", "bert", "words", "unigram", "unigram-kept", "metaspace-bare"]
)
def test_sentences_start_at_the_same_tokens_as_by_the_library_alone(tokenizers, name):
    tokenizer, encoder = tokenizers[name]
    texts = [
        "The newest. It is low! Is it un? Yes.\n\n  Wider est",
        "",
        "\n ",
        "naïve être. Über allem. 机。計算！",
        "ﬁn ½ e\u0301. ﬁ。机ﬁ！É est. Ünd",
        " lo. New",
    ]
    places = sentences.starts(pa.array(texts))
    alone = Encoder(tokenizer)
    alone._cut = None
    found = encoded(encoder, texts, places=places, eos=2)
    assert found == encoded(alone, texts, places=places, eos=2)
    for ids, starts in zip(*found, strict=True):
        assert starts == sorted(set(starts))
        assert all(0 <= start < len(ids) for start in starts)
    assert len(found[1][0]) == 5
    assert found[1][1] == []


@pytest.mark.parametrize("change", ["added", "dropout", "pre_tokenizer", "normalizer"])
def test_a_tokenizer_with_unknown_parts_is_left_to_the_library(tokenizers, change):
    tokenizer = Tokenizer.from_str(tokenizers["gpt2"][0].to_str())
    if change == "added":
        tokenizer.add_tokens([AddedToken("lowest", normalized=False)])
    content = json.loads(tokenizer.to_str())
    if change == "dropout":
        content["model"]["dropout"] = 0.1
    if change == "pre_tokenizer":
        content["pre_tokenizer"]["add_prefix_space"] = True
    if change == "normalizer":
        content["normalizer"] = {"type": "Prepend", "prepend": "_"}
    assert encode.cut_of(content) is None
    if change != "dropout":
        changed = Tokenizer.from_str(json.dumps(content))
        texts = ["the lowest", "newer lowest."]
        assert encoded(Encoder(changed), texts)[0] == [changed.encode(t, add_special_tokens=False).ids for t in texts]


def test_published_tokenizers_are_cut_by_the_kernels():
    from tokenizers import models, normalizers, pre_tokenizers

    gpt2 = Tokenizer(models.BPE({"a": 0}, []))
    gpt2.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bert = Tokenizer(models.WordPiece({"[UNK]": 0}, unk_token="[UNK]"))
    bert.normalizer, bert.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    cuts = [encode.cut_of(json.loads(found.to_str())) for found in (gpt2, bert)]
    assert cuts == [encode.Cut(pretokenize.GPT2, False, False), encode.Cut(pretokenize.BERT_MARKS, False, False)]


def test_megabytes_of_text_are_cut_as_a_little_of_it_is():
    """Large arrays go back to the system when they are freed, so a kernel that reads one too late crashes here."""
    data = np.frombuffer(b"the lowest, newer 123 words.\n" * 200_000, np.uint8)
    bounds = np.array([0, len(data)])
    starts, ends, _ = pretokenize.cut_all(data, bounds, encode.character_classes.table(), pretokenize.GPT2, np.uint8(0))
    assert len(starts) == 200_000 * len(
        pretokenize.cut_all(
            data[:29], np.array([0, 29]), encode.character_classes.table(), pretokenize.GPT2, np.uint8(0)
        )[0]
    )
    assert np.array_equal(starts[1:], ends[:-1])


def test_pieces_with_ids_of_any_number_and_size_are_written_at_both_looks() -> None:
    known = {"a": [5], "b": [1 << 20, 7], "c": [1, 2, (1 << 20) - 1], "d": [1, 2, 3, 4], "e": [], "x" * 20: [9]}
    data, offsets = text_buffers(pa.array([" ".join(known), " ".join(reversed(known)), "q"]))
    bits, none = encode.character_classes.table(), np.zeros(0, np.int64)
    cache, room = pieces.empty(8), np.empty(len(data), np.int64)
    for _ in range(2):  # while the ids are not known, and once they are
        codes, cuts, opened, cache = pieces.look_up(
            data, offsets, bits, pretokenize.WORDS, np.uint8(0), none, np.zeros(4, np.int64), cache, room
        )
        if cache.size[1] == 0:
            ids = [np.array(part, np.uint32) for part in (*known.values(), [8])]
            cache = pieces.learn(cache, np.concatenate(ids), np.array([len(part) for part in ids]))
        expected = [token for texts in (known.values(), reversed(known.values()), [[8]]) for p in texts for token in p]
        tokens = np.zeros(len(expected) + 3, np.uint32)
        lengths, _, _ = pieces.write(codes, cuts, opened, cache.ids, cache.id_ends, -1, tokens)
        assert lengths.tolist() == [11, 11, 1]
        assert tokens[: lengths.sum()].tolist() == expected
        lengths, _, _ = pieces.write(codes, cuts, opened, cache.ids, cache.id_ends, -1, tokens[:14])
        assert lengths.tolist() == [11]  # there is no room for more than the first text
