"""The kernels compute what the plain definition says, on any text."""

import re
import time

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from pipeline.text.shingles import shingle_hash, shingle_sets, shingles, words

MIXED = st.text(
    alphabet=st.sampled_from(
        list("aAbZ9_ .-\n\u00a0ßÉéİΣςжЖ\u0301हिन्दी我爱。ひカﾊไท\u0e35ကျ한글😀\U00020000\x00\u2028")
    )
)
PIECES = st.lists(st.sampled_from(["Word", "a_1", "Ninechars", "x" * 40, "É", " ", ", ", "  ", "9" * 31]), max_size=20)
TEXTS = st.lists(st.one_of(MIXED, st.text(), PIECES.map("".join)), max_size=6)


def sets_of(texts: list[str], ngram: int) -> list[list[int]]:
    follows = "_" * 80  # is read together with what comes before, and is no part of it
    hashes, offsets = shingle_sets(pa.array([*texts, follows], pa.string()), ngram)
    return [hashes[offsets[i] : offsets[i + 1]].tolist() for i in range(len(texts))]


@given(TEXTS, st.integers(1, 6))
def test_shingle_sets_are_the_distinct_hashes_of_the_definition(texts, ngram):
    expected = [sorted({shingle_hash(shingle) for shingle in shingles(text, ngram)}) for text in texts]
    assert sets_of(texts, ngram) == expected


@given(st.text(alphabet=st.characters(codec="latin-1")))
def test_words_of_latin_text_are_those_of_the_usual_regular_expression(text):
    assert list(words(text)) == re.findall(r"\w+", text.lower())


def test_marks_do_not_end_a_word():
    assert list(words("हिन्दी भाषा cafe\u0301")) == ["हिन्दी", "भाषा", "cafe\u0301"]


def test_each_character_of_a_script_without_spaces_is_a_word():
    assert list(words("Tokyo東京 ไทย カナ 한국어")) == ["tokyo", "東", "京", "ไ", "ท", "ย", "カ", "ナ", "한국어"]


def test_a_text_shorter_than_a_shingle_is_one_shingle_and_one_without_words_has_none():
    assert shingles("two words", 5) == [("two", "words")]
    assert shingles("", 5) == shingles(" .!? 😀\n", 5) == []
    assert sets_of(["", " .!? 😀\n"], 5) == [[], []]


def test_word_boundaries_and_order_are_part_of_a_shingle():
    assert len({shingle_hash(s) for s in [("ab", "c"), ("a", "bc"), ("abc",), ("c", "ab")]}) == 4


def test_a_text_of_one_endless_repetition_is_hashed_in_linear_time():
    text = pa.array(["a b " * 2_000_000])
    shingle_sets(text.slice(0, 0), 5)
    start = time.process_time()
    hashes, _ = shingle_sets(text, 5)
    assert len(hashes) == 2
    assert time.process_time() - start < 5
