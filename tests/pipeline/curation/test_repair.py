"""Normalisation: each step against its definition, idempotent, linear, and counted."""

from __future__ import annotations

import re
import time
import unicodedata

import ftfy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.curation.repair import (
    STEPS,
    TITLES,
    Config,
    Normaliser,
    compose,
    decode_entities,
    remove_controls,
    repair,
    settings,
    tidy,
)

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
OFF = dict.fromkeys(
    (
        *("unescape_html", "remove_terminal_escapes", "fix_latin_ligatures", "fix_character_width", "uncurl_quotes"),
        *("fix_line_breaks", "fix_surrogates", "remove_control_chars"),
    ),
    False,
)
MOJIBAKE = ftfy.TextFixerConfig(normalization=None, **OFF)


@given(TEXTS)
def test_repair_of_lines_beyond_ascii_alone_equals_ftfy_on_the_whole_text(text):
    assert repair(text) == ftfy.fix_text(text, MOJIBAKE)


def test_mojibake_is_repaired_and_typography_stays():
    assert repair("It donâ€™t matter\ncafÃ© &amp; \x00") == "It don’t matter\ncafé &amp; \x00"
    assert repair("“quotes”, ﬁligree, ＬＯＵＤ\r\n") == "“quotes”, ﬁligree, ＬＯＵＤ\r\n"


@given(st.lists(st.sampled_from([*"<>&;#x39a ", "amp", "nbsp", "&lt;", "&amp;", "&eacute;", "\n"])).map("".join))
def test_entities_are_decoded_once_whatever_the_text(text):
    found = decode_entities(text)
    assert decode_entities(text.replace("&", "&amp;")) == text or re.search("<[/!]?[A-Za-z][^<>]*>", text)
    assert found == text or "&" in text


@pytest.mark.parametrize(
    ("text", "decoded"),
    {
        "write &lt;b&gt; and &amp;nbsp; for\n&copy;": "write <b> and &nbsp; for\n©",
        "&amp;amp;amp;": "&amp;amp;",
        "&#39;&#x27;&eacute;&EACUTE;&shy;": "''éÉ\xad",
        "?a=1&copy=2&lt=4 A & B &lt C &nosuch; &#xZZ;": "?a=1&copy=2&lt=4 A & B &lt C &nosuch; &#xZZ;",
        "&lt;b&gt;\n<p>markup</p>": "&lt;b&gt;\n<p>markup</p>",
        "I <3 you, a < b &amp;&amp; c > d": "I <3 you, a < b && c > d",
    }.items(),
)
def test_an_entity_is_decoded_once_in_texts_without_tags(text, decoded):
    assert decode_entities(text) == decoded


def test_controls_and_escapes_go_and_tabs_line_ends_and_joiners_stay():
    assert remove_controls("a\x00b\x1b[1mc\x1b[0m\x7f\ufeff\ufff9") == "abc"
    assert remove_controls("a\tb\r\n\x0c\u200d\xad\x85") == "a\tb\r\n\x0c\u200d\xad\x85"
    assert remove_controls("\ud83d\ude00 \ud83d") == "😀 \ufffd"


CHANGED = {
    "entities": ("&eacute;", "é"),
    "mojibake": ("â€™", "’"),
    "controls": ("a\x00", "a"),
    "nfc": ("e\u0301", "é"),
    "whitespace": ("a  b", "a b"),
}


@pytest.mark.parametrize("step", STEPS)
def test_each_step_can_be_switched_off_alone(step):
    assert CHANGED.keys() == STEPS.keys() == TITLES.keys() == Config.model_fields.keys()
    only_off = Normaliser(Config.model_validate({step: False}))
    for name, (text, changed) in CHANGED.items():
        assert only_off(text) == (text if name == step else changed)


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


@pytest.mark.parametrize("text", [" ", "\t \n", " x", "\u3000", "&", "&amp;", "<a", "\x1b[", "a\n\n\n"], ids=repr)
def test_every_step_takes_time_linear_in_the_text(text):
    def seconds(size: int) -> float:
        began = time.process_time()
        Normaliser(Config())(text * (size // len(text)))
        return time.process_time() - began

    seconds(1000)
    assert seconds(800_000) < 40 * max(seconds(100_000), 0.002)  # eight times the text; squared would be 64


def test_steps_that_are_off_do_nothing_and_the_others_are_counted():
    both = Normaliser(Config(controls=False))
    assert both("e\u0301  x\x00") == "é x\x00"
    assert both("nothing to do") == "nothing to do"
    assert {name: vars(count) for name, count in both.counts.items()} == {
        "entities": {"documents": 0, "bytes_before": 0, "bytes_after": 0},
        "mojibake": {"documents": 0, "bytes_before": 0, "bytes_after": 0},
        "nfc": {"documents": 1, "bytes_before": 7, "bytes_after": 6},
        "whitespace": {"documents": 1, "bytes_before": 6, "bytes_after": 5},
    }


def test_what_a_text_depends_on_is_in_the_fingerprint(monkeypatch):
    before = settings(Config())
    assert settings(None) == []
    assert settings(Config(nfc=False)) != before
    monkeypatch.setattr("pipeline.curation.repair.VERSION", -1)
    assert settings(Config()) != before
