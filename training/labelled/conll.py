"""CoNLL files: a word and its tag a line, in columns between tabs or spaces; a blank line ends a sentence."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from training.labelled.findings import Findings

_PREFIX = re.compile(r"[a-z]{2,3}(-[a-z]+)*:")
_DOCUMENT = "-DOCSTART-"


class Sentence(NamedTuple):
    """``columns`` are its words and what stands beside them; ``lines`` the number of each word's line."""

    line: int
    columns: list[list[str]]
    lines: list[int]
    document: int


def read(lines: Iterator[tuple[int, str]], name: str, found: Findings) -> list[Sentence]:
    """The sentences of the numbered ``lines`` of the file ``name``; what is none of theirs goes to ``found``.

    A language and a colon before every word of the file (``en:Sioux``, as WikiANN has it) are cut off.
    """
    sentences = list(_sentences(lines, name, found))
    if not sentences:
        return []
    words = [word for sentence in sentences for word in sentence.columns[0]]
    first = _PREFIX.match(words[0])
    if first is None or not all(word.startswith(first[0]) and len(word) > len(first[0]) for word in words):
        return sentences
    found.note(f"{name}: every word begins with {first[0]!r}, which is cut off")
    size = len(first[0])
    return [s._replace(columns=[[word[size:] for word in s.columns[0]], *s.columns[1:]]) for s in sentences]


def _sentences(lines: Iterator[tuple[int, str]], name: str, found: Findings) -> Iterator[Sentence]:
    rows: list[list[str]] = []
    numbers: list[int] = []
    separator: str | None = None
    width = document = 0
    for number, line in lines:
        if not line.strip(" \t\r\n"):
            if rows:
                yield Sentence(numbers[0], _columns(rows), numbers, document)
            rows, numbers = [], []
            continue
        if line.startswith(_DOCUMENT):
            document += 1
            found.pass_over(f"{_DOCUMENT} lines", f"{name}:{number}")
            continue
        separator = separator or ("\t" if "\t" in line else " ")
        values = line.rstrip("\r").split("\t") if separator == "\t" else line.strip(" \t\r").split()
        width = width or (0 if line.startswith("# ") and len(values) != 2 else len(values))
        if line.startswith("# ") and len(values) != width:
            found.pass_over("comment lines", f"{name}:{number}")
        elif len(values) != width or width < 2 or not all(values):
            between = "tabs" if separator == "\t" else "spaces"
            found.fault(
                "columns",
                f"{name}:{number}",
                f"{sum(map(bool, values))} values between {between}, not {width or 'several'} as in the lines before it"
                f": {line[:60]!r}; write a word and its tag on each line, and a blank line between sentences",
            )
        else:
            rows.append(values)
            numbers.append(number)
    if rows:
        yield Sentence(numbers[0], _columns(rows), numbers, document)


def _columns(rows: list[list[str]]) -> list[list[str]]:
    return [list(column) for column in zip(*rows, strict=True)]


def values(sentence: Sentence, name: str, names: list[str] | None) -> dict[str, Any]:
    """The columns by name: ``names``, or ``1``, ``2`` and so on; ``words`` and ``tags`` are the first and the last."""
    columns = sentence.columns
    named = names if names is not None else [str(number) for number in range(1, len(columns) + 1)]
    return {
        "words": columns[0],
        "tags": columns[-1],
        "document": f"{name}#{sentence.document}",
        **dict(zip(named, columns, strict=False)),
    }
