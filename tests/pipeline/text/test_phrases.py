"""Phrases are found where regular expressions with word boundaries find them; in unspaced scripts anywhere."""

from __future__ import annotations

import pyarrow as pa
import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from pipeline.text import phrases

UNSPACED = regex.compile(r"[[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}ー]&&\p{L}]", regex.V1)
JOINING = regex.compile(r"[\p{M}ー\u0e32]")
MARKS = regex.compile(r"\p{M}*$")
INSIDE = regex.compile(r"[\p{L}\p{M}0-9]")
SPACES = regex.compile(r"\s+")


def parts(before: str, after: str) -> bool:
    """Whether a word may end between two texts."""
    if not before or not after:
        return True
    inside = INSIDE.match(before[-1])
    if JOINING.match(after):
        return not inside
    base = MARKS.sub("", before)[-1:]
    return not (inside and INSIDE.match(after)) or bool(UNSPACED.match(base) or UNSPACED.match(after))


def by_hand(text: str, wanted: list[str]) -> list[str]:
    text = text.lower()
    found, at = [], 0
    while at < len(text):
        matches = []
        if not text[at].isspace() and parts(text[:at], text[at:]):
            for phrase in wanted:
                pattern = r"\s+".join(map(regex.escape, phrase.lower().split()))
                match = regex.compile(pattern).match(text, at)
                if match and parts(text[: match.end()], text[match.end() :]):
                    matches.append((match.end(), " ".join(phrase.lower().split())))
        matches = [entry for entry in matches if entry[0] == max(matches)[0]]
        if matches and len(matches[0][1]) == 1 and regex.match(r"[\p{Han}\p{Katakana}]", matches[0][1]):
            around = text[at - 1 : at] + text[matches[0][0] : matches[0][0] + 1]
            matches = [] if INSIDE.search(around) else matches
        if matches:
            at, phrase = max(matches)
            found.append(phrase)
        else:
            at += 1
    return found


def found(text: str, wanted: list[str]) -> list[str]:
    known = phrases.prepare(wanted)
    counts = phrases.count(pa.array(["", text]), known)
    assert counts.offsets.tolist() == [0, 0, len(counts.matches)]
    return [known.phrases[number] for number in counts.matches]


PIECES = st.text(alphabet="aAbB1 éÉ漢字かーก\u0e32\u0301-\n\u3000", max_size=14)


@given(st.lists(PIECES.map(str.strip).filter(bool), max_size=5), PIECES, st.data())
def test_what_is_found_is_what_a_search_by_hand_finds(wanted: list[str], text: str, data: st.DataObject):
    between = data.draw(st.sampled_from(["", " ", "a", "漢", "-"]))
    text = between.join([text, *wanted, text])
    assert found(text, wanted) == by_hand(text, wanted)


@pytest.mark.parametrize(
    ("text", "wanted", "expected"),
    [
        ("An ass, a class, an ASS-et; ass", ["ass"], ["ass", "ass", "ass"]),
        ("two\n\tGirls  one", ["two girls", "girls one"], ["two girls"]),
        ("bad bad word", ["bad", "bad word"], ["bad", "bad word"]),
        ("你是混蛋吗", ["混蛋"], ["混蛋"]),
        ("エロい", ["エロ"], ["エロ"]),
        ("エローラ", ["エロ"], []),  # the mark of length belongs to the syllable
        ("ไอ้สัตว์เลว สัตว์1", ["สัตว์"], ["สัตว์", "สัตว์"]),
        ("男性的性 性, 性", ["性"], ["性", "性"]),
        ("écu cul culé", ["cul", "cu"], ["cul"]),
        ("ЖОПА жопах", ["жопа"], ["жопа"]),
        ("@$$ a@$$", ["@$$"], ["@$$", "@$$"]),
        ("anything", [], []),
        ("anything", ["", "  "], []),
    ],
)
def test_words_stand_alone_and_the_longest_counts(text: str, wanted: list[str], expected: list[str]):
    assert found(text, wanted) == expected


def test_covered_words_are_a_part_of_all_words():
    counts = phrases.count(pa.array(["one bad word here", "混蛋 x", "", "..."]), phrases.prepare(["bad word", "混蛋"]))
    assert counts.words.tolist() == [4, 3, 0, 0]
    assert counts.covered.tolist() == [2, 2, 0, 0]


def test_a_slice_of_an_array_gives_the_counts_of_its_texts():
    texts = pa.array(["bad", "x bad", None, "bad bad"])
    assert phrases.count(texts.slice(1), phrases.prepare(["bad"])).offsets.tolist() == [0, 1, 1, 3]


def test_a_phrase_too_long_is_refused():
    with pytest.raises(ValueError, match="the most is 200"):
        phrases.prepare(["x" * 201])
