import re

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.text.sentence_folding import LONGEST_SENTENCE, LONGEST_WORD, sentences

anything = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


def folded(text: str) -> list[str]:
    found = sentences(pa.array([text]))
    assert found.first.tolist() == [0, len(found.lines)]
    return found.lines.to_pylist()


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("Hello, World!", ["hello , world !"]),
        ("one\n\n  \ntwo\r\nthree", ["one", "two", "three"]),
        ("It’s 1,234.5 — “so” `x`", ["it ' s 0 , 000 . 0 - \" so \" ' x '"]),
        ("ÉCOLE Straße ΟΔΟΣ ЁЛКА", ["école straße οδοσ ёлка"]),
        ("٣٤ ५६ ７ x2y", ["00 00 0 x0y"]),
        ("你好world 東京タワー", ["你 好 world 東 京 タ ワ ー"]),
        ("สวัสดี", ["ส วั ส ดี"]),
        ("e\u0301te\u0301 👍🏽", ["e\u0301te\u0301 👍 🏽"]),
        ("soft\u00adhyphen\u200b \ufeffmark", ["softhyphen mark"]),
        ("a\x00b\tc\x0bd\u00a0e\u2028f", ["a b c d e f"]),
        ("snake_case don't a.b@c.de", ["snake _ case don ' t a . b @ c . de"]),
        ("İstanbul K", ["İstanbul k"]),  # lower-cased they would be two characters; one
        ("", []),
        (" \n\t\n", []),
    ],
)
def test_what_a_text_is_folded_to(text: str, lines: list[str]):
    assert folded(text) == lines


@pytest.mark.parametrize("special", ["<unk>", "<s>", "</s>"])
def test_no_token_is_one_that_the_models_reserve(special: str):
    assert special not in folded(f"a {special} b {special}")[0].split(" ")


@given(st.lists(anything, max_size=6))
def test_the_arrays_describe_the_lines(texts: list[str]):
    found = sentences(pa.array(texts, pa.string()))
    found.lines.validate(full=True)
    lines = found.lines.to_pylist()
    assert found.tokens.tolist() == [len(line.split(" ")) for line in lines]
    assert all(line.split(" ") == line.split() for line in lines), "a token holds a space that KenLM would split at"
    assert found.first[0] == 0
    assert found.first[-1] == len(lines)


@given(st.lists(anything | st.text("aB9`.-é漢\u0301\u200b \n\x7f", max_size=200), max_size=6))
def test_a_text_gives_the_same_in_any_company(texts: list[str]):
    together = sentences(pa.array(["x", *texts, "letters that are read together with the last" * 2], pa.string())[1:])
    for i, text in enumerate(texts):  # alone, its end is read character by character
        assert together.lines[together.first[i] : together.first[i + 1]].to_pylist() == folded(text)


@given(
    st.lists(
        st.sampled_from(["a", "Hello", "ÉCOLE", "B7", "Ж", " ", "  ", "\n", "x" * 15, "Y" * 16, "z" * 63]), max_size=60
    )
)
def test_words_are_lower_cased_with_their_digits_0_and_cut_where_they_are_too_long(parts: list[str]):
    text = "".join(parts)
    words = [re.findall(rf"\w{{1,{LONGEST_WORD}}}", re.sub(r"\d", "0", line.lower())) for line in text.split("\n")]
    expected = [" ".join(line) for line in words if line]
    assert folded(text) == expected
    assert sentences(pa.array([text, "and another text, longer than a window" * 3])).lines.to_pylist()[:-1] == expected


@given(anything)
def test_folding_twice_changes_nothing(text: str):
    lines = folded(text)
    assert folded("\n".join(lines)) == lines


def test_a_long_line_goes_on_as_the_next_sentence_and_a_long_word_as_the_next_word():
    found = sentences(pa.array(["a " * (2 * LONGEST_SENTENCE + 3)]))
    assert found.tokens.tolist() == [LONGEST_SENTENCE, LONGEST_SENTENCE, 3]
    assert folded("é" * (LONGEST_WORD + 1)) == ["é" * LONGEST_WORD + " é"]


def test_the_largest_growth_fits():
    """Every character is a token of its own, or longer in lower case."""
    for text in ("!" * 5000, "Ⱥ" * 5000, "Ⱥ " * 5000, "\n!" * 5000):
        assert "".join(folded(text)).replace(" ", "") == text.lower().replace(" ", "").replace("\n", "")
