"""Heuristic filters: Gopher quality and repetition (Rae et al. 2021), C4 (Raffel et al. 2020), FineWeb quality (Penedo
et al. 2024), with the definitions of datatrove 0.10.1, which made FineWeb.

Each family runs if the recipe has its section; thresholds default to the published ones. All families measure the text as
it reaches the stage; what C4's line rules cut is cut for later stages. Words are those of ``pipeline.text.words``: in
scripts without spaces (Han, Kana, Thai, Lao, Khmer, Myanmar) the units that it says.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import numpy as np
import pyarrow as pa
from pydantic import Field

from pipeline import stage
from pipeline.stage import Batch, Measured, Stage
from pipeline.store.ledger import Rule
from pipeline.text import datatrove
from pipeline.text.c4 import LineRules

VERSION = 1

Share = Annotated[float, Field(ge=0, le=1)]
Ratio = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=0)]


class GopherQuality(stage.Config):
    """Words that are not punctuation, their mean length, symbols per word, bullets, ellipses, letters, stop words."""

    min_words: Count = 50
    max_words: Count = 100_000
    min_mean_word_length: Ratio = 3
    max_mean_word_length: Ratio = 10
    max_hashes_per_word: Ratio = 0.1
    max_ellipses_per_word: Ratio = 0.1
    max_bullet_lines: Share = 0.9
    max_ellipsis_lines: Share = 0.3
    min_words_with_letter: Share = 0.8
    min_stop_words: Count = 2
    stop_words: Annotated[list[str], Field(max_length=64)] = ["the", "be", "to", "of", "and", "that", "have", "with"]


class GopherRepetition(stage.Config):
    """Repeats after the first as a share of lines, paragraphs and all characters; n-grams read greedily."""

    max_duplicate_lines: Share = 0.30
    max_duplicate_paragraphs: Share = 0.30
    max_duplicate_line_characters: Share = 0.20
    max_duplicate_paragraph_characters: Share = 0.20
    max_top_ngram_characters: dict[Annotated[int, Field(ge=2, le=10)], Share] = {2: 0.20, 3: 0.18, 4: 0.16}
    max_duplicate_ngram_characters: dict[Annotated[int, Field(ge=2, le=10)], Share] = {
        **{5: 0.15, 6: 0.14, 7: 0.13},
        **{8: 0.12, 9: 0.11, 10: 0.10},
    }


class C4(stage.Config):
    """Lines are dropped, then pages. FineWeb runs it with ``end_punctuation: false``."""

    end_punctuation: bool = True
    min_words_per_line: Count = 3
    max_word_length: Annotated[int, Field(ge=1)] = 1000
    remove_citations: bool = True
    drop_javascript_lines: bool = True
    drop_policy_lines: bool = True
    drop_lorem_ipsum: bool = True
    drop_curly_bracket: bool = True
    min_sentences: Count = 5


class FineWebQuality(stage.Config):
    """Lines that end in punctuation, short lines, characters in repeated lines, newlines per word."""

    min_lines_with_end_punctuation: Share = 0.12
    max_short_lines: Share = 0.67
    short_line_characters: Count = 30
    max_duplicate_line_characters: Share = 0.01
    max_newlines_per_word: Ratio = 0.3


class Config(stage.Config):
    gopher_quality: GopherQuality | None = None
    gopher_repetition: GopherRepetition | None = None
    c4: C4 | None = None
    fineweb: FineWebQuality | None = None


def rules(config: Config) -> list[Rule]:
    """In datatrove's order within each family: the first that fails names the reason."""
    return list(_rules(config))


def _rules(config: Config) -> Iterator[Rule]:
    if quality := config.gopher_quality:
        name = "gopher_quality"
        yield Rule(f"{name}.min_words", "word_count", minimum=quality.min_words)
        yield Rule(f"{name}.max_words", "word_count", maximum=quality.max_words)
        yield Rule(f"{name}.min_mean_word_length", "mean_word_length", minimum=quality.min_mean_word_length)
        yield Rule(f"{name}.max_mean_word_length", "mean_word_length", maximum=quality.max_mean_word_length)
        yield Rule(f"{name}.max_hashes_per_word", "hashes_per_word", maximum=quality.max_hashes_per_word)
        yield Rule(f"{name}.max_ellipses_per_word", "ellipses_per_word", maximum=quality.max_ellipses_per_word)
        yield Rule(f"{name}.max_bullet_lines", "bullet_line_fraction", maximum=quality.max_bullet_lines)
        yield Rule(f"{name}.max_ellipsis_lines", "ellipsis_line_fraction", maximum=quality.max_ellipsis_lines)
        yield Rule(f"{name}.min_words_with_letter", "letter_word_fraction", minimum=quality.min_words_with_letter)
        yield Rule(f"{name}.min_stop_words", "stop_word_count", minimum=quality.min_stop_words)
    if repetition := config.gopher_repetition:
        name = "gopher_repetition"
        for rule, limit in (
            ("duplicate_paragraph", repetition.max_duplicate_paragraphs),
            ("duplicate_paragraph_character", repetition.max_duplicate_paragraph_characters),
            ("duplicate_line", repetition.max_duplicate_lines),
            ("duplicate_line_character", repetition.max_duplicate_line_characters),
        ):
            yield Rule(f"{name}.max_{rule}s", f"{rule}_fraction", maximum=limit)
        for kind, limits in (
            ("top", repetition.max_top_ngram_characters),
            ("duplicate", repetition.max_duplicate_ngram_characters),
        ):
            for n, limit in sorted(limits.items()):
                signal = f"{kind}_{n}gram_character_fraction"
                yield Rule(f"{name}.max_{kind}_{n}gram_characters", signal, maximum=limit)
    if c4 := config.c4:
        if c4.drop_lorem_ipsum:
            yield Rule("c4.lorem_ipsum", "lorem_ipsum", maximum=0)
        if c4.drop_curly_bracket:
            yield Rule("c4.curly_bracket", "curly_bracket", maximum=0)
        yield Rule("c4.min_sentences", "sentence_count", minimum=c4.min_sentences)
    if fineweb := config.fineweb:
        name = "fineweb"
        yield Rule(f"{name}.no_lines", "nonempty_line_count", minimum=1)
        ended = fineweb.min_lines_with_end_punctuation
        yield Rule(f"{name}.min_lines_with_end_punctuation", "end_punctuation_line_fraction", minimum=ended)
        yield Rule(f"{name}.max_short_lines", "short_line_fraction", maximum=fineweb.max_short_lines)
        repeated = fineweb.max_duplicate_line_characters
        yield Rule(f"{name}.max_duplicate_line_characters", "repeated_line_character_fraction", maximum=repeated)
        yield Rule(f"{name}.max_newlines_per_word", "newlines_per_word", maximum=fineweb.max_newlines_per_word)


def measure(config: Config, batch: Batch) -> Measured:
    """Signals of every family that runs; ``spans`` are the lines and citation marks that C4 cuts."""
    quality, repetition, c4, fineweb = config.gopher_quality, config.gopher_repetition, config.c4, config.fineweb
    found = datatrove.count(
        batch.texts,
        tuple(quality.stop_words) if quality else (),
        fineweb.short_line_characters if fineweb else 30,
        repetition is not None,
        _line_rules(c4) if c4 else None,
    )
    counts = found.counts
    signals: dict[str, pa.Array] = {}
    if quality:
        signals["word_count"] = pa.array(counts["real_words"])
        signals["mean_word_length"] = _ratio(counts["spaced_characters"], counts["spaced_words"])
        signals["hashes_per_word"] = _ratio(counts["hashes"], counts["words"])
        signals["ellipses_per_word"] = _ratio(counts["ellipses"], counts["words"])
        signals["bullet_line_fraction"] = _ratio(counts["bullet_lines"], counts["lines"])
        signals["ellipsis_line_fraction"] = _ratio(counts["ellipsis_lines"], counts["lines"])
        signals["letter_word_fraction"] = _ratio(counts["letter_words"], counts["words"])
        signals["stop_word_count"] = pa.array(counts["stop_words"])
    if repetition:
        characters = counts["characters"]
        signals["duplicate_paragraph_fraction"] = _ratio(counts["repeated_paragraphs"], counts["paragraphs"])
        signals["duplicate_paragraph_character_fraction"] = _ratio(counts["repeated_paragraph_characters"], characters)
        signals["duplicate_line_fraction"] = _ratio(counts["repeated_lines"], counts["split_lines"])
        signals["duplicate_line_character_fraction"] = _ratio(counts["repeated_line_characters"], characters)
        for n in sorted(repetition.max_top_ngram_characters):
            times, size = found.top[:, n - 2, 0], found.top[:, n - 2, 1]
            spaces = np.where(times > 0, n - 1, 0)  # datatrove joins the words of an n-gram by single spaces
            signals[f"top_{n}gram_character_fraction"] = _ratio(times * (size + spaces), counts["compared_characters"])
        for n in sorted(repetition.max_duplicate_ngram_characters):
            repeated = found.twice[:, n - 2, 0]
            signals[f"duplicate_{n}gram_character_fraction"] = _ratio(repeated, counts["compared_characters"])
    if c4:
        for name in ("lorem_ipsum", "curly_bracket"):
            signals[name] = pa.array(counts[name])
        signals["sentence_count"] = pa.array(counts["sentences"])
    if fineweb:
        lines = counts["full_lines"]
        signals["nonempty_line_count"] = pa.array(lines)
        signals["end_punctuation_line_fraction"] = _ratio(counts["ended_lines"], lines)
        signals["short_line_fraction"] = _ratio(counts["short_lines"], lines)
        visible = counts["characters"] - counts["newlines"]
        signals["repeated_line_character_fraction"] = _ratio(counts["repeated_full_characters"], visible)
        signals["newlines_per_word"] = _ratio(counts["newlines"], counts["words"])
    return Measured(signals, found.spans)


def _line_rules(c4: C4) -> LineRules:
    return LineRules(
        c4.end_punctuation,
        c4.min_words_per_line,
        c4.max_word_length,
        c4.remove_citations,
        c4.drop_javascript_lines,
        c4.drop_policy_lines,
    )


def _ratio(part: np.ndarray, whole: np.ndarray) -> pa.Array:
    """part / whole as float64; null where there is nothing to take a part of."""
    return pa.array(part / np.maximum(whole, 1), mask=whole == 0)


STAGE = Stage(
    name="heuristics",
    title="Heuristic filters",
    version=VERSION,
    signals={},
    rules=rules,
    measure=measure,
)
