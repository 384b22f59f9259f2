"""Heuristic filters: Gopher quality and repetition (Rae et al. 2021), C4 (Raffel et al. 2020), FineWeb quality (Penedo
et al. 2024), RefinedWeb's lines (Penedo et al. 2023).

The same thresholds are not the same filter, so a family is named with its dialect: ``gopher_quality`` is short for
``gopher_quality@datatrove``, as datatrove 0.10.1 counts, which made FineWeb; ``gopher_quality@dolma`` counts as dolma
does. A family runs if the recipe has its section. Thresholds default to the published ones; one may be given per
language (``{en: 50, "*": 20}``, where the recipe identifies languages) or taken away (null).

All families measure the text as it reaches the stage; lines that C4 or RefinedWeb drop are cut for later stages. Words
are those of ``pipeline.text.words``: in scripts without spaces (Han, Kana, Thai, Lao, Khmer, Myanmar) characters or
syllables, which count as words but not for the mean word length; where they are most of a text, that is null. The
dialects of dolma and RefinedWeb count runs without whitespace, as these do: they are for scripts with spaces.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, TypeVar

import numpy as np
import pyarrow as pa
from pydantic import AliasChoices, BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from pipeline import stage
from pipeline.stage import Batch, Measured, Stage
from pipeline.store.ledger import Rule
from pipeline.text import datatrove, dolma, ngrams, refinedweb, spans
from pipeline.text.c4 import LineRules

VERSION = 4

Share = Annotated[float, Field(ge=0, le=1)]
Ratio = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=0)]


def _form(value: Any) -> str:
    return "per language" if isinstance(value, Mapping) else "for all"


T = TypeVar("T")
Limit = (
    Annotated[Annotated[T, Tag("for all")] | Annotated[dict[str, T], Tag("per language")], Discriminator(_form)] | None
)
ShareLimit, RatioLimit, CountLimit = Limit[Share], Limit[Ratio], Limit[Count]
Length = Annotated[int, Field(ge=2, le=10, description="words of an n-gram")]
StopWords = Annotated[tuple[str, ...], Field(max_length=64)]

STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")
TOP_NGRAMS: dict[int, ShareLimit] = {2: 0.20, 3: 0.18, 4: 0.16}
DUPLICATE_NGRAMS: dict[int, ShareLimit] = {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10}


class GopherQuality(stage.Config):
    """Words that are not punctuation, their mean length, symbols per word, bullets, ellipses, letters, stop words.

    In scripts without spaces a character (Han, Kana) or syllable (Thai, Lao, Khmer, Myanmar) counts as a word, and a
    text mostly in them has no mean word length; the stop words are English: give others, or ``min_stop_words: null``.
    """

    min_words: CountLimit = 50
    max_words: CountLimit = 100_000
    min_mean_word_length: RatioLimit = 3.0
    max_mean_word_length: RatioLimit = 10.0
    max_hashes_per_word: RatioLimit = 0.1
    max_ellipses_per_word: RatioLimit = 0.1
    max_bullet_lines: ShareLimit = 0.9
    max_ellipsis_lines: ShareLimit = 0.3
    min_words_with_letter: ShareLimit = 0.8
    min_stop_words: CountLimit = 2
    stop_words: StopWords = STOP_WORDS


class GopherRepetition(stage.Config):
    """Repeats after the first as a share of lines, paragraphs and all characters; n-grams read greedily.

    An n-gram is of words as ``gopher_quality`` counts them: of characters or syllables in scripts without spaces.
    """

    max_duplicate_paragraphs: ShareLimit = 0.30
    max_duplicate_paragraph_characters: ShareLimit = 0.20
    max_duplicate_lines: ShareLimit = 0.30
    max_duplicate_line_characters: ShareLimit = 0.20
    max_top_ngram_characters: dict[Length, ShareLimit] = TOP_NGRAMS
    max_duplicate_ngram_characters: dict[Length, ShareLimit] = DUPLICATE_NGRAMS


class C4(stage.Config):
    """Lines are dropped, then pages. FineWeb runs it with ``end_punctuation: false``.

    Words are runs without whitespace, and characters or syllables in scripts without spaces. ``end_punctuation`` asks
    for one of . ? ! " ' whatever the script: switch it off where sentences end otherwise (Chinese, Japanese), and
    ``min_sentences`` (null) where nothing marks their end (Thai, Lao).
    """

    end_punctuation: bool = True
    min_words_per_line: Count = 3
    max_word_length: Annotated[int, Field(ge=1)] = 1000
    remove_citations: bool = True
    drop_javascript_lines: bool = True
    drop_policy_lines: bool = True
    drop_lorem_ipsum: bool = True
    drop_curly_bracket: bool = True
    min_sentences: CountLimit = 5


class FineWebQuality(stage.Config):
    """Lines that end in punctuation, short lines, characters in repeated lines, newlines per word."""

    min_lines_with_end_punctuation: ShareLimit = 0.12
    max_short_lines: ShareLimit = 0.67
    short_line_characters: Count = 30
    max_duplicate_line_characters: ShareLimit = 0.01
    max_newlines_per_word: RatioLimit = 0.3


class DolmaQuality(stage.Config):
    """Like ``GopherQuality`` with the median word length, words that hold # or U+2026, and stop words by occurrence."""

    min_words: CountLimit = 50
    max_words: CountLimit = 100_000
    min_median_word_length: RatioLimit = 3.0
    max_median_word_length: RatioLimit = 10.0
    max_words_with_symbol: ShareLimit = 0.1
    max_bullet_lines: ShareLimit = 0.9
    max_ellipsis_lines: ShareLimit = 0.3
    min_words_with_letter: ShareLimit = 0.8
    min_stop_words: CountLimit = 2
    stop_words: StopWords = STOP_WORDS


class DolmaRepetition(stage.Config):
    """All copies, the first too, as a share of lines and of the characters in words; n-grams overlap."""

    max_duplicate_lines: ShareLimit = 0.30
    max_duplicate_line_characters: RatioLimit = 0.20
    max_top_ngram_characters: dict[Length, RatioLimit] = TOP_NGRAMS
    max_duplicate_ngram_characters: dict[Length, ShareLimit] = DUPLICATE_NGRAMS


class RefinedWeb(stage.Config):
    """Lines are dropped; a page that loses too many words in them goes too."""

    max_uppercase: Share = 0.5
    max_removed_words: ShareLimit = 0.05


def _family(name: str, dialect: str) -> Any:
    return Field(default=None, validation_alias=AliasChoices(name.removesuffix("_dolma") + "@" + dialect, name))


class Config(stage.Config):
    """The families to run; none named (``{}``): the four of datatrove."""

    model_config = ConfigDict(validate_by_name=True)

    gopher_quality: GopherQuality | None = _family("gopher_quality", "datatrove")
    gopher_repetition: GopherRepetition | None = _family("gopher_repetition", "datatrove")
    c4: C4 | None = _family("c4", "datatrove")
    fineweb: FineWebQuality | None = _family("fineweb", "datatrove")
    gopher_quality_dolma: DolmaQuality | None = _family("gopher_quality_dolma", "dolma")
    gopher_repetition_dolma: DolmaRepetition | None = _family("gopher_repetition_dolma", "dolma")
    refinedweb: RefinedWeb | None = None

    @model_validator(mode="before")
    @classmethod
    def _datatrove_by_default(cls, values: Any) -> Any:
        return (
            values if values != {} else {name: {} for name in ("gopher_quality", "gopher_repetition", "c4", "fineweb")}
        )


def rules(config: Config) -> list[Rule]:
    """In datatrove's order within each family: the first that fails names the reason."""
    return [rule for rule in _rules(config) if rule.minimum is not None or rule.maximum is not None]


def _rules(config: Config) -> Iterator[Rule]:
    if config.gopher_quality:
        yield from _limits("gopher_quality", config.gopher_quality, _QUALITY)
    if repetition := config.gopher_repetition:
        yield Rule("gopher_repetition.empty", "character_count", minimum=1)
        yield from _limits("gopher_repetition", repetition, _REPETITION)
        yield from _ngram_limits("gopher_repetition", repetition)
    if c4 := config.c4:
        yield Rule("c4.lorem_ipsum", "lorem_ipsum", maximum=0 if c4.drop_lorem_ipsum else None)
        yield Rule("c4.curly_bracket", "curly_bracket", maximum=0 if c4.drop_curly_bracket else None)
        yield from _limits("c4", c4, {"min_sentences": "sentence_count"})
    if config.fineweb:
        yield Rule("fineweb.no_lines", "nonempty_line_count", minimum=1)
        yield from _limits("fineweb", config.fineweb, _FINEWEB)
    if config.gopher_quality_dolma:
        yield from _limits("gopher_quality@dolma", config.gopher_quality_dolma, _DOLMA_QUALITY)
    if repetition := config.gopher_repetition_dolma:
        yield from _limits("gopher_repetition@dolma", repetition, _DOLMA_REPETITION)
        yield from _ngram_limits("gopher_repetition@dolma", repetition, "_dolma")
    if config.refinedweb:
        yield from _limits("refinedweb", config.refinedweb, {"max_removed_words": "removed_word_fraction"})


#: Threshold -> the signal that it bounds, in the order in which the rules are tried.
_QUALITY = {
    "min_words": "word_count",
    "max_words": "word_count",
    "min_mean_word_length": "mean_word_length",
    "max_mean_word_length": "mean_word_length",
    "max_hashes_per_word": "hashes_per_word",
    "max_ellipses_per_word": "ellipses_per_word",
    "max_bullet_lines": "bullet_line_fraction",
    "max_ellipsis_lines": "ellipsis_line_fraction",
    "min_words_with_letter": "letter_word_fraction",
    "min_stop_words": "stop_word_count",
}
_REPETITION = {
    "max_duplicate_paragraphs": "duplicate_paragraph_fraction",
    "max_duplicate_paragraph_characters": "duplicate_paragraph_character_fraction",
    "max_duplicate_lines": "duplicate_line_fraction",
    "max_duplicate_line_characters": "duplicate_line_character_fraction",
}
_FINEWEB = {
    "min_lines_with_end_punctuation": "end_punctuation_line_fraction",
    "max_short_lines": "short_line_fraction",
    "max_duplicate_line_characters": "repeated_line_character_fraction",
    "max_newlines_per_word": "newlines_per_word",
}
_DOLMA_QUALITY = {
    "min_words": "word_count_dolma",
    "max_words": "word_count_dolma",
    "min_median_word_length": "median_word_length_dolma",
    "max_median_word_length": "median_word_length_dolma",
    "max_words_with_symbol": "symbol_word_fraction_dolma",
    "max_bullet_lines": "bullet_line_fraction_dolma",
    "max_ellipsis_lines": "ellipsis_line_fraction_dolma",
    "min_words_with_letter": "letter_word_fraction_dolma",
    "min_stop_words": "stop_word_count_dolma",
}
_DOLMA_REPETITION = {
    "max_duplicate_lines": "duplicate_line_fraction_dolma",
    "max_duplicate_line_characters": "duplicate_line_character_fraction_dolma",
}


def _limits(family: str, config: BaseModel, signals: Mapping[str, str]) -> Iterator[Rule]:
    for field, signal in signals.items():
        yield _rule(f"{family}.{field}", signal, getattr(config, field), field.startswith("min_"))


def _ngram_limits(family: str, config: GopherRepetition | DolmaRepetition, suffix: str = "") -> Iterator[Rule]:
    limits = {"top": config.max_top_ngram_characters, "duplicate": config.max_duplicate_ngram_characters}
    for kind, by_length in limits.items():
        for n, limit in sorted(by_length.items()):
            name = f"{family}.max_{kind}_{n}gram_characters"
            yield _rule(name, f"{kind}_{n}gram_character_fraction{suffix}", limit, False)


def _rule(name: str, signal: str, limit: Any, is_minimum: bool) -> Rule:
    by = "language" if isinstance(limit, Mapping) else None
    return Rule(name, signal, minimum=limit, by=by) if is_minimum else Rule(name, signal, maximum=limit, by=by)


def measure(config: Config, batch: Batch) -> Measured:
    """Signals of every family that runs; ``spans`` are the lines and marks that C4 and RefinedWeb cut.

    A fraction or ratio of nothing (an empty text) is null, and passes; counts are never null.
    """
    signals: dict[str, pa.Array] = {}
    cuts: list[pa.ListArray] = []
    if config.gopher_quality or config.gopher_repetition or config.c4 or config.fineweb:
        _measure_datatrove(config, batch.texts, signals, cuts)
    if config.gopher_quality_dolma or config.gopher_repetition_dolma:
        _measure_dolma(config, batch.texts, signals)
    if config.refinedweb:
        found = refinedweb.count(batch.texts, config.refinedweb.max_uppercase)
        signals["removed_word_fraction"] = _ratio(found.counts["removed_words"], found.counts["words"])
        cuts.append(found.spans)
    return Measured(signals, spans.merge(cuts) if cuts else None)


def _measure_datatrove(
    config: Config, texts: pa.StringArray, signals: dict[str, pa.Array], cuts: list[pa.ListArray]
) -> None:
    quality, repetition, c4, fineweb = config.gopher_quality, config.gopher_repetition, config.c4, config.fineweb
    found = datatrove.count(
        texts,
        quality.stop_words if quality else (),
        fineweb.short_line_characters if fineweb else 0,
        _shortest_duplicate(repetition),
        _line_rules(c4) if c4 else None,
    )
    counts = found.counts
    characters, words = counts["characters"], counts["words"]
    if quality:
        signals["word_count"] = pa.array(counts["real_words"])
        few = (
            2 * counts["spaced_words"] < counts["real_words"]
        )  # the numbers and names in a Thai text are not its words
        signals["mean_word_length"] = _ratio(
            np.where(few, 0, counts["spaced_characters"]), np.where(few, 0, counts["spaced_words"])
        )
        signals["hashes_per_word"] = _ratio(counts["hashes"], words)
        signals["ellipses_per_word"] = _ratio(counts["ellipses"], words)
        signals["bullet_line_fraction"] = _ratio(counts["bullet_lines"], counts["lines"])
        signals["ellipsis_line_fraction"] = _ratio(counts["ellipsis_lines"], counts["lines"])
        signals["letter_word_fraction"] = _ratio(counts["letter_words"], words)
        signals["stop_word_count"] = pa.array(counts["stop_words"])
    if repetition:
        signals["character_count"] = pa.array(characters)
        signals["duplicate_paragraph_fraction"] = _ratio(counts["repeated_paragraphs"], counts["paragraphs"])
        signals["duplicate_paragraph_character_fraction"] = _ratio(counts["repeated_paragraph_characters"], characters)
        signals["duplicate_line_fraction"] = _ratio(counts["repeated_lines"], counts["split_lines"])
        signals["duplicate_line_character_fraction"] = _ratio(counts["repeated_line_characters"], characters)
        compared = counts["compared_characters"]
        for n in sorted(repetition.max_top_ngram_characters):
            times, size = found.top[:, n - 2, 0], found.top[:, n - 2, 1]
            spaced = np.where(times > 0, size + n - 1, 0)  # datatrove joins the words of an n-gram by single spaces
            signals[f"top_{n}gram_character_fraction"] = _ratio(times * spaced, compared)
        for n in sorted(repetition.max_duplicate_ngram_characters):
            signals[f"duplicate_{n}gram_character_fraction"] = _ratio(found.twice[:, n - 2, 0], compared)
    if found.spans is not None:
        signals |= {name: pa.array(counts[name]) for name in ("lorem_ipsum", "curly_bracket")}
        signals["sentence_count"] = pa.array(counts["sentences"])
        cuts.append(found.spans)
    if fineweb:
        lines = counts["full_lines"]
        signals["nonempty_line_count"] = pa.array(lines)
        signals["end_punctuation_line_fraction"] = _ratio(counts["ended_lines"], lines)
        signals["short_line_fraction"] = _ratio(counts["short_lines"], lines)
        visible = characters - counts["newlines"]
        signals["repeated_line_character_fraction"] = _ratio(counts["repeated_full_characters"], visible)
        signals["newlines_per_word"] = _ratio(counts["newlines"], words)


def _measure_dolma(config: Config, texts: pa.StringArray, signals: dict[str, pa.Array]) -> None:
    quality, repetition = config.gopher_quality_dolma, config.gopher_repetition_dolma
    found = dolma.count(texts, quality.stop_words if quality else (), _shortest_duplicate(repetition))
    counts = found.counts
    words, lines, characters = counts["words"], counts["lines"], counts["word_characters"]
    if quality:
        signals["word_count_dolma"] = pa.array(words)
        signals["median_word_length_dolma"] = pa.array((counts["lower_median"] + counts["upper_median"]) / 2)
        signals["symbol_word_fraction_dolma"] = _ratio(counts["symbol_words"], words)
        signals["bullet_line_fraction_dolma"] = _ratio(counts["bullet_lines"], lines)
        signals["ellipsis_line_fraction_dolma"] = _ratio(counts["ellipsis_lines"], lines)
        signals["letter_word_fraction_dolma"] = _ratio(counts["letter_words"], words)
        signals["stop_word_count_dolma"] = pa.array(counts["stop_words"])
    if repetition:
        signals["duplicate_line_fraction_dolma"] = _ratio(counts["repeated_lines"], lines)
        signals["duplicate_line_character_fraction_dolma"] = _ratio(counts["repeated_line_characters"], characters)
        for n in sorted(repetition.max_top_ngram_characters):
            top = found.top[:, n - 2].prod(axis=1)
            signals[f"top_{n}gram_character_fraction_dolma"] = _ratio(top, counts["compared_characters"])
        for n in sorted(repetition.max_duplicate_ngram_characters):
            shares = _ratio(found.repeated[:, n - 2], found.every[:, n - 2])
            signals[f"duplicate_{n}gram_character_fraction_dolma"] = shares


def _shortest_duplicate(repetition: GopherRepetition | DolmaRepetition | None) -> int | None:
    return min(repetition.max_duplicate_ngram_characters, default=ngrams.LONGEST) if repetition else None


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


_FOUND = ("lorem_ipsum", "curly_bracket")
_COUNTS = ("character_count", "nonempty_line_count", "sentence_count")
SIGNALS: dict[str, pa.DataType] = {
    **{
        name: pa.int64() if "_count" in name else pa.float64()
        for table in (_QUALITY, _REPETITION, _FINEWEB, _DOLMA_QUALITY, _DOLMA_REPETITION)
        for name in table.values()
    },
    **{
        f"{kind}_{n}gram_character_fraction{suffix}": pa.float64()
        for kind in ("top", "duplicate")
        for n in range(ngrams.SHORTEST, ngrams.LONGEST + 1)
        for suffix in ("", "_dolma")
    },
    **dict.fromkeys((*_FOUND, *_COUNTS), pa.int64()),
    "removed_word_fraction": pa.float64(),
}

STAGE = Stage(
    name="heuristics",
    title="Heuristic filters",
    version=VERSION,
    signals=SIGNALS,
    rules=rules,
    measure=measure,
    measured=lambda config: [rule.signal for rule in _rules(config)],
)
