"""Words that give a label away are cut from all texts alike, so that neither a word nor its absence tells."""

from __future__ import annotations

import re
from collections.abc import Iterable

_WORD = re.compile(r"\w+")


def words_of(values: Iterable[object]) -> set[str]:
    """The words (runs of letters, digits and _) of ``values``, in lower case."""
    return {word.lower() for value in values for word in _WORD.findall(str(value))}


def cut_words(text: str, words: frozenset[str]) -> str:
    """``text`` without the words that are in ``words`` in lower case."""
    return _WORD.sub(lambda match: "" if match[0].lower() in words else match[0], text)
