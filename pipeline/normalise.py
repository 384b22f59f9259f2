"""What is made of each text before it is written: repaired mojibake, one Unicode form, tidy whitespace.

Every step is optional, leaves alone what needs no change, and is counted: documents that it changed and their bytes
before and after. Byte counts of everything later are those of the texts as normalised.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Annotated

import ftfy
from pydantic import Field

from pipeline import stage

VERSION = 1

_REPAIRS = ftfy.TextFixerConfig(
    fix_latin_ligatures=False,
    fix_character_width=False,
    uncurl_quotes=False,
    fix_line_breaks=False,
    normalization=None,
    explain=False,
)
_REPAIRS_IN_MARKUP = _REPAIRS._replace(unescape_html=False)
#: ftfy leaves a line alone that is printable ASCII without the "&" of an entity.
_SUSPECT = re.compile(r"[^\t\n\x0c\r -%'-~]")


class Config(stage.Config):
    """Steps in this order, each on unless it is set to false; none runs where the recipe has no such section."""

    ftfy: Annotated[
        bool,
        Field(
            description="undo mojibake (`â€™` for an apostrophe), HTML entities outside of markup, control characters"
            " and terminal escapes; quotes, ligatures, widths and line ends stay"
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


def repair(text: str) -> str:
    """``ftfy.fix_text(text)``, which goes line by line, run only on the lines that it could change."""
    parts, done, markup = [], 0, text.find("<")
    while found := _SUSPECT.search(text, done):
        start = max(done, text.rfind("\n", done, found.start()) + 1)
        end = text.find("\n", found.start()) + 1 or len(text)
        # entities are left alone from the first line with a "<" on, as ftfy does it
        config = _REPAIRS_IN_MARKUP if 0 <= markup < start else _REPAIRS
        parts += [text[done:start], ftfy.fix_text(text[start:end], config)]
        done = end
    return "".join([*parts, text[done:]]) if parts else text


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


STEPS: dict[str, Callable[[str], str]] = {"ftfy": repair, "nfc": compose, "whitespace": tidy}
TITLES = {"ftfy": "mojibake, entities, controls", "nfc": "normal form C", "whitespace": "whitespace"}


def _size(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))
