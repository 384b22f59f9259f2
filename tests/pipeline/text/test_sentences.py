"""Where sentences start, whatever lies between them."""

import itertools

import pyarrow as pa
import pytest

from pipeline.text import sentences


def split(text):
    places, _ = sentences.starts(pa.array([text]))
    return [text.encode()[a:b].decode() for a, b in itertools.pairwise([*places.tolist(), len(text.encode())])]


@pytest.mark.parametrize("filler", ["a", "é", "a b", "x, ", "\x00"])
@pytest.mark.parametrize("end", [". ", "! ", "?) ", "\n", "。"])
def test_a_sentence_of_any_length_ends_at_its_mark(filler, end):
    for size in range(1, 40):
        first = "It " + (filler * size)[:size].strip() + "ab" + end
        assert split(first + "Then this.") == [first, "Then this."]


@pytest.mark.parametrize("word", ["Mr.", "Oct.", "J.", "e.g."])
def test_an_abbreviation_ends_none_wherever_its_word_starts(word):
    for size in range(1, 40):
        text = "a" * size + f" é {word} Smith came. He left."
        assert split(text) == [f"{'a' * size} é {word} Smith came. ", "He left."]
