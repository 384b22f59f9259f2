"""What the items of a set share because they are written as prompts, and the parts that it separates.

``Question: ... Choices: A. ... B. ... Answer:`` holds words that no document beside the question holds, and so breaks
most n-grams of a short question. Shared is what stands in at least half of a set's items: labels (up to four words and
a colon, at the start of a line; one capitalised word and a colon anywhere), enumerators (``A.``, ``(b)``, ``1)``, where
two follow each other), whole lines, sentences that items begin with, and first lines that begin with the same words.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

_LABEL = re.compile(
    r"^[ \t#*>_\[(<]*((?:[^\W_]+[ \t]+){0,3}[^\W_]+)[ \t]?[\])>*_]*[:：][*_]*|(?<=\s)([A-Z][^\W_]*)[:：](?=\s|$)",
    re.MULTILINE,
)
_ENUMERATOR = re.compile(r"(?:^|(?<=\s))[(\[]?([A-Za-z]|\d{1,2})[.):\]](?=\s)", re.MULTILINE)
_LINE = re.compile(r"^[^\n]*[^\s][^\n]*$", re.MULTILINE)
_FIRST_SENTENCE = re.compile(r"\s*+([^\n]*?[.!?:。！？：])(?=\s|$)")
_OPENING = re.compile(r"\s*+([^\s:：]++(?:[ \t]++[^\s:：]++){3})[^\n]*\n(?=\s*[^\s])")
_LETTER = re.compile(r"[^\W\d_]")
_DIGITS = re.compile(r"\d+")


class _Mark(NamedTuple):
    """Something that may be shared: its characters in the text, what it says, and whether it counts a choice."""

    start: int
    end: int
    key: tuple[str, str]
    choice: bool = False


def parts(texts: Sequence[str]) -> list[list[str]]:
    """Of each of a set's ``texts`` what may be searched for beside it: itself without what it shares with the others,
    and the parts of it between, choices aside. Empty for a text that shares nothing.
    """
    marks = [_marks(text) for text in texts]
    counts = Counter(key for own in marks for key in {mark.key for mark in own})
    shared = {key for key, count in counts.items() if count >= max(2, len(texts) / 2)}
    shared -= {key for key in shared if key[0] == "choice" and not _neighbours(key) & shared}
    return [
        _between(text, [mark for mark in own if mark.key in shared]) for text, own in zip(texts, marks, strict=True)
    ]


def _marks(text: str) -> list[_Mark]:
    marks = [
        _Mark(*match.span(), ("label", _DIGITS.sub("0", match[1] or match[2]).casefold()))
        for match in _LABEL.finditer(text)
    ]
    marks += [_Mark(*match.span(), ("choice", match[1]), True) for match in _ENUMERATOR.finditer(text)]
    marks += [_Mark(*match.span(), ("line", match[0].strip().casefold())) for match in _LINE.finditer(text)]
    if match := _FIRST_SENTENCE.match(text):
        marks.append(_Mark(*match.span(), ("sentence", match[1].casefold())))
    if match := _OPENING.match(text):
        marks.append(_Mark(*match.span(), ("opening", match[1].casefold())))
    return [mark for mark in marks if mark.choice or _LETTER.search(mark.key[1])]  # rules and brackets hide no word


def _neighbours(key: tuple[str, str]) -> set[tuple[str, str]]:
    """The enumerators before and after one."""
    if key[1].isdigit():
        return {("choice", str(int(key[1]) + step)) for step in (-1, 1)}
    return {("choice", chr(ord(key[1]) + step)) for step in (-1, 1)}


def _between(text: str, shared: list[_Mark]) -> list[str]:
    if not shared:
        return []
    pieces: list[tuple[str, bool]] = []
    at, choice = 0, False
    for mark in sorted(shared, key=lambda mark: (mark.start, -mark.end)):
        if mark.start > at:
            pieces.append((text[at : mark.start].strip(), choice))
        if mark.end > at:
            at, choice = mark.end, mark.choice
    pieces.append((text[at:].strip(), choice))
    left = [(part, chosen) for part, chosen in pieces if part]
    whole = "\n".join(part for part, _ in left)
    return list(dict.fromkeys([whole, *(part for part, chosen in left if not chosen)]))
