"""BPE and WordPiece against brute force, worked examples and Hugging Face's engine."""

import re

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from pipeline.tokenization import alphabet
from pipeline.tokenization.config import TokenizerConfig
from pipeline.tokenization.formats import export
from pipeline.tokenization.training import counts, train
from tests.helpers.tokenizer_oracles import HUG, SENNRICH, merge_all, table
from tests.pipeline.tokenization.conftest import documents

words = st.dictionaries(st.text("abcd", min_size=1, max_size=9), st.integers(1, 40), min_size=1, max_size=12)


def bpe(size: int, **options) -> TokenizerConfig:
    values = {
        "pre_tokenizer": "whitespace",
        "special_tokens": {"unk": "[UNK]"},
        "min_frequency": 1,
        **options,
    }
    return TokenizerConfig(name="x", algorithm="bpe", vocab_size=size, **values)


def wordpiece(size: int, **options) -> TokenizerConfig:
    values = {"special_tokens": {"unk": "[UNK]"}, "template": "none", "min_frequency": 1, **options}
    return TokenizerConfig(name="x", algorithm="wordpiece", vocab_size=size, **values)


@given(words, st.integers(1, 30))
def test_character_bpe_equals_brute_force(found, merges):
    letters = sorted({c for word in found for c in word})
    alphabet = [*letters, *(c + "</w>" for c in letters)]
    split = {(*word[:-1], word[-1] + "</w>"): count for word, count in found.items()}
    size = 16 + merges  # twice the alphabet at least: no character is left out
    expected, vocabulary, _ = merge_all(split, alphabet, size, likelihood=False)
    learned = train.train(table(found), bpe(size + 1))
    assert learned.merges == expected
    assert learned.pieces == ["[UNK]", *vocabulary]


@given(words)
def test_wordpiece_by_likelihood_equals_brute_force(found):
    letters = sorted({c for word in found for c in word})
    alphabet = [*letters, *("##" + c for c in letters)]
    split = {(word[0], *("##" + c for c in word[1:])): count for word, count in found.items()}
    size = 4 * len(letters) + 12
    _, vocabulary, _ = merge_all(split, alphabet, size, likelihood=True, prefix="##")
    assert train.train(table(found), wordpiece(size + 1)).pieces == ["[UNK]", *vocabulary]


@given(words)
def test_wordpiece_by_frequency_equals_brute_force(found):
    letters = sorted({c for word in found for c in word})
    alphabet = [*letters, *("##" + c for c in letters)]
    split = {(word[0], *("##" + c for c in word[1:])): count for word, count in found.items()}
    size = 4 * len(letters) + 12
    _, vocabulary, _ = merge_all(split, alphabet, size, likelihood=False, prefix="##")
    assert train.train(table(found), wordpiece(size + 1, score="frequency")).pieces == ["[UNK]", *vocabulary]


def test_sennrich_example():
    """Algorithm 1 of Sennrich 2016, with the mark on the last letter: e s (9), es t (9), l o (7), lo w</w> or ..."""
    learned = train.train(table(SENNRICH), bpe(60))
    assert learned.merges[:2] == [("e", "s"), ("es", "t</w>")]
    assert ("l", "o") in learned.merges
    tokenizer = export.to_tokenizer(learned, bpe(60))
    assert tokenizer.encode("newest").tokens == ["newest</w>"]


def test_lowest_is_low_est():
    """The chapter's example: a word that was never seen is written with a stem and an ending that were."""
    config = bpe(60, pre_tokenizer="metaspace", end_of_word_suffix="")
    words = {"▁low": 5, "▁lower": 2, "▁newest": 6, "▁widest": 3}
    tokenizer = export.to_tokenizer(train.train(table(words), config), config)
    assert tokenizer.encode("lowest").tokens == ["▁low", "est"]


def test_hug_bpe_merges():
    """Hugging Face course: ug (20), un (16), hug (15); then bug -> b ug, mug -> [UNK] ug, thug -> [UNK] hug."""
    config = TokenizerConfig(
        name="x", algorithm="bpe", vocab_size=17, pre_tokenizer="metaspace", special_tokens={"unk": "[UNK]"}
    )
    learned = train.train(table(HUG), config)
    assert learned.merges[:3] == [("u", "g"), ("u", "n"), ("h", "ug")]
    three = export.Vocabulary([*learned.pieces[:8], "ug", "un", "hug"], learned.merges[:3])
    tokenizer = export.to_tokenizer(three, config)
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # type: ignore[assignment]
    tokens = {word: tokenizer.encode(word).tokens for word in ("bug", "mug", "thug")}
    assert tokens == {"bug": ["b", "ug"], "mug": ["[UNK]", "ug"], "thug": ["[UNK]", "hug"]}


def test_hug_wordpiece_by_likelihood():
    """Hugging Face course: the first piece is ##gs (1/20); hugs -> hug ##s needs its vocabulary, mug is [UNK]."""
    config = wordpiece(64)
    learned = train.train(table(HUG), config)
    assert learned.pieces[: 1 + 14] == ["[UNK]", *"bghnpsu", *("##" + c for c in "bghnpsu")]
    assert learned.pieces[15] == "##gs"
    tokenizer = export.to_tokenizer(learned, config)
    assert tokenizer.encode("mug").tokens == ["[UNK]"]
    listed = ["[UNK]", "b", "h", "p", "##g", "##n", "##s", "##u", "##gs", "hu", "hug"]
    course = export.to_tokenizer(export.Vocabulary(listed), config)
    tokens = {word: course.encode(word).tokens for word in ("hugs", "bugs", "mug", "bum")}
    assert tokens == {
        "hugs": ["hug", "##s"],
        "bugs": ["b", "##u", "##gs"],
        "mug": ["[UNK]"],
        "bum": ["[UNK]"],
    }


def test_hug_wordpiece_by_frequency():
    learned = train.train(table(HUG), wordpiece(64, score="frequency"))
    assert learned.pieces[15:17] == ["##ug", "##un"]


def test_wikipedia_example_of_byte_pair_encoding():
    """aaabdaaabac with three merges becomes X d X a c (minbpe: 258 100 258 97 99)."""
    config = TokenizerConfig(name="x", algorithm="bpe", vocab_size=259, special_tokens={}, min_frequency=1)
    learned = train.train(table({"aaabdaaabac": 1}), config)
    assert learned.merges == [("a", "a"), ("a", "b"), ("aa", "ab")]
    tokens = export.to_tokenizer(learned, config).encode("aaabdaaabac").tokens
    assert tokens == ["aaab", "d", "aaab", "a", "c"]


def test_two_billion_occurrences_of_a_pair_do_not_overflow():
    counted = {"ab": 2_200_000_000, "cab": 2_200_000_000, "cd": 3_000_000_000}
    assert train.train(table(counted), bpe(40, pre_tokenizer="metaspace")).merges[:2] == [
        ("a", "b"),
        ("c", "d"),
    ]


def real_like() -> dict[str, int]:
    config = TokenizerConfig(name="x", algorithm="bpe", vocab_size=600)
    found = counts.count(pa.array([d["text"] for d in documents()]), config)
    return dict(zip(found["word"].to_pylist(), found["count"].to_pylist(), strict=True))


def test_byte_bpe_merges_equal_hugging_faces():
    texts = [d["text"] for d in documents()]
    config = TokenizerConfig(name="x", algorithm="bpe", vocab_size=600)
    reference = Tokenizer(models.BPE())
    reference.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        min_frequency=2,
        show_progress=False,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    reference.train_from_iterator(texts, trainer)
    ours = export.to_tokenizer(train.train(counts.count(pa.array(texts), config), config), config)
    assert ours.get_vocab() == reference.get_vocab()
    assert all(ours.encode(text).ids == reference.encode(text).ids for text in texts)


@given(st.dictionaries(st.text("ab", min_size=1, max_size=24), st.integers(1, 9), min_size=1, max_size=8))
def test_the_engine_encodes_a_word_as_the_trainer_left_it(found):
    config = TokenizerConfig(name="x", algorithm="bpe", vocab_size=276, special_tokens={}, min_frequency=1)
    text = "".join(found)
    symbols = np.frombuffer(text.encode(), np.uint8).astype(np.int32)
    bounds = np.cumsum([0, *map(len, found)])
    alphabet = [bytes([byte]) for byte in range(256)]
    merged, pieces, _ = train.learn(
        symbols, bounds, np.array(list(found.values())), alphabet, np.zeros(256, bool), config
    )
    written = [piece.decode("latin-1") for piece in pieces]
    learned = export.Vocabulary(written, [(written[left], written[right]) for left, right in merged])
    engine = Tokenizer(models.BPE({piece: i for i, piece in enumerate(written)}, learned.merges))
    for word, start, end in zip(found, bounds, bounds[1:], strict=False):
        left = symbols[start:end]
        assert engine.encode(word).ids == left[left >= 0].tolist()


def test_every_option_bounds_what_is_learned():
    found = table(real_like())
    short = TokenizerConfig(name="x", algorithm="bpe", vocab_size=600, max_token_length=3, special_tokens={})
    assert max(map(len, train.train(found, short).pieces)) == 3
    rare = TokenizerConfig(name="x", algorithm="bpe", vocab_size=60_000, min_frequency=30, special_tokens={})
    frequent = train.train(found, rare)
    assert len(frequent.pieces) < len(train.train(found, rare.model_copy(update={"min_frequency": 2})).pieces)
    few = bpe(300, limit_alphabet=5)
    assert len({c for piece in train.train(found, few).pieces[1:11] for c in piece.removesuffix("</w>")}) == 5
    prefixed = wordpiece(100, continuing_subword_prefix="@@")
    assert any(piece.startswith("@@") for piece in train.train(table(HUG), prefixed).pieces)


def test_a_vocabulary_too_small_for_its_alphabet_is_refused():
    with pytest.raises(alphabet.VocabularyTooSmall, match="`vocab_size` 200 is less than its alphabet of 256"):
        train.train(table(HUG), TokenizerConfig(name="x", algorithm="bpe", vocab_size=200))


def test_characters_that_byte_pieces_write_leave_half_the_vocabulary_to_pieces():
    found = {chr(0x4E00 + i): 1 + i for i in range(500)} | {"low": 1000, "lower": 500}
    learned = train.train(table(found), bpe(356, pre_tokenizer="metaspace", byte_fallback=True))
    assert len(learned.pieces) > 306
    assert "low" in learned.pieces
    assert learned.coverage < 0.5


@pytest.mark.parametrize(
    ("algorithm", "forms", "options"),
    [
        ("wordpiece", 2, {}),
        ("unigram", 1, {}),
        ("bpe", 1, {"pre_tokenizer": "metaspace"}),
        ("bpe", 2, {"pre_tokenizer": "whitespace"}),
    ],
    ids=str,
)
def test_a_vocabulary_smaller_than_the_alphabet_names_the_size_that_is_enough(algorithm, forms, options):
    texts = pa.array(["".join(chr(0x4E00 + i) for i in range(start, start + 30)) for start in range(0, 1500, 30)])
    given = {"name": "x", "algorithm": algorithm, "normalizer": "none", **options}
    small = TokenizerConfig.model_validate({**given, "vocab_size": 600})
    counted = counts.count(texts, small)
    with pytest.raises(alphabet.VocabularyTooSmall, match="raise it to more than") as refused:
        train.train(counted, small)
    (size,) = map(int, re.findall("raise it to more than ([0-9]+)", str(refused.value)))
    assert 1500 * forms <= size < 1500 * forms + 20
    enough = TokenizerConfig.model_validate({**given, "vocab_size": size})
    learned = train.train(counted, enough)
    encoded = export.to_tokenizer(learned, enough).encode(texts[3].as_py(), add_special_tokens=False)
    assert enough.special["unk"] not in encoded.tokens
    rare = TokenizerConfig.model_validate({**given, "vocab_size": 600, "character_coverage": 0.15})
    assert 0.15 <= train.train(counted, rare).coverage < 0.16


def test_character_coverage_leaves_out_the_rarest_characters():
    found = table({"a": 9000, "b": 900, "c": 90, "d": 10})
    for share, letters in ((1.0, "abcd"), (0.9995, "abcd"), (0.999, "abc"), (0.99, "ab"), (0.5, "a")):
        learned = train.train(found, bpe(40, pre_tokenizer="metaspace", character_coverage=share))
        assert learned.pieces == ["[UNK]", *letters]
        assert learned.coverage >= share


@pytest.mark.parametrize("algorithm", ["bpe", "wordpiece", "unigram"])
def test_odd_text_trains(algorithm):
    odd = [
        "# Title\n\n```py\nx = [1, 2]\n```\n| a | b |\n",
        "👩‍👩‍👧 🏳️‍🌈 😉",
        "mixed кириллица 日本語 עברית ไทย",
        "\x00\x01",
        "a" * 5000,
    ]
    config = TokenizerConfig(name="x", algorithm=algorithm, vocab_size=400)
    found = counts.count(pa.array(odd), config)
    learned = train.train(found, config)
    assert len(set(learned.pieces)) == len(learned.pieces)
    export.to_tokenizer(learned, config).encode_batch(odd)
