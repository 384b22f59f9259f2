"""Normalisation: each step against its definition, idempotent, linear, and counted."""

from __future__ import annotations

import time
import unicodedata

import ftfy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import normalise
from pipeline.normalise import Config, Normaliser, compose, repair, tidy

PIECES = st.sampled_from(
    [
        "plain words",
        "donâ€™t",
        "&lt;b&gt;",
        "&eacute;",
        "<b>",
        "\x00",
        "\x1b[1m",
        "Ã©",
        "\n",
        "\r\n",
        " ",
        "\u3000",
        "…",
        "ﬁ",
    ]
)
TEXTS = st.one_of(st.text(), st.lists(PIECES).map("".join))
CONFIG = ftfy.TextFixerConfig(
    fix_latin_ligatures=False, fix_character_width=False, uncurl_quotes=False, fix_line_breaks=False, normalization=None
)


@given(TEXTS)
def test_repair_of_suspect_lines_alone_equals_ftfy_on_the_whole_text(text):
    assert repair(text) == ftfy.fix_text(text, CONFIG)


def test_mojibake_entities_and_control_characters_are_repaired_and_typography_stays():
    assert repair("It donâ€™t matter\nca&shy;fÃ©\x00") == "It don’t matter\nca\xadfé"
    assert repair("“quotes”, ﬁligree, ＬＯＵＤ\r\n") == "“quotes”, ﬁligree, ＬＯＵＤ\r\n"
    assert repair("<p>&lt;b&gt;</p>") == "<p>&lt;b&gt;</p>"


@given(TEXTS)
def test_compose_is_normal_form_c(text):
    assert compose(text) == unicodedata.normalize("NFC", text)


WHITESPACE = st.text(alphabet="ab \t\n\r\v\f\x85\xa0\u200b\u2028\u3000\ufeff")


@given(st.one_of(WHITESPACE, st.text()))
def test_tidy_changes_whitespace_alone_and_a_second_time_nothing(text):
    found = tidy(text)
    visible = "".join(c for c in text if not c.isspace() and c not in "\u200b\u2060\ufeff")
    assert "".join(found.split()) == visible
    assert tidy(found) == found
    lines = found.split("\n")
    assert all(line == line.rstrip() for line in lines)
    assert all("  " not in line.lstrip(" \t") and "\t" not in line.lstrip(" \t") for line in lines)
    assert "\n\n\n" not in found
    assert found == "" or (lines[0] and lines[-1])


def test_tidy_keeps_indentation_and_paragraphs():
    assert tidy("\ufeff\r\ndef f():\r\n    return\u00a0 1  \r\n\r\n\r\n\r\nend \n") == "def f():\n    return 1\n\nend"


@pytest.mark.parametrize("text", [" ", "\t \n", " x", "\u3000", "&", "a\n\n\n"], ids=repr)
def test_every_step_takes_time_linear_in_the_text(text):
    def seconds(size: int) -> float:
        began = time.process_time()
        Normaliser(Config())(text * (size // len(text)))
        return time.process_time() - began

    seconds(1000)
    assert seconds(800_000) < 40 * max(seconds(100_000), 0.002)  # eight times the text; squared would be 64


def test_steps_that_are_off_do_nothing_and_the_others_are_counted():
    both = Normaliser(Config(ftfy=False))
    assert both("e\u0301  x\x00") == "é x\x00"
    assert both("nothing to do") == "nothing to do"
    assert {name: vars(count) for name, count in both.counts.items()} == {
        "nfc": {"documents": 1, "bytes_before": 7, "bytes_after": 6},
        "whitespace": {"documents": 1, "bytes_before": 6, "bytes_after": 5},
    }


def test_what_a_text_depends_on_is_in_the_fingerprint(monkeypatch):
    before = normalise.settings(Config())
    assert normalise.settings(None) == []
    assert normalise.settings(Config(nfc=False)) != before
    monkeypatch.setattr(normalise, "VERSION", -1)
    assert normalise.settings(Config()) != before
