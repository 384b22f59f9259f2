"""Deduplication, heuristics, perplexity and tokenizers agree on the scripts without spaces, and on where words part."""

from __future__ import annotations

import unicodedata
from itertools import accumulate, pairwise
from typing import get_args

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.text import characters, folding, scripts, sentence_folding, shingles, words
from pipeline.text.buffers import text_buffers
from pipeline.text.phrases import count, prepare
from pipeline.tokenization import character_classes
from pipeline.tokenization.config import Script
from pipeline.tokenization.encoding import pretokenize

SAMPLES = {
    "han": "漢字我爱々",
    "kana": "ひらがなカタカナーｶﾅ",
    "bopomofo": "ㄅㄆㄇ",
    "yi": "ꆈꌠꁱꂷ",
    "thai": "ภาษาไทยเที่ยว",
    "lao": "ພາສາລາວເປັນ",
    "khmer": "ភាសាខ្មែរ",
    "myanmar": "မြန်မာဘာသာ",
    "tibetan": "བོད་སྐད་ཡིག",
    "javanese": "ꦧꦱꦗꦮꦏꦤ꧀ꦛ",
    "tai": "ᥖᥭᦺᦑᩅᨴᩱꪼꪕ",
}
SPACED = "aZé09жا한हि\u0301_ .,!'-\n"
TEXTS = st.text(alphabet=sorted({*"".join(SAMPLES.values()), *SPACED}), max_size=40)
TOKENIZED = tuple(script for script in get_args(Script) if script != "hangul")


#: Letters that several scripts use, so that the engine of the tokenizers counts them to none.
SHARED = {0x3006, *range(0x3031, 0x3036), 0x303C, 0x30FC, 0xFF70, 0xFF9E, 0xFF9F, 0xA9CF}


def edges(parts: list[str]) -> set[int]:
    """Where the parts of a text begin and end, in characters of the text without its white space."""
    return {0, *accumulate(map(len, parts))}


def heuristic_words(text: str) -> list[str]:
    data, offsets = text_buffers(pa.array([text]))
    _, starts, ends = words.word_spans(data, offsets)
    return [data[start:end].tobytes().decode() for start, end in zip(starts, ends, strict=True)]


def tokens_of_perplexity(text: str) -> list[str]:
    found = sentence_folding.sentences(pa.array([text])).lines.to_pylist()
    return [token for line in found for token in line.split(" ")]


def pre_tokens(text: str) -> list[str]:
    data, offsets = text_buffers(pa.array([text]))
    table = character_classes.table(TOKENIZED)
    starts, ends, _ = pretokenize.cut_all(data, offsets, table, pretokenize.WORDS, character_classes.SCRIPT)
    return [data[start:end].tobytes().decode() for start, end in zip(starts, ends, strict=True)]


def kinds(text: str) -> list[int]:
    data = np.frombuffer(text.encode(), np.uint8)
    places = accumulate((len(character.encode()) for character in text[:-1]), initial=0)
    return [int(characters.kind(data, at, characters.table())) for at in places] if text else []


def is_letter(character: str) -> bool:
    return scripts.is_unspaced(character) and unicodedata.category(character)[0] == "L"


@given(TEXTS)
def test_each_parts_words_of_scripts_without_spaces_wherever_the_next_one_does(text):
    solid = "".join(text.split())
    heuristics, perplexity = edges(heuristic_words(text)), edges(tokens_of_perplexity(text))
    tokenizers = edges(pre_tokens(text))
    assert max(heuristics) == max(perplexity) == max(tokenizers) == len(solid)
    for at, (before, after) in enumerate(pairwise(solid), 1):
        if is_letter(before) or is_letter(after):
            assert at in tokenizers or ord(before) in SHARED or ord(after) in SHARED
            assert at not in heuristics or at in perplexity


@given(TEXTS)
def test_dedup_parts_all_characters_of_scripts_without_spaces(text):
    alone = sum(scripts.is_unspaced(character) and folding.in_word(character) for character in text)
    others = "".join(" " if scripts.is_unspaced(character) else character for character in text)
    assert len(list(shingles.words(text))) == alone + len(list(shingles.words(others)))
    assert shingles.word_counts(pa.array([text])).tolist() == [alone + len(list(shingles.words(others)))]


@given(TEXTS)
def test_perplexity_takes_each_letter_of_scripts_without_spaces_for_a_token(text):
    begun = sum(is_letter(token[0]) for token in tokens_of_perplexity(text))
    assert begun == sum(map(is_letter, text))


@given(TEXTS)
def test_all_part_words_where_a_script_without_spaces_meets_one_with_them(text):
    solid = "".join(text.split())
    parted = [edges(part(text)) for part in (heuristic_words, tokens_of_perplexity, pre_tokens)]
    for at, (before, after) in enumerate(pairwise(solid), 1):
        spaced = [c for c in (before, after) if c.isalnum() and not scripts.is_unspaced(c)]
        letters = [c for c in (before, after) if is_letter(c)]
        whole = all(kinds(c)[0] & (characters.ALONE | characters.CLUSTER) for c in letters)  # no vowel of a syllable
        if spaced and letters and whole and SHARED.isdisjoint(map(ord, letters)):
            assert all(at in places for places in parted)


@given(TEXTS)
def test_lists_of_words_find_in_scripts_without_spaces_what_the_heuristics_take_for_words(text):
    units = [
        word for word in heuristic_words(text) if all(is_letter(c) or unicodedata.category(c)[0] == "M" for c in word)
    ]
    unit_text = "".join(units)
    assert count(pa.array([unit_text]), prepare([])).words.tolist() == [len(heuristic_words(unit_text))]


def test_the_table_is_the_same_for_all():
    """Letter by letter, of all of Unicode; tokenizers have it by script, so without SHARED."""
    of_a_script = character_classes.table(TOKENIZED) & character_classes.SCRIPT > 0
    table, perplexity = folding.word_table(), sentence_folding._table() >> 24
    for point in range(sentence_folding._TABLE_END):
        character = chr(point)
        if unicodedata.category(character)[0] != "L":
            continue
        unspaced = scripts.is_unspaced(character)
        found = kinds(character)[0] if not 0xD800 <= point < 0xE000 else 0
        assert bool(table[point] & folding.ALONE) == unspaced, hex(point)
        assert (perplexity[point] == sentence_folding._ALONE) == unspaced, hex(point)
        bits = characters.ALONE | characters.CLUSTER | characters.JOINING
        assert (found & bits > 0) == unspaced, hex(point)
        if of_a_script[point] != unspaced:
            assert point in SHARED or (not unspaced and (point in {0x2EA, 0x2EB} or 0x16FE0 <= point < 0x17000)), hex(
                point
            )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("བོད་སྐད་ཡིག།", ["བོད", "་", "སྐད", "་", "ཡིག", "།"]),
        ("ꆈꌠꁱꂷ", ["ꆈ", "ꌠ", "ꁱ", "ꂷ"]),
        ("ꦧꦱꦗꦮ", ["ꦧ", "ꦱ", "ꦗ", "ꦮ"]),
        ("ꦏꦤ꧀ꦛ", ["ꦏ", "ꦤ꧀ꦛ"]),
        ("ꪼꪕ", ["ꪼꪕ"]),
    ],
)
def test_syllables_of_scripts_that_were_whole_lines(text, expected):
    assert heuristic_words(text) == expected


@pytest.mark.parametrize(
    ("text", "phrase", "found"), [("ไทย", "ท", 0), ("བོད་", "བོ", 0), ("བོད་", "བོད", 1), ("ខ្មែរ", "ម", 0)]
)
def test_a_phrase_is_not_found_inside_a_syllable(text, phrase, found):
    assert len(count(pa.array([text]), prepare([phrase])).matches) == found
