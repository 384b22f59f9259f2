"""What a model is asked: a text, two of them, or words; and how a row of a file becomes that."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline import MillError
from pipeline.sources.base import kind_of, value_of
from training.finetuning.usage import Usage

_MISSING = object()


class WrongRow(MillError):
    """A row that a model cannot be asked with. ``kind`` is the same for all rows of its sort."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True)
class Row:
    """``text`` is the question where there is a context, which is ``pair`` then.

    ``words`` are given where a file has the text in words; ``text`` is then these with a space between them.
    """

    text: str
    pair: str | None = None
    words: tuple[str, ...] | None = None

    @property
    def size(self) -> int:
        """In characters."""
        return len(self.text) + len(self.pair or "")


def of_words(words: Sequence[str]) -> Row:
    return Row(" ".join(words), None, tuple(words))


def row_of(usage: Usage, values: Mapping[str, Any]) -> Row:
    """The row that the columns in ``values`` hold. Raises WrongRow where one is missing, empty, or no text."""
    value = value_of(values, usage.text, _MISSING)
    if usage.task == "tokens":
        value = value_of(values, "text", _MISSING) if value is _MISSING else value  # words, or a text to split
        if isinstance(value, list):
            if not value or not all(isinstance(word, str) and word.strip() for word in value):
                raise WrongRow("words", f"{usage.text!r} must be a list of words that are not empty")
            return of_words(value)
    text = _text(usage.text, value)
    if usage.pair is None:
        return Row(text)
    pair = value_of(values, usage.pair, _MISSING)
    if usage.task == "similarity" and pair is _MISSING:
        return Row(text)  # whose vector is wanted
    return Row(text, _text(usage.pair, pair))


def _text(column: str, value: Any) -> str:
    if value is _MISSING:
        raise WrongRow("no column", f"no column {column!r}")
    if value is None or (isinstance(value, str) and not value.strip()):
        raise WrongRow("empty", f"{column!r} is empty")
    if not isinstance(value, str):
        raise WrongRow("no text", f"{column!r} is {kind_of(value)}, not a text")
    return value


def words_of(row: Row) -> tuple[list[str], list[tuple[int, int]]]:
    """The words of ``row``, and where each begins and ends in its text, in characters.

    A text is split at white space; a punctuation mark at the edge of what stands there is a word of its own, as in
    the files that taggers are trained on.
    """
    if row.words is not None:
        places, at = [], 0
        for word in row.words:
            places.append((at, at + len(word)))
            at += len(word) + 1
        return list(row.words), places
    places = [place for start, end in _stretches(row.text) for place in _parts(row.text, start, end)]
    return [row.text[start:end] for start, end in places], places


def _stretches(text: str) -> list[tuple[int, int]]:
    """Where what stands between white space begins and ends."""
    stretches, start = [], None
    for at, letter in enumerate(text + " "):
        if not letter.isspace():
            start = at if start is None else start
        elif start is not None:
            stretches.append((start, at))
            start = None
    return stretches


def _parts(text: str, start: int, end: int) -> list[tuple[int, int]]:
    first, last = start, end
    while first < last and _is_mark(text[first]):
        first += 1
    while last > first and _is_mark(text[last - 1]):
        last -= 1
    before = [(at, at + 1) for at in range(start, first)]
    return [*before, *([(first, last)] if first < last else []), *((at, at + 1) for at in range(last, end))]


def _is_mark(letter: str) -> bool:
    return unicodedata.category(letter).startswith("P")
