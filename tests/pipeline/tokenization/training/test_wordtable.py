from collections import Counter
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.text.buffers import text_buffers
from pipeline.text.kernels import text_data
from pipeline.tokenization import character_classes
from pipeline.tokenization.character_classes import DIGIT
from pipeline.tokenization.encoding import pretokenize
from pipeline.tokenization.training import wordtable

#: Of few letters and about as long as the table's numbers are, so that most words share a beginning; a zero byte is
#: what fills a number up.
WORDS = st.lists(
    st.one_of(
        st.binary(max_size=20),
        st.builds(
            lambda size, end: b"x" * size + end, st.integers(0, 34), st.sampled_from([b"", b"\0", b"\0\0", b"y"])
        ),
        st.text("aé中🙂", max_size=10).map(str.encode),
    ),
    max_size=40,
)


def counted(words: list[bytes], weights: list[int], table: wordtable.WordTable) -> wordtable.WordTable:
    """``words`` end to end added to ``table``: the last of them ends where the text does."""
    ends = np.cumsum([len(word) for word in words], dtype=np.int64)
    starts = ends - np.array([len(word) for word in words], np.int64)
    data = text_data(np.frombuffer(b"".join(words), np.uint8))
    return wordtable.add(data, starts, ends, np.array(weights, np.int64), table)


def contents(table: wordtable.WordTable) -> dict[bytes, int]:
    data, offsets, counts = wordtable.contents(table)
    words = [data[start:end].tobytes() for start, end in pairwise(offsets)]
    assert len(set(words)) == len(words)
    return dict(zip(words, counts.tolist(), strict=True))


@given(WORDS, WORDS, st.integers(1, 1 << 40))
def test_words_are_counted_as_a_dictionary_counts_them(words, others, weight):
    table = counted(words, [], wordtable.empty(8))
    table = counted(others, [weight + i for i in range(len(others))], table)
    expected = Counter(words)
    for i, word in enumerate(others):
        expected[word] += weight + i
    assert contents(table) == expected
    for word in {b"", b"#", b"x" * 8 + b"#", *words, *others}:
        text = text_data(np.frombuffer(word + b"#", np.uint8))
        assert wordtable.holds(text, 0, len(word), *table[:3]) == (word in expected)


@given(st.lists(st.text("ab cé中🙂1'\n\t\0", max_size=60), max_size=8), st.booleans(), st.sampled_from([0, DIGIT]))
def test_texts_are_counted_as_their_spans_are(texts, weighted, alone):
    data, offsets = text_buffers(pa.array([text + " " + "é1" * at for at, text in enumerate(texts)], pa.string()))
    data, bits, alone = text_data(data), character_classes.table(), np.uint8(alone)
    weights = np.arange(3, 3 + len(texts)) if weighted else np.zeros(0, np.int64)
    for kind in (pretokenize.GPT2, pretokenize.GPT4, pretokenize.WORDS, pretokenize.BERT_MARKS):
        actual = wordtable.add_texts(data, offsets, bits, kind, alone, weights, wordtable.empty(8))
        starts, ends, bounds = pretokenize.cut_all(data, offsets, bits, kind, alone)
        times = np.repeat(weights, np.diff(bounds)) if weighted else weights
        assert contents(actual) == contents(wordtable.add(data, starts, ends, times, wordtable.empty(8)))


@pytest.mark.parametrize("length", [3, 12, 20])
def test_a_table_grows_with_the_words_of_texts(length):
    words = [f"{number}".rjust(length, "x") for number in range(3000)]
    data, offsets = text_buffers(pa.array([" ".join(words[at : at + 100]) for at in range(0, 3000, 100)] * 2))
    bits, none = character_classes.table(), np.zeros(0, np.int64)
    kind = pretokenize.WORDS
    table = wordtable.add_texts(text_data(data), offsets, bits, kind, np.uint8(0), none, wordtable.empty(8))
    assert contents(table) == {word.encode(): 2 for word in words}


@pytest.mark.parametrize("size", [3, 12, 20])
def test_a_table_grows_with_its_words(size):
    words = [number.to_bytes(3, "big").rjust(size, b"-") + b"." for number in range(5000)] * 2
    assert contents(counted(words, [], wordtable.empty(8))) == dict.fromkeys(words, 2)
