"""The compiled scanners against the engine that will read our tokenizers."""

import itertools
import re
import unicodedata
from typing import get_args

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Regex, normalizers, pre_tokenizers

from pipeline.text.buffers import text_buffers
from pipeline.tokenization import character_classes
from pipeline.tokenization.config import Script
from pipeline.tokenization.encoding import pretokenize
from pipeline.tokenization.formats import export

#: GPT-2's published pattern, which `pre_tokenizers.ByteLevel` has built in.
GPT2_PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
ENGINES = {
    pretokenize.GPT2: pre_tokenizers.Split(Regex(GPT2_PATTERN), "isolated"),
    pretokenize.GPT4: pre_tokenizers.Split(Regex(export.GPT4_PATTERN), "isolated"),
    pretokenize.SUPER: pre_tokenizers.Split(Regex(export.SUPER_PATTERN), "isolated"),
    pretokenize.WORDS: pre_tokenizers.WhitespaceSplit(),
    pretokenize.BERT: pre_tokenizers.BertPreTokenizer(),
}
DIGITS = pre_tokenizers.Digits(individual_digits=True)
TRICKY = [
    "'",
    "s",
    "'S",
    "'ſ",
    "re",
    "VE",
    "ll",
    " ",
    "  ",
    "\n",
    "\r",
    "\t",
    "\u00a0",
    "\u3000",
    "\x85",
    "\x0b",
    "é",
]
TRICKY += [
    "e\u0301",
    "\u0301",
    "हिन्दी",
    "ที่",
    "⃝",
    "1",
    "23",
    "½",
    "٣",
    "中",
    "한",
    ".",
    "!",
    "😉",
    "▁",
    "_",
    "\u200d",
    "\x1c",
    "\ufffd",
    "\u2028",
    "a",
]
texts = st.one_of(st.text(max_size=30), st.lists(st.sampled_from(TRICKY), max_size=16).map("".join))

#: Long enough to be cut 64 bytes at a time, where they are ASCII.
ASCII = ["a", "word", "Z", "'s", "'t", "'re", "'ve", "'LL", "'", "e", "1", "23", ".", "!?", "_", "(", "\x1c", "\x00"]
ASCII += [" ", " ", "  ", "\n", "\n", "\t ", "\r\n", "\x0b", "\x0c", "\x7f", "-" * 70, "long" * 20, " " * 70]
LONG = st.sampled_from([*ASCII, *ASCII, "é", "中", "ſ", "\u3000"])
long_texts = st.lists(LONG, min_size=30, max_size=90).map("".join)


def cut(texts: list[str], kind: int, split_digits: bool, marks: bool = False) -> list[list[str]]:
    data, offsets = text_buffers(pa.array(texts, pa.string()))
    alone = character_classes.DIGIT if split_digits else np.uint8(0)
    starts, ends, bounds = pretokenize.cut_all(data, offsets, character_classes.table((), marks), kind, alone)
    spans = [data[a:b].tobytes().decode() for a, b in zip(starts, ends, strict=True)]
    return [spans[a:b] for a, b in itertools.pairwise(bounds)]


@pytest.mark.parametrize("split_digits", [False, True])
@pytest.mark.parametrize("kind", list(ENGINES))
@given(st.lists(texts | long_texts, min_size=1, max_size=8))
def test_cuts_equal_the_engines(kind, split_digits, found):
    engine = ENGINES[kind]
    if kind == pretokenize.BERT:  # ours reads cleaned text, as the engine does after its normaliser
        clean = normalizers.BertNormalizer(lowercase=False, strip_accents=False)
        found = [clean.normalize_str(text) for text in found]
    if split_digits:
        steps = [engine, DIGITS] if kind == pretokenize.BERT else [DIGITS, engine]
        engine = pre_tokenizers.Sequence(steps)
    expected = [[piece for piece, _ in engine.pre_tokenize_str(text)] for text in found]
    assert cut(found, kind, split_digits) == expected


@given(st.lists(texts | long_texts, min_size=1, max_size=8))
def test_cuts_that_keep_marks_with_their_letters_equal_the_engines(found):
    engine = pre_tokenizers.Split(Regex(export.MARKS_PATTERN), "isolated")
    expected = [[piece for piece, _ in engine.pre_tokenize_str(text)] for text in found]
    assert cut(found, pretokenize.GPT2, False, marks=True) == expected


@pytest.mark.parametrize(
    ("kind", "pattern"),
    [
        (pretokenize.BERT_WORDS, r"[^\t\n\r ]+"),
        (pretokenize.BERT_MARKS, r"[!-/:-@\[-`{-~]|[^\t\n\r !-/:-@\[-`{-~]+"),
    ],
)
@given(st.lists(st.sampled_from([*ASCII, "é"]), max_size=90).map("".join))
def test_text_that_bert_has_yet_to_clean_is_cut_at_what_stays_white_space(kind, pattern, text):
    assert cut([text], kind, False) == [re.findall(pattern, text)]


def test_only_where_marks_are_letters_a_word_with_vowel_signs_is_one_piece():
    assert cut(["தமிழ் हिन्दी"], pretokenize.GPT2, False, marks=True) == [["தமிழ்", " हिन्दी"]]
    assert cut(["தமிழ்"], pretokenize.GPT2, False) == [["தம", "ி", "ழ", "்"]]


def test_gpt2_cuts_known_text():
    assert cut(["I'll go,  they'RE 12's"], pretokenize.GPT2, False) == [
        ["I", "'ll", " go", ",", " ", " they", "'", "RE", " 12", "'s"]
    ]


def test_gpt4_cuts_known_text():
    assert cut(["hello123!!!? (안녕하세요!) 😉"], pretokenize.GPT4, False) == [
        ["hello", "123", "!!!?", " (", "안녕하세요", "!)", " 😉"]
    ]
    assert cut(["a.\n\n  b 12345"], pretokenize.GPT4, False) == [["a", ".\n\n", " ", " b", " ", "123", "45"]]
    blank_lines = ["a", " \n \n", "   ", " b", "\n \n", " ", "7"]
    assert cut(["".join(blank_lines) + "x" * 64], pretokenize.GPT4, False) == [[*blank_lines, "x" * 64]]


def test_byte_patterns_lose_nothing():
    sample = ["".join(chr(point) for point in range(start, start + 400)) for start in range(0, 0xD000, 400)]
    for kind in (pretokenize.GPT2, pretokenize.GPT4):
        assert ["".join(pieces) for pieces in cut(sample, kind, False)] == sample


@pytest.mark.slow
def test_classes_are_those_of_the_installed_engine():
    assert character_classes.measure() == character_classes._read(), (
        "run python -m pipeline.tokenization.character_classes"
    )


def test_every_decimal_digit_of_unicode_is_a_digit():
    digits = [p for p in range(0x110000) if unicodedata.category(chr(p)) == "Nd"]
    assert len(digits) > 600
    assert (character_classes.table()[digits] & character_classes.DIGIT).all()


def test_a_script_is_in_the_table_where_it_is_asked_for():
    points = [ord(c) for c in "字かカㄅꆈ한ไລខ\u1019བꦧᥖ\u1991ᨴꪕa1"]
    for n, script in enumerate(get_args(Script)):
        assert np.flatnonzero(character_classes.table((script,))[points] & character_classes.SCRIPT).tolist() == [n]
    assert not (character_classes.table() & character_classes.SCRIPT).any()
