"""What is known of a language for judging its texts by rules that were made for English.

The numbers and words of ``languages.json`` were computed from reference text by ``benchmarks/language_reference.py``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PATH = str(Path(__file__).with_name("languages.json"))
ENGLISH = "en"
UNDETERMINED = "und"  # ISO 639-2
OTHERS = "*"  # in a threshold by language: all that are not named


@dataclass(frozen=True)
class Language:
    """``labels`` are the names that models of language identification give it, ``code`` its ISO 639-1 code.

    ``stop_words``: its most frequent words; ``word_length``, ``unlettered``, ``line_length``: the mean length of its
    words, the share of its words that are marks or numbers, and the characters that say the same, in relation to
    English; ``end_marks``: whether marks end its sentences; ``spaces``: whether it writes spaces between words;
    ``units``: how many characters or syllables say what one word says in English, where it writes none (else 1);
    ``words``: whether words, characters or syllables of its script are counted at all.
    """

    code: str
    labels: tuple[str, ...]
    stop_words: tuple[str, ...]
    word_length: float
    unlettered: float
    line_length: float
    end_marks: bool
    spaces: bool
    units: float
    words: bool = True


#: What is assumed of a language without reference text: no stop words, and English in all else.
UNKNOWN = Language("", (), (), 1.0, 1.0, 1.0, True, True, 1.0)


@cache
def known() -> dict[str, Language]:
    """Each language by each of its labels."""
    entries = json.loads(Path(PATH).read_text(encoding="utf-8"))["languages"]
    languages = []
    for code, entry in entries.items():
        labels, stop_words = tuple(entry.pop("labels")), tuple(entry.pop("stop_words").split())
        languages.append(Language(code, labels, stop_words, **entry))
    return {label: language for language in languages for label in language.labels}
