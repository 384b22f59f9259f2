"""Words: by hand for each rule, and what must hold for any text."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.text import characters, english, hashing, words
from pipeline.text.buffers import text_buffers

ALPHABET = "aAzZ09 \n\t.,'’\"()-–—/:;!?…#$%&*+=@_~^\0é漢カーกาเ\u1780\u17d2\u1781က်😀\u0301\u2028"


def split(*texts: str) -> list[list[str]]:
    data, offsets = text_buffers(pa.array(["before", *texts], pa.string()).slice(1))
    word_offsets, starts, ends = words.word_spans(data, offsets)
    found = [data[start:end].tobytes().decode() for start, end in zip(starts, ends, strict=True)]
    return [found[first:last] for first, last in pairwise(word_offsets)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain words", "plain|words"),
        ("A word, two; three: four! five? 'six' \"seven\"", "A|word|,|two|;|three|:|four|!|five|?|'|six|'|\"|seven|\""),
        ("(see [12])", "(|see|[|12|]|)"),
        ("It ends. Mr. Smith e.g. in the U.S. or USA.", "It|ends|.|Mr.|Smith|e.g.|in|the|U.S.|or|USA|."),
        ("Wait... what…", "Wait|...|what|…"),
        ("don't can't cannot he's John's Johns'", "do|n't|ca|n't|can|not|he|'s|John|'s|Johns|'"),
        ("don’t we’ll", "do|n’t|we|’ll"),
        ("its well ill", "its|well|ill"),
        ("well-known 1-2 3-4-5 a--b x- -y", "well|-|known|1|-|2|3|-|4|-|5|a|--|b|x-|-y"),
        ("and/or this/that 1/2", "and/or|this|/|that|1/2"),
        ("50% $20 20$ 5km 5 km +1 1+", "50|%|$|20|20|$|5|km|5|km|+1|1|+"),
        ("10am 9:30 12,000 1.5", "10|am|9:30|12,000|1.5"),
        (
            "http://a.org/x-y?z=1 me@b.com www.c.de/d_e, one.Two",
            "http://a.org/x-y?z=1|me@b.com|www.c.de/d_e|,|one|.|Two",
        ),
        (":-) <3 (a): x. (b)", ":-)|<3|(|a|):|x.|(|b|)"),
        ("25°C 😀😀 a😀b", "25|°|C|😀|😀|a|😀|b"),
        ("漢字カナ。한국어 단어", "漢|字|カ|ナ|。|한국어|단어"),
        ("สวัสดี เที่ยว", "ส|วั|ส|ดี|เที่|ย|ว"),
        ("မြန်မာ ភាសាខ្មែរ", "မြန်|မာ|ភា|សា|ខ្មែ|រ"),
        ("", ""),
        (" \n\t\u2003\u2028", ""),
        ("\0 a\0b", "\0|a\0b"),
    ],
)
def test_words_by_hand(text: str, expected: str) -> None:
    assert split(text) == [expected.split("|") if expected else []]


@given(st.lists(st.text(alphabet=ALPHABET, max_size=40), max_size=4))
def test_words_are_the_text_without_its_whitespace(texts: list[str]) -> None:
    for text, found in zip(texts, split(*texts), strict=True):
        assert "".join(found) == "".join(text.split())
        assert all(found)


@given(st.lists(st.text(alphabet=ALPHABET, max_size=12), min_size=1, max_size=6))
def test_words_do_not_depend_on_the_runs_around_them(texts: list[str]) -> None:
    runs = [run for text in texts for run in text.split()]
    assert split(" ".join(runs)) == [[word for found in split(*runs) for word in found]]


@given(st.text(alphabet=ALPHABET, max_size=60))
def test_each_word_is_described(text: str) -> None:
    data = np.frombuffer(text.encode(), np.uint8)
    found = np.empty(words.CAPACITY, words.WORD)
    table = characters.table()
    count, at = words.split(data, 0, len(data), table, english.lookup(), found)
    assert at == len(data)
    for word in found[:count]:
        raw = data[word["start"] : word["end"]]
        kinds = [int(characters.kind(np.frombuffer(char.encode(), np.uint8), 0, table)) for char in bytes(raw).decode()]
        assert word["characters"] == len(kinds)
        assert word["some"] & characters.LETTER == max(kind & characters.LETTER for kind in kinds)
        for bit in (characters.SYMBOL, characters.PUNCTUATION, characters.TERMINAL):
            assert bool(word["every"] & bit) == all(kind & bit for kind in kinds)
        assert word["key"] == hashing.word_key(raw, 0, len(raw))


RUNS = st.sampled_from(["word", "W", "ninechars", "x" * 23, "x" * 24, "x" * 40, "don't", "Mr", "é", "12", "im", "\xa0"])
MARKS = st.sampled_from(["", ".", ",", "'", ")", "!!", "—", " ", "  ", "\n", " " * 40])


@given(st.lists(st.tuples(RUNS, MARKS | st.sampled_from(ALPHABET)).map("".join), max_size=12).map("".join))
def test_plain_runs_are_words_and_marks_as_any_are_split(text: str) -> None:
    data = np.frombuffer(f"{text}{'x' * 40}".encode(), np.uint8)
    data.flags.writeable = False
    found, table, slots = np.empty(words.CAPACITY, words.WORD), characters.table(), english.lookup()
    end = len(data) - 40  # the letters that follow are read too, and are no part of the text
    count, _ = words.split(data, 0, end, table, slots, found)
    expected = [(word["start"], word["end"], word["key"]) for word in found[:count]]
    seen, at = [], 0
    while at < end:
        letters, mark, key, after = words.plain_run(data, at, end, table, slots)
        if letters < 0:
            count, after = words.split(data, at, after, table, slots, found)
            seen += [(word["start"], word["end"], word["key"]) for word in found[:count]]
        if letters > 0:
            seen.append((at, at + letters, key))
        if mark and letters >= 0:
            seen.append((at + letters, at + letters + 1, hashing.word_key(data, at + letters, at + letters + 1)))
        at = after
    assert seen == expected


def test_a_run_that_comes_again_has_the_words_that_it_had() -> None:
    table, slots = characters.table(), english.lookup()
    found, (memory, runs) = np.empty(words.CAPACITY, words.WORD), words.with_memory()

    @given(st.lists(st.text(alphabet=ALPHABET, max_size=40) | RUNS, max_size=6), st.integers(0, 9))
    def are_equal(texts: list[str], shift: int) -> None:
        for text in [*texts, *texts]:
            data = np.frombuffer(f"{'x' * shift}{text}y".encode(), np.uint8)
            data.flags.writeable = False
            count, at = words.split(data, shift, len(data) - 1, table, slots, found)
            first, again, base, stop = words.split_again(data, shift, len(data) - 1, table, slots, memory, runs)
            assert (again, stop) == (count, at)
            same = memory[first : first + again].copy()
            same["start"] += base
            same["end"] += base
            assert same.tobytes() == found[:count].tobytes()
            remembered.add(base > 0)

    remembered: set[bool] = set()
    are_equal()
    assert remembered == {False, True}


def test_a_run_of_any_length_is_split_in_bounded_space() -> None:
    run = words.RUN
    found = split("x" * (3 * run), "!" * (5 * run), "é" * run, "漢" * (2 * run))
    assert [len(word) for word in found[0]] == [run] * 3
    assert len(found[1]) == 5 * run
    assert "".join(found[2]) == "é" * run
    assert found[3] == ["漢"] * (2 * run)


@pytest.mark.parametrize("stops", [(), ("the", "The", "漢"), tuple(f"word{k}" for k in range(64))])
def test_a_word_is_found_in_a_table_that_holds_it_and_only_there(stops: tuple[str, ...]) -> None:
    table = words.word_table(stops)
    for word in (*stops, "other", "th", ""):
        raw = np.frombuffer(word.encode(), np.uint8)
        key = np.uint64(hashing.word_key(raw, 0, len(raw)))
        assert (words.word_slot(key, table) >= 0) == (word in stops)


def test_more_words_to_look_for_than_the_table_holds_are_refused() -> None:
    with pytest.raises(ValueError, match="65 words"):
        words.word_table(tuple(f"word{k}" for k in range(65)))
