"""Heuristics against plain Python over the same definitions, on texts that hold every trap at once."""

from __future__ import annotations

import re
import statistics
from collections import Counter
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.build.stage import Batch, Measured
from pipeline.stages.heuristics import stage as heuristics
from pipeline.stages.heuristics.families import STOP_WORDS, Config
from pipeline.text import spans, words
from pipeline.text.buffers import text_buffers

ALL: dict[str, Any] = {
    **{"gopher_quality": {}, "gopher_repetition": {}, "c4": {}, "fineweb": {}},
    **{"gopher_quality@dolma": {}, "gopher_repetition@dolma": {}, "refinedweb": {}},
}
CHARS = "aabbT1 \n\n.,!?'\"#-•*…[]{2\té漢เ😀\0\r\u2028\x0b"
NO_WORD = set("!\"#'*,-.?[]{…\0\r\x0b")  # of these, what datatrove does not count as a word
UNSPACED = set("漢เ")
PIECES = [
    "\n\n",
    "...",
    "[1]",
    "the ",
    "of ",
    "lorem ipsum ",
    "use cookies ",
    "3 likes\n",
    "AB CD\n",
    "Some words here.\n",
]
DOCUMENTS = st.lists(st.one_of(st.text(CHARS, max_size=12), st.sampled_from(PIECES)), max_size=25).map("".join)


def measure(*texts: str, **families: Any) -> Measured:
    return heuristics.measure(Config.model_validate(families or ALL), Batch(pa.array(texts, pa.string())))


def tokens(text: str) -> list[str]:
    data, offsets = text_buffers(pa.array([text]))
    _, starts, ends = words.word_spans(data, offsets)
    return [data[start:end].tobytes().decode() for start, end in zip(starts, ends, strict=True)]


def share(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def repeated(items: list[str]) -> tuple[int, int]:
    """How many items were met before, and their characters."""
    again = [item for k, item in enumerate(items) if item in items[:k]]
    return len(again), sum(map(len, again))


def quality(text: str) -> dict[str, float | None]:
    found, lines = tokens(text), text.splitlines()
    real = [word for word in found if not set(word) <= NO_WORD]
    spaced = [word for word in real if not set(word) & UNSPACED]
    return {
        "word_count": len(real),
        "mean_word_length": share(sum(map(len, spaced)), len(spaced)) if 2 * len(spaced) >= len(real) else None,
        "hashes_per_word": share(text.count("#"), len(found)),
        "ellipses_per_word": share(text.count("...") + text.count("…"), len(found)),
        "bullet_line_fraction": share(sum(line.lstrip().startswith(("-", "•")) for line in lines), len(lines)),
        "ellipsis_line_fraction": share(sum(line.rstrip().endswith(("...", "…")) for line in lines), len(lines)),
        "letter_word_fraction": share(sum(any(map(str.isalpha, word)) for word in found), len(found)),
        "stop_word_count": len(set(found) & set(STOP_WORDS)),
    }


def repetition(text: str) -> dict[str, float | None]:
    found, size = tokens(text), len(text)
    paragraphs, lines = re.split(r"\n{2,}", text.strip()), re.split(r"\n+", text)
    signals: dict[str, float | None] = {
        "character_count": size,
        "duplicate_paragraph_fraction": share(repeated(paragraphs)[0], len(paragraphs)),
        "duplicate_paragraph_character_fraction": share(repeated(paragraphs)[1], size),
        "duplicate_line_fraction": share(repeated(lines)[0], len(lines)) if text else None,
        "duplicate_line_character_fraction": share(repeated(lines)[1], size),
    }
    for n in (2, 3, 4):
        grams = Counter(" ".join(found[k : k + n]) for k in range(len(found) - n + 1)).most_common(1)
        signals[f"top_{n}gram_character_fraction"] = share(sum(len(gram) * times for gram, times in grams), size)
    for n in range(5, 11):
        seen, at, again = set(), 0, 0
        while at + n <= len(found):
            gram = tuple(found[at : at + n])
            again += len("".join(gram)) * (gram in seen)
            at += n if gram in seen else 1
            seen.add(gram)
        signals[f"duplicate_{n}gram_character_fraction"] = share(again, size)
    return signals


def fineweb(text: str) -> dict[str, float | None]:
    lines = [line for line in text.split("\n") if line.strip()]
    return {
        "nonempty_line_count": len(lines),
        "end_punctuation_line_fraction": share(sum(line.endswith((".", "!", "?")) for line in lines), len(lines)),
        "short_line_fraction": share(sum(len(line) <= 30 for line in lines), len(lines)),
        "repeated_line_character_fraction": share(repeated(lines)[1], len(text.replace("\n", ""))),
        "newlines_per_word": share(text.count("\n"), len(tokens(text))),
    }


def dolma(text: str) -> dict[str, float | None]:
    found, lines = text.split(), text.split("\n") if text else []
    size = sum(map(len, found))
    copies = {line: times for line, times in Counter(lines).items() if times > 1}
    signals: dict[str, float | None] = {
        "word_count_dolma": len(found),
        "median_word_length_dolma": statistics.median(map(len, found)) if found else 0,
        "symbol_word_fraction_dolma": share(sum("#" in word or "…" in word for word in found), len(found)),
        "bullet_line_fraction_dolma": share(sum(line.startswith(("*", "-")) for line in lines), len(lines)),
        "ellipsis_line_fraction_dolma": share(sum(line.endswith("…") for line in lines), len(lines)),
        "letter_word_fraction_dolma": share(sum(any(map(str.isalpha, word)) for word in found), len(found)),
        "stop_word_count_dolma": sum(word in STOP_WORDS for word in found),
        "duplicate_line_fraction_dolma": share(sum(copies.values()), len(lines)),
        "duplicate_line_character_fraction_dolma": share(sum(len(line) * copies[line] for line in copies), size),
    }
    for n in range(2, 11):
        grams = [tuple(found[k : k + n]) for k in range(len(found) - n + 1)]
        times = Counter(grams)
        if n < 5:
            top = sum(len("".join(gram)) * count for gram, count in times.most_common(1))
            signals[f"top_{n}gram_character_fraction_dolma"] = share(top, size)
        else:
            again = sum(len("".join(gram)) for gram in grams if times[gram] > 1)
            every = sum(len("".join(gram)) for gram in grams)
            signals[f"duplicate_{n}gram_character_fraction_dolma"] = share(again, every)
    return signals


@pytest.mark.slow
@given(DOCUMENTS)
def test_signals_are_those_of_their_definition(text: str) -> None:
    expected = quality(text) | repetition(text) | fineweb(text) | dolma(text)
    found = {name: values[0].as_py() for name, values in measure(text).signals.items()}
    assert {name: found[name] for name in expected} == expected


def c4_words(line: str) -> int:
    return sum(max(1, sum(char in UNSPACED for char in run)) for run in line.split())


MARKS = r"(?:\[\d*\]|\[edit\]|\[citation needed\])+"


def c4(text: str) -> tuple[str, bool, bool]:
    """What is left, and whether the page holds lorem ipsum or a curly bracket. Two words that only a mark had parted
    are left with a space between them, where C4 itself makes one of them.
    """
    kept, lorem, curly = [], False, False
    for raw in text.splitlines():
        parted = re.sub(rf"(?<=[abT12é]){MARKS}(?=[abT12é])", " ", raw.strip(), flags=re.ASCII)
        line = re.sub(MARKS, "", raw.strip(), flags=re.ASCII)
        lower = line.lower()
        if line[-1:] not in set(".?!\"'") or line.endswith("...") or c4_words(raw) < 3:
            continue
        lorem |= "lorem ipsum" in lower
        if "javascript" in lower:
            continue
        curly |= "{" in line
        if not re.search("terms of use|privacy policy|cookie policy|uses cookies|use of cookies|use cookies", lower):
            kept.append(re.sub(MARKS, "", parted, flags=re.ASCII))
    return "\n".join(kept).strip(), lorem, curly


@given(DOCUMENTS)
def test_c4_leaves_the_lines_of_its_definition(text: str) -> None:
    text = re.sub("[\r\x0b\u2028]", "\n", text)  # other line ends stay what they are; in the definition they do not
    found = measure(text, c4={})
    assert found.spans is not None
    assert found.overwrites is not None
    left = spans.cut(spans.overwrite(pa.array([text]), *found.overwrites), found.spans)[0].as_py()
    assert (left, found.signals["lorem_ipsum"][0].as_py(), found.signals["curly_bracket"][0].as_py()) == c4(text)


@pytest.mark.parametrize("ends", ["\r\n", "\n"])
def test_c4_leaves_no_carriage_returns(ends: str) -> None:
    text = ends.join(["One is here.", "MENU", "Two is here.", ""])
    found = measure(text, c4={})
    assert found.spans is not None
    assert spans.cut(pa.array([text]), found.spans)[0].as_py() == "One is here.\nTwo is here."


def test_c4_cuts_any_number_of_texts_of_which_it_leaves_nothing() -> None:
    found = measure(*["no end mark"] * 3000, c4={})
    assert found.spans is not None
    assert found.spans.to_pylist() == [[{"start": 0, "end": 11}]] * 3000


@given(st.lists(DOCUMENTS, max_size=4))
def test_a_document_is_measured_alike_whatever_stands_around_it(texts: list[str]) -> None:
    together = measure(*texts)
    for row, text in enumerate(texts):
        alone = measure(text)
        for name, values in alone.signals.items():
            assert together.signals[name][row].as_py() == values[0].as_py(), name
        assert together.spans is not None
        assert alone.spans is not None
        assert together.spans[row].as_py() == alone.spans[0].as_py()
