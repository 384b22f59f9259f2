"""CoNLL files: a word and its tag a line, in columns between tabs or spaces; a blank line ends a sentence."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from training.labelled import tags
from training.labelled.findings import Findings

_PREFIX = re.compile(r"[a-z]{2,3}(-[a-z]+)*:")
_DOCUMENT = "-DOCSTART-"
_TAB = "\t"
#: Columns of CoNLL-U (Universal Dependencies, Nivre 2016): number, word, lemma, part of speech and others. A line
#: with the number 1-2 is of two words written as one, one with 1.1 of a word that is not written.
_CONLLU, _NO_WORD = 10, re.compile(r"\d+[-.]\d+")


class Sentence(NamedTuple):
    """``columns`` are its words and what stands beside them; ``lines`` the number of each word's line."""

    line: int
    columns: list[list[str]]
    lines: list[int]
    document: int


def read(lines: Iterator[tuple[int, str]], name: str, findings: Findings) -> list[Sentence]:
    """The sentences of the numbered ``lines`` of the file ``name``; what is none of theirs goes to ``findings``.

    A language and a colon before every word of the file (``en:Sioux``, as WikiANN has it) are cut off.
    """
    sentences = list(_sentences(lines, name, findings))
    if not sentences:
        return []
    words = [word for sentence in sentences for word in sentence.columns[0]]
    first = _PREFIX.match(words[0])
    if first is None or not all(word.startswith(first[0]) and len(word) > len(first[0]) for word in words):
        return sentences
    findings.note(f"{name}: every word begins with {first[0]!r}, which is cut off")
    size = len(first[0])
    return [s._replace(columns=[[word[size:] for word in s.columns[0]], *s.columns[1:]]) for s in sentences]


def _sentences(lines: Iterator[tuple[int, str]], name: str, findings: Findings) -> Iterator[Sentence]:
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
            findings.pass_over(f"{_DOCUMENT} lines", f"{name}:{number}")
            continue
        between = separator or (_TAB if _TAB in line else " ")
        separator = separator if line.startswith("# ") else between  # a comment does not show it
        values = line.rstrip("\r").split(_TAB) if between == _TAB else line.strip(" \t\r").split()
        is_word = not line.startswith("# ") or (len(values) == 2 and tags.is_known(values[1]))
        width = width or (len(values) if is_word else 0)
        if line.startswith("# ") and len(values) != width:
            findings.pass_over("comment lines", f"{name}:{number}")
        elif width == _CONLLU and _NO_WORD.fullmatch(values[0]):
            findings.pass_over("lines of CoNLL-U for several words or for none", f"{name}:{number}")
        elif len(values) != width or width < 2 or not all(values):
            findings.fault(
                "columns",
                f"{name}:{number}",
                f"{sum(map(bool, values))} values between {'tabs' if between == _TAB else 'spaces'}, not"
                f" {width or 'several'} as in the lines before it: {line[:60]!r}; write a word and its tag on each"
                " line, and a blank line between sentences",
            )
        else:
            rows.append(values)
            numbers.append(number)
    if rows:
        yield Sentence(numbers[0], _columns(rows), numbers, document)


def _columns(rows: list[list[str]]) -> list[list[str]]:
    return [list(column) for column in zip(*rows, strict=True)]


def values(sentence: Sentence, name: str, names: list[str] | None) -> dict[str, Any]:
    """The columns by name: ``names``, or ``1``, ``2`` and so on; ``words`` and ``tags`` are the first and the last.

    Of CoNLL-U they are the second and the fourth: words and their parts of speech.
    """
    columns = sentence.columns
    is_conllu = len(columns) == _CONLLU and columns[0] == [str(number) for number in range(1, len(columns[0]) + 1)]
    word, tag = (1, 3) if is_conllu else (0, -1)
    named = names if names is not None else [str(number) for number in range(1, len(columns) + 1)]
    return {
        "words": columns[word],
        "tags": columns[tag],
        "document": f"{name}#{sentence.document}",
        **dict(zip(named, columns, strict=False)),
    }
