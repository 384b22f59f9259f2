"""The search for grams against sets of words in plain Python."""

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.stages.decontaminate.grams import find, item_grams, words

TEXT = st.one_of(st.text(alphabet="aAbB1 ,.\n我é\u0301ไ'’ʼ-\u00ad\r", max_size=40), st.text(max_size=20))
TEXTS = st.lists(TEXT, max_size=6)


def grams_of(text: str, ngram: int, least: int) -> set[tuple[str, ...]]:
    """The definition."""
    found = list(words(text))
    width = min(len(found), ngram)
    return {tuple(found[i : i + width]) for i in range(len(found) - width + 1)} if len(found) >= least else set()


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(TEXTS, TEXTS, st.integers(1, 4), st.integers(0, 3))
@example(["a b a b a b"], ["a b a"], 2, 0)
def test_every_gram_of_an_item_is_found_at_its_words_and_nothing_else(texts, items, least, more):
    ngram = least + more
    grams, counts, offsets, members = item_grams(pa.array(items, pa.string()), ngram, least)
    assert counts.tolist() == [len(list(words(item))) for item in items]
    named: dict[int, tuple[str, ...]] = {}
    for number, (item, start, end) in enumerate(zip(grams.item, grams.start, grams.end, strict=True)):
        named[number] = tuple(words(items[item].encode()[start:end].decode()))
    assert len(set(named.values())) == len(named)
    for number, item in enumerate(items):
        own = members[offsets[number] : offsets[number + 1]].tolist()
        assert {named[gram] for gram in own} == grams_of(item, ngram, least)
        assert len(own) == len(grams_of(item, ngram, least))
    found = list(
        zip(*find(pa.array(texts, pa.string()), grams, pa.array(items, pa.string()), ngram, least), strict=True)
    )
    expected = []
    for number, text in enumerate(texts):
        sequence = list(words(text))
        for gram in named.values():
            width = len(gram)
            expected += [
                (number, gram, i) for i in range(len(sequence) - width + 1) if tuple(sequence[i : i + width]) == gram
            ]
    at = [
        (text, named[gram], len(list(words(texts[text].encode()[:start].decode())))) for text, gram, start, _ in found
    ]
    assert sorted(at) == sorted(expected)
    for text, gram, start, end in found:
        assert tuple(words(texts[text].encode()[start:end].decode())) == named[gram]


def test_words_that_join_differently_are_not_the_same():
    items = pa.array(["ab c d", "我们 你们 好"])
    grams, *_ = item_grams(items, 3, 2)
    assert [len(part) for part in find(pa.array(["a bc d", "ab cd", "我 们x你们"]), grams, items, 3, 2)] == [0] * 4


def test_a_huge_line_is_searched_in_memory_that_does_not_grow_with_it():
    item = "one rare item of some seven words"
    grams, *_ = item_grams(pa.array([item]), 13, 5)
    text = "x" * 3_000_000 + " " + "word " * 400_000 + item.upper() + " end" * 10
    _, _, start, end = find(pa.array([text]), grams, pa.array([item]), 13, 5)
    assert [text[a:b] for a, b in zip(start, end, strict=True)] == [item.upper()]


def test_apostrophes_and_hyphens_of_any_form_and_at_line_ends_make_no_difference():
    item = pa.array(["Janet's well-known ducks don't lay information o'clock"])
    grams, *_ = item_grams(item, 7, 7)
    others = [
        "Janet’s well-known ducks donʼt lay information o‘clock",
        "Janet`s well‐known ducks dont lay infor-\nmation o\u00adclock",
        "Janet's well-\r\n  known ducks don't lay infor\u00admation o'clock",
        "Janet's well known ducks don't lay information o'clock",  # two words
        "Janet's well-known ducks don't lay infor-\n\nmation o'clock",  # another paragraph
    ]
    found, _, start, end = find(pa.array(others), grams, item, 7, 7)
    assert found.tolist() == [0, 1, 2]
    assert all(others[i].encode()[a:b].decode() == others[i] for i, a, b in zip(found, start, end, strict=True))
    assert words("3-4 'a' b--c d' e") == ["3", "4", "a", "b", "c", "d", "e"]
