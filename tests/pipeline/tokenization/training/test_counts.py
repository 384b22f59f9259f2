from collections import Counter

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.tokenization.config import TokenizerConfig
from pipeline.tokenization.formats import export
from pipeline.tokenization.formats.export import Vocabulary
from pipeline.tokenization.training import counts
from tests.pipeline.tokenization.conftest import documents

CONFIGS = [
    TokenizerConfig.model_validate({"name": "x", "vocab_size": 300, **options})
    for options in (
        {"algorithm": "bpe"},
        {"algorithm": "bpe", "normalizer": "nfc", "lowercase": True},
        {"algorithm": "bpe", "pre_tokenizer": "gpt2_marks"},
        {"algorithm": "bpe", "pre_tokenizer": "gpt4", "split_digits": True},
        {"algorithm": "bpe", "pre_tokenizer": "whitespace", "normalizer": "nfkc"},
        {"algorithm": "wordpiece"},
        {"algorithm": "wordpiece", "lowercase": False, "strip_accents": False, "split_digits": True},
        {"algorithm": "unigram"},
        {"algorithm": "unigram", "normalizer": "none", "split_digits": True},
        {"algorithm": "unigram", "lowercase": True, "strip_accents": True},
        {"algorithm": "unigram", "split_cjk": True, "split_digits": True},
        {"algorithm": "bpe", "split_cjk": True},
        {"algorithm": "bpe", "split_scripts": ["hiragana", "thai"], "split_digits": True},
        {"algorithm": "wordpiece", "split_scripts": ["katakana", "hangul", "lao"]},
        {"algorithm": "unigram", "split_scripts": ["han", "hangul"]},
        {"algorithm": "bpe", "pre_tokenizer": "bert", "split_cjk": True},
        {"algorithm": "unigram", "remove_extra_whitespaces": False},
        {"algorithm": "unigram", "add_dummy_prefix": False, "split_digits": True},
        {
            "algorithm": "bpe",
            "pre_tokenizer": "metaspace",
            "remove_extra_whitespaces": False,
            "add_dummy_prefix": False,
            "split_scripts": ["thai"],
        },
        {"algorithm": "unigram", "remove_extra_whitespaces": False, "lowercase": True, "strip_accents": True},
    )
]
TRICKY = [
    "A",
    "É",
    "e\u0301",
    "\u0301",
    "ﬁ",
    "½",
    "1",
    " ",
    "  ",
    "\n",
    "\x0b",
    "\x00",
    "\u00a0",
    "\u2028",
    "\u00b4",
    "▁",
    "中",
    "𠀋字",
    "かなカナ",
    "ไทยລາວ",
    "٣५",
]
TRICKY += ["İ", "ß", ".", "-", "'s", "한", "\u1112\u1161", "😉", "\u00ad", "b"]
texts = st.lists(
    st.one_of(st.text(max_size=20), st.lists(st.sampled_from(TRICKY), max_size=12).map("".join)), max_size=10
)


def by_engine(texts: list[str], config: TokenizerConfig) -> Counter:
    """Pre-tokens as the exported tokenizer cuts them, bytes undone from GPT-2's alphabet."""
    pieces = [*config.reserved, *(export.byte_alphabet() if config.byte_level else [])]
    tokenizer = export.to_tokenizer(Vocabulary(pieces, scores=[0.0] * len(pieces)), config)
    letters = {letter: byte for byte, letter in enumerate(export.byte_alphabet())}
    found: Counter = Counter()
    for text in texts:
        if tokenizer.normalizer:
            text = tokenizer.normalizer.normalize_str(text)
        for piece, _ in tokenizer.pre_tokenizer.pre_tokenize_str(text):
            found[bytes(letters[c] for c in piece).decode() if config.byte_level else piece] += 1
    return found


def as_counter(table: pa.Table) -> Counter:
    return Counter(dict(zip(table["word"].to_pylist(), table["count"].to_pylist(), strict=True)))


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: c.model_dump_json(include=set(counts.counting_part(c))))
@given(texts)
def test_counts_are_what_the_exported_tokenizer_cuts(config, found):
    assert as_counter(counts.count(pa.array(found, pa.string()), config)) == by_engine(found, config)


@pytest.mark.parametrize("config", CONFIGS[::3], ids=lambda c: c.algorithm)
def test_partitions_of_shards_add_up_to_the_counts_of_the_whole(config):
    all_texts = [d["text"] for d in documents()]
    whole = counts.count(pa.array(all_texts), config)
    parts = [counts.count(pa.array(all_texts[i::5]), config) for i in range(5)]
    merged = [counts.merge(counts.partition(part, p) for part in parts) for p in range(counts.PARTITIONS)]
    assert pa.concat_tables(merged).combine_chunks() == whole


def test_counts_do_not_overflow_at_32_bits():
    table = counts.count(pa.array(["low lower"]), CONFIGS[0])
    scaled = table.set_column(2, counts.COUNTS_SCHEMA.field(2), pa.array([2_200_000_000] * len(table)))
    total = counts.merge([scaled, scaled, scaled])
    assert set(total["count"].to_pylist()) == {6_600_000_000}


def test_no_text_gives_an_empty_table():
    for config in CONFIGS:
        table = counts.count(pa.array([], pa.string()), config)
        assert len(table) == 0
        assert table.schema == counts.COUNTS_SCHEMA
        assert len(counts.count(pa.array(["", ""]), config)) == 0


def test_a_long_line_without_spaces_is_one_pre_token():
    table = counts.count(pa.array(["a" * 3_000_000]), CONFIGS[0])
    assert table["word"][0].as_py() == "a" * 3_000_000
