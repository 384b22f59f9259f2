"""Heuristics: every rule by hand, configuration, and bad input. The definitions: test_heuristics_definitions.py."""

from __future__ import annotations

import math
from typing import Any

import pyarrow as pa
import pytest
from pydantic import ValidationError

from pipeline.build.stage import Batch, Measured
from pipeline.stages.heuristics import stage as heuristics
from pipeline.stages.heuristics.families import Config
from pipeline.store import ledger
from pipeline.text import spans

ALL: dict[str, Any] = {
    **{"gopher_quality": {}, "gopher_repetition": {}, "c4": {}, "fineweb": {}},
    **{"gopher_quality@dolma": {}, "gopher_repetition@dolma": {}, "refinedweb": {}},
}
QUALITY, REPETITION, FINEWEB = "gopher_quality", "gopher_repetition", "fineweb"
DOLMA_QUALITY, DOLMA_REPETITION = "gopher_quality@dolma", "gopher_repetition@dolma"


def config(**families: Any) -> Config:
    return Config.model_validate(families)


def measure(families: dict[str, Any], *texts: str) -> Measured:
    """Through a slice, as the rows of a larger table come."""
    return heuristics.measure(config(**families), Batch(pa.array(["before", *texts], pa.string()).slice(1)))


def signals(families: dict[str, Any], text: str) -> dict[str, Any]:
    return {name: values[0].as_py() for name, values in measure(families, text).signals.items()}


def dropped_by(families: dict[str, Any], text: str, language: str = "en") -> str | None:
    found = {**measure(families, text).signals, "language": pa.array([language])}
    return ledger.judge(heuristics.rules(config(**families)), found, 1).columns()["dropped_by"][0].as_py()


def cut_text(families: dict[str, Any], text: str) -> str:
    found = measure(families, text)
    assert found.spans is not None
    assert found.overwrites is not None
    return spans.cut(spans.overwrite(pa.array([text]), *found.overwrites), found.spans)[0].as_py()


def only(family: str, **kept: Any) -> dict[str, Any]:
    """The family with no threshold but those ``kept``."""
    model = type(getattr(config(**{family: {}}), family.replace("@", "_")))
    limits = [name for name in model.model_fields if name.startswith(("min_", "max_"))]
    return {family: {name: kept.get(name, {} if "ngram" in name else None) for name in limits}}


def words_of(count: int) -> str:
    """So many words that differ."""
    return " ".join(f"w{k}" for k in range(count))


def lines_of(*lines: str) -> str:
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("family", "field", "limit", "kept", "dropped"),
    [
        (QUALITY, "min_words", 50, words_of(50), words_of(49) + " . , ! ..."),
        (QUALITY, "max_words", 100_000, words_of(100_000) + " .", words_of(100_001)),
        (QUALITY, "min_mean_word_length", 3, "abc, abcd. ab", "abc abc ab"),
        (QUALITY, "max_mean_word_length", 10, "abcdefghij . abcdefghij", "abcdefghijk abcdefghij"),
        (QUALITY, "max_hashes_per_word", 0.1, "# " + words_of(9), "# " + words_of(8)),
        (QUALITY, "max_ellipses_per_word", 0.1, "... … " + words_of(18), "... … " + words_of(17)),
        (QUALITY, "max_bullet_lines", 0.9, lines_of(*["- a"] * 5, *[" • b"] * 4, "c"), lines_of(*["-"] * 10, "c")),
        (QUALITY, "max_ellipsis_lines", 0.3, lines_of(*["a... "] * 2, "b…", *"c" * 7), lines_of("a…", "b", "c")),
        (QUALITY, "min_words_with_letter", 0.8, "a é 漢 d1 2", "a b c 1 ."),
        (QUALITY, "min_stop_words", 2, "the dog and the cat", "the the The of\u00e9"),
        (REPETITION, "max_duplicate_paragraphs", 0.25, "a\nb\n\nc\n\n\na\nb\n\nd\n", "a\n\nb\n\na"),
        (REPETITION, "max_duplicate_paragraph_characters", 0.25, "aéa\n\naéa\n\nbb", "aéa\n\naéa\n\nb"),
        (REPETITION, "max_duplicate_lines", 0.2, lines_of(*"abcda"), lines_of(*"abca")),
        (REPETITION, "max_duplicate_line_characters", 0.25, "aéa\naéa\nbbbb", "aéa\naéa\nbbb"),
        (DOLMA_QUALITY, "min_words", 2, "a\u2003b", "..."),
        (DOLMA_QUALITY, "max_words", 2, "a b!", "a b !"),
        (DOLMA_QUALITY, "min_median_word_length", 3, "a abc abcd", "a ab abc abcd"),
        (DOLMA_QUALITY, "max_median_word_length", 3, "ab abcd abcd ab", "a abc abcd abcd"),
        (DOLMA_QUALITY, "max_words_with_symbol", 0.4, "##a b…c d e f", "#a b… c"),
        (DOLMA_QUALITY, "max_bullet_lines", 0.5, lines_of("* a", " - b", "-", ""), lines_of("*", "-", "")),
        (DOLMA_QUALITY, "max_ellipsis_lines", 0.5, lines_of("a…", "b…", "c...", "d… "), lines_of("a…")),
        (DOLMA_QUALITY, "min_words_with_letter", 0.5, "a1 2 é 3", "a 2 ."),
        (DOLMA_QUALITY, "min_stop_words", 2, "the the", "the the, The"),
        (DOLMA_REPETITION, "max_duplicate_lines", 0.4, lines_of(*"abcda"), lines_of(*"abca")),
        (DOLMA_REPETITION, "max_duplicate_line_characters", 0.5, lines_of("é", "é", "b c"), lines_of("a", "a", "b")),
        (FINEWEB, "min_lines_with_end_punctuation", 0.12, lines_of(*".!?", *"a" * 22), lines_of(".", " ", *"a" * 8)),
        (FINEWEB, "max_short_lines", 0.5, lines_of("é" * 30, "b" * 31, ""), lines_of("a" * 31, "b" * 30, "c")),
        (FINEWEB, "max_duplicate_line_characters", 0.01, "aa\naa\n" + "b" * 196, "aa\naa\n" + "b" * 195),
        (FINEWEB, "max_newlines_per_word", 0.3, "a b c d\ne f\ng h\ni j", "a b c d\ne f\ng h\ni"),
    ],
)
def test_a_document_at_the_threshold_stays_and_one_beyond_it_goes(
    family: str, field: str, limit: float, kept: str, dropped: str
) -> None:
    families = only(family, **{field: limit})
    assert dropped_by(families, kept) is None
    assert dropped_by(families, dropped) == f"{family}.{field}"


@pytest.mark.parametrize(
    ("family", "field", "n", "limit", "kept", "dropped"),
    [
        (REPETITION, "top", 2, 0.2, "aa bb 1 aa bb 2 " + "c" * 34, "aa bb 1 aa bb 2 " + "c" * 33),
        (REPETITION, "top", 4, 0.7, "a b c d e a b c d f a b c d 1x", "a b c d e a b c d f a b c d 1"),
        (REPETITION, "duplicate", 5, 0.1, "a b c d e 1 a b c d e 2 " + "f" * 26, "a b c d e 1 a b c d e 2 " + "f" * 25),
        (DOLMA_REPETITION, "top", 2, 0.25, "aa bb 1 aa bb 2 " + "c" * 22, "aa bb 1 aa bb 2 " + "c" * 21),
        (DOLMA_REPETITION, "duplicate", 5, 0.25, "a b c d e 1 a b c d e 2", "a b c d e 1 a b c d e"),
    ],
)
def test_repeated_ngrams_at_the_threshold_stay(
    family: str, field: str, n: int, limit: float, kept: str, dropped: str
) -> None:
    families = only(family, **{f"max_{field}_ngram_characters": {n: limit}})
    assert dropped_by(families, kept) is None
    assert dropped_by(families, dropped) == f"{family}.max_{field}_{n}gram_characters"


def test_five_lines_one_of_them_twice() -> None:
    """The smallest text on which the dialects differ."""
    found = signals({REPETITION: {}, DOLMA_REPETITION: {}}, lines_of(*"abcda"))
    assert found["duplicate_line_fraction"] == 0.2
    assert found["duplicate_line_fraction_dolma"] == 0.4


def test_published_thresholds_are_the_default() -> None:
    def for_english(bound: Any) -> Any:
        return bound["*"] if isinstance(bound, dict) and bound.get("en", bound["*"]) == bound["*"] else bound

    found = heuristics.rules(config(**ALL))
    limits = {rule.name: (for_english(rule.minimum), for_english(rule.maximum)) for rule in found}
    for family, middle in ((QUALITY, "mean"), (DOLMA_QUALITY, "median")):
        assert limits[f"{family}.min_words"] == (50, None)
        assert limits[f"{family}.max_words"] == (None, 100_000)
        assert limits[f"{family}.min_{middle}_word_length"] == (3, None)
        assert limits[f"{family}.max_{middle}_word_length"] == (None, 10)
        assert limits[f"{family}.max_bullet_lines"] == (None, 0.9)
        assert limits[f"{family}.max_ellipsis_lines"] == (None, 0.3)
        assert limits[f"{family}.min_words_with_letter"] == (0.8, None)
        assert limits[f"{family}.min_stop_words"] == (2, None)
    assert limits["gopher_quality.max_hashes_per_word"] == limits["gopher_quality.max_ellipses_per_word"] == (None, 0.1)
    assert limits["gopher_quality@dolma.max_words_with_symbol"] == (None, 0.1)
    for family in (REPETITION, DOLMA_REPETITION):
        assert limits[f"{family}.max_duplicate_lines"] == (None, 0.3)
        assert limits[f"{family}.max_duplicate_line_characters"] == (None, 0.2)
        assert [limits[f"{family}.max_top_{n}gram_characters"][1] for n in (2, 3, 4)] == [0.2, 0.18, 0.16]
        duplicate = [limits[f"{family}.max_duplicate_{n}gram_characters"][1] for n in range(5, 11)]
        assert duplicate == [0.15, 0.14, 0.13, 0.12, 0.11, 0.10]
    assert limits["gopher_repetition.max_duplicate_paragraphs"] == (None, 0.3)
    assert limits["gopher_repetition.max_duplicate_paragraph_characters"] == (None, 0.2)
    assert limits["c4.min_sentences"] == (5, None)
    assert limits["fineweb.min_lines_with_end_punctuation"] == (0.12, None)
    assert limits["fineweb.max_short_lines"] == (None, 0.67)
    assert limits["fineweb.max_duplicate_line_characters"] == (None, 0.01)
    assert limits["fineweb.max_newlines_per_word"] == (None, 0.3)
    assert limits["refinedweb.max_removed_words"] == (None, 0.05)


# --- C4 and RefinedWeb: lines

FIVE = "One is here. Two is here. Three is here. Four is here. Five is here."


@pytest.mark.parametrize(
    "line",
    [
        "No punctuation at the end",
        "Too short.",
        "It goes on and on...",
        f"A word of {'x' * 1001} characters.",
        "You must enable JavaScript here.",
        "Read our Privacy Policy now.",
        "These are the TERMS OF USE here.",
        "Our cookie policy is here.",
        "This site uses cookies a lot.",
        "We use cookies on this site.",
        "About our use of cookies here.",
        "",
        " \t ",
    ],
)
def test_c4_cuts_a_line_with_its_newline(line: str) -> None:
    for text in (f"{line}\n{FIVE}", f"{FIVE}\n{line}", f"{FIVE}\n{line}\n", f"{line}\n{FIVE}\n{line}\n{line}"):
        assert cut_text({"c4": {}}, text) == FIVE
        assert dropped_by({"c4": {}}, text) is None
    assert dropped_by({"c4": {}}, line) == "c4.min_sentences"


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        (FIVE, None),
        (FIVE.removesuffix(" Five is here."), "c4.min_sentences"),
        ("One is here? Two is here! Mr. Three is here... too. 'Four.'", "c4.min_sentences"),
        ("One is here? Two is here! Mr. Three is here. Four. 'Five.'", None),
        (f"{FIVE}\nA line of Lorem Ipsum too.", "c4.lorem_ipsum"),
        (f"{FIVE}\nA line of lorem ipsum unpunctuated", None),
        (f"{FIVE}\nif (x) {{ y(); }} is code.", "c4.curly_bracket"),
        (f"{FIVE}\nif (x) {{ y(); }}", None),  # punctuation is tested first, as in datatrove
        (f"{FIVE}\nSome javascript with a {{ bracket.", None),
    ],
)
def test_c4_drops_a_page(text: str, rule: str | None) -> None:
    assert dropped_by({"c4": {}}, text) == rule


def test_c4_takes_citation_marks_out_of_lines_that_stay() -> None:
    text = (
        "[1] One is here.[23] Two is here.[citation needed] Three [edit]is here.\nFour is [a] here. Five [] is here.[5]"
    )
    assert cut_text({"c4": {}}, text) == "One is here. Two is here. Three is here.\nFour is [a] here. Five  is here."
    assert signals({"c4": {}}, text)["sentence_count"] == 5
    assert cut_text({"c4": {"remove_citations": False, "end_punctuation": False}}, text) == text


@pytest.mark.parametrize(
    ("option", "line"),
    [
        ({"end_punctuation": False}, "No punctuation at the end"),
        ({"min_words_per_line": 2}, "Too short."),
        ({"max_word_length": 1001}, f"A word of {'x' * 1001} characters."),
        ({"drop_javascript_lines": False}, "You must enable JavaScript here."),
        ({"drop_policy_lines": False}, "Read our Privacy Policy now."),
    ],
)
def test_each_line_rule_of_c4_can_be_set(option: dict[str, Any], line: str) -> None:
    assert cut_text({"c4": option}, f"{FIVE}\n{line}") == f"{FIVE}\n{line}"


def test_page_rules_of_c4_can_be_taken_away() -> None:
    text = "A { is here, lorem ipsum."
    assert dropped_by({"c4": {"min_sentences": None}}, text) == "c4.lorem_ipsum"
    assert dropped_by({"c4": {"min_sentences": None, "drop_lorem_ipsum": False}}, text) == "c4.curly_bracket"
    everything = {"min_sentences": None, "drop_lorem_ipsum": False, "drop_curly_bracket": False}
    assert dropped_by({"c4": everything}, text) is None


@pytest.mark.parametrize(
    ("line", "left"),
    [
        ("THE NEWS of today", "THE NEWS of today\n"),
        ("ALL THE NEWS", ""),
        ("12345", ""),
        ("١٢٣", ""),
        ("1 2", "1 2\n"),
        ("3 likes", ""),
        ("(1,024 Followers)", ""),
        ("3.5K views!", ""),
        ("3 likes of it", "3 likes of it\n"),
        ("word", ""),
        ("two words", "two words\n"),
        ("", "\n"),
        ("3 Items in cart for you", "3 for you\n"),
        ("items in cart", ""),
        ("the news. Read more...", "the news.\n"),
        ("Read more... the news.", "Read more... the news.\n"),
        ("Sign-in to read", "to read\n"),
        ("please sign-in now", "please sign-in now\n"),
        ("Sign-in items in cart read more...", ""),
        ("1 2 3 4 5 6 7 items in cart", "1 2 3 4 5 6 7\n"),
        ("1 2 3 4 5 6 7 8 items in cart", "1 2 3 4 5 6 7 8 items in cart\n"),
    ],
)
def test_refinedweb_cuts_lines_and_phrases(line: str, left: str) -> None:
    assert cut_text({"refinedweb": {}}, f"A line before.\n{line}\nAnd one after.") == (
        f"A line before.\n{left}And one after."
    )


def test_refinedweb_drops_a_page_that_loses_more_than_a_twentieth_of_its_words() -> None:
    assert dropped_by({"refinedweb": {}}, f"{words_of(19)}\n2024") is None
    assert dropped_by({"refinedweb": {}}, f"{words_of(18)}\n2024") == "refinedweb.max_removed_words"
    assert signals({"refinedweb": {}}, "a b read more...\nCD\nx y z w")["removed_word_fraction"] == 3 / 9


def test_lines_cut_by_two_families_are_cut_once() -> None:
    text = f"MENU\n{FIVE}\n12345"
    assert cut_text({"c4": {}, "refinedweb": {}}, text) == FIVE
    assert cut_text({"refinedweb": {}}, text) == f"{FIVE}\n"


# --- configuration


def test_no_family_named_means_those_of_datatrove() -> None:
    assert config() == config(gopher_quality={}, gopher_repetition={}, c4={}, fineweb={})
    assert config(fineweb={}).c4 is None


def test_a_dialect_can_be_named() -> None:
    for family in ("gopher_quality", "gopher_repetition", "c4", "fineweb"):
        assert config(**{f"{family}@datatrove": {}}) == config(**{family: {}})
    assert config(**{"gopher_quality@dolma": {}}).gopher_quality_dolma is not None
    saved = config(**ALL)
    assert Config.model_validate(saved.model_dump(mode="json")) == saved
    with pytest.raises(ValidationError):
        config(**{"gopher_quality@other": {}})


def test_a_threshold_may_be_given_per_language() -> None:
    families = only(QUALITY, min_words={"en": 3, "*": 1})
    assert dropped_by(families, "a b", "en") == "gopher_quality.min_words"
    assert dropped_by(families, "a b", "de") is None
    assert dropped_by(families, "", "de") == "gopher_quality.min_words"


def test_a_null_threshold_is_no_rule() -> None:
    assert heuristics.rules(config(**only(QUALITY))) == []


def test_each_family_has_its_own_signals() -> None:
    found = [set(signals({family: {}}, "Some text.")) for family in ALL]
    assert sum(map(len, found)) == len(set.union(*found)) == len(signals(ALL, "Some text."))


# --- bad input

WORDLESS = ["", " ", "\n", "\n\n\n", "\u2003\u2028", "\0", "\0\0 \0", "😀", "😀😀 👩‍👩‍👧", ".", "''''", "{", "["]


@pytest.mark.parametrize("text", WORDLESS)
def test_texts_without_words_are_measured_and_dropped(text: str) -> None:
    found = signals(ALL, text)
    assert not any(isinstance(value, float) and math.isnan(value) for value in found.values())
    assert dropped_by({QUALITY: {}}, text) == "gopher_quality.min_words"
    assert dropped_by({"c4": {}}, text) == "c4.min_sentences"
    assert (dropped_by({FINEWEB: {}}, text) == "fineweb.no_lines") == (text.strip() == "")
    assert (dropped_by({REPETITION: {}}, text) == "gopher_repetition.empty") == (text == "")


def test_no_documents_are_measured_as_none() -> None:
    found = measure(ALL)
    assert found.spans is not None
    assert {len(values) for values in [*found.signals.values(), found.spans]} == {0}


UNITS = """a|a |a
|
|!|[|[1] |[1|@|a@|a.|.a|-|a-|'|''|(|°C.|漢|เ|é|\u200b|{k|…|items in cart |3 |A"""


@pytest.mark.parametrize("unit", UNITS.split("|"))
def test_a_long_text_of_one_thing_is_measured_in_linear_time(unit: str) -> None:
    """A quadratic step anywhere would take minutes."""
    text = unit * (1_000_000 // len(unit))
    found = signals({**ALL, "c4": {"end_punctuation": False}}, text)
    assert found["character_count"] == len(text)


@pytest.mark.slow
def test_one_line_of_200_megabytes_is_measured() -> None:
    repeats = 200_000_000 // 45
    found = signals(ALL, "The quick brown fox, and the lazy dog of it. " * repeats)
    assert found["word_count"] == found["word_count_dolma"] == 10 * repeats
    assert found["character_count"] == 45 * repeats
    assert found["sentence_count"] == repeats
    assert found["duplicate_10gram_character_fraction"] == pytest.approx(35 / 45, abs=0.01)
