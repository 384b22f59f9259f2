"""What is made of each text before it is written: repaired mojibake, one Unicode form, tidy whitespace.

Every step is optional, leaves alone what needs no change, and is counted: documents that it changed and their bytes
before and after. Byte counts of everything later are those of the texts as normalised.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, partial
from importlib.metadata import version
from typing import Annotated

from pydantic import Field

from pipeline.store import recipe_file

VERSION = 2

_BEYOND_ASCII = re.compile(r"[^\x00-\x7f]")
_TAG = re.compile(r"<[/!]?[A-Za-z][^<>]*>")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f\u206a-\u206f\ufeff\ufff9-\ufffc\ud800-\udfff]")


class Config(recipe_file.Config):
    """Steps in this order, each on unless it is set to false; none runs where the recipe has no such section."""

    entities: Annotated[
        bool,
        Field(
            description="decode HTML entities (`&eacute;`, `&#39;`) once, in texts without HTML tags; switch it off for"
            " texts that write about HTML"
        ),
    ] = True
    mojibake: Annotated[
        bool,
        Field(
            description="repair text decoded by a wrong character set (`â€™` for an apostrophe) by ftfy; quotes,"
            " ligatures, widths and line ends stay"
        ),
    ] = True
    controls: Annotated[
        bool,
        Field(
            description="remove control characters and terminal escapes, and write U+FFFD for half of a surrogate pair"
        ),
    ] = True
    nfc: Annotated[bool, Field(description="Unicode normal form C: one code point for a letter with its accent")] = True
    whitespace: Annotated[
        bool,
        Field(
            description="line ends as \\n, Unicode spaces as a space, runs of them inside a line as one, at most one"
            " empty line, none at the ends; indentation stays"
        ),
    ] = True


@dataclass
class Count:
    """Of the documents that a step changed: how many, and their bytes of UTF-8 before and after."""

    documents: int = 0
    bytes_before: int = 0
    bytes_after: int = 0


@dataclass
class Normaliser:
    """Applies the steps of ``config`` and counts what each changed."""

    config: Config
    counts: dict[str, Count] = field(init=False)

    def __post_init__(self) -> None:
        self.counts = {name: Count() for name in STEPS if getattr(self.config, name)}

    def __call__(self, text: str) -> str:
        for name, count in self.counts.items():
            changed = STEPS[name](text)
            if changed != text:
                count.documents += 1
                count.bytes_before += _size(text)
                count.bytes_after += _size(changed)
                text = changed
        return text


def settings(config: Config | None) -> list[object]:
    """What a normalised text depends on besides the text, for a fingerprint."""
    return [] if config is None else [VERSION, config, version("ftfy"), unicodedata.unidata_version]


def decode_entities(text: str) -> str:
    """HTML entities that end in a semicolon as characters, once: ``&amp;nbsp;`` becomes ``&nbsp;``.

    A text with a tag is taken for markup, where an entity says what it means, and left alone.
    """
    if "&" not in text or _TAG.search(text):
        return text
    from ftfy import fixes

    return fixes.unescape_html(text)


@cache
def _mojibake_fixer() -> Callable[[str], str]:
    from ftfy import TextFixerConfig, fix_text  # slow to load, and needed only where texts are repaired

    config = TextFixerConfig(
        unescape_html=False,
        remove_terminal_escapes=False,
        fix_latin_ligatures=False,
        fix_character_width=False,
        uncurl_quotes=False,
        fix_line_breaks=False,
        fix_surrogates=False,
        remove_control_chars=False,
        normalization=None,
        explain=False,
    )
    return partial(fix_text, config=config)


def repair(text: str) -> str:
    """ftfy's repair of mojibake, which goes line by line, run only on the lines that it could change."""
    parts, done = [], 0
    while match := _BEYOND_ASCII.search(text, done):
        start = max(done, text.rfind("\n", done, match.start()) + 1)
        end = text.find("\n", match.start()) + 1 or len(text)
        parts += [text[done:start], _mojibake_fixer()(text[start:end])]
        done = end
    return "".join([*parts, text[done:]]) if parts else text


def remove_controls(text: str) -> str:
    """Without control characters (tab, line ends and form feed stay), terminal escapes and lone surrogates."""
    if not _CONTROL.search(text):
        return text
    from ftfy import fixes

    return fixes.remove_control_chars(fixes.remove_terminal_escapes(fixes.fix_surrogates(text)))


def compose(text: str) -> str:
    """Normal form C."""
    return unicodedata.normalize("NFC", text)  # returns at once where it is in that form


_LINE_END = re.compile(r"[\r\v\f\x1c-\x1e\x85\u2028\u2029]")
_SPACE = re.compile(r"[\x1f\xa0\u1680\u2000-\u200a\u202f\u205f\u3000]")
_INVISIBLE = re.compile(r"[\u200b\u2060\ufeff]+")
# What follows is possessive, and a run is entered at one place only: linear on any input. A run inside a line is two
# blanks or a tab after a visible character; to look behind after them is several times as fast as before.
_RUN = re.compile(r"(?: [ \t](?<=[^ \t\n] [ \t])|\t(?<=[^ \t\n]\t))[ \t]*+")
_BLANK = re.compile(r"^[ \t]++$", re.MULTILINE)
_EMPTY_LINES = re.compile(r"\n{3,}+")


def tidy(text: str) -> str:
    """Whitespace as ``Config.whitespace`` says; a line's indentation is kept."""
    text = _INVISIBLE.sub("", _SPACE.sub(" ", _LINE_END.sub("\n", text.replace("\r\n", "\n"))))
    text = _BLANK.sub("", _RUN.sub(" ", text)).replace(" \n", "\n")
    return _EMPTY_LINES.sub("\n\n", text).lstrip("\n").rstrip()


STEPS: dict[str, Callable[[str], str]] = {
    "entities": decode_entities,
    "mojibake": repair,
    "controls": remove_controls,
    "nfc": compose,
    "whitespace": tidy,
}
TITLES = {
    "entities": "HTML entities",
    "mojibake": "mojibake",
    "controls": "control characters",
    "nfc": "normal form C",
    "whitespace": "whitespace",
}


def _size(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))
