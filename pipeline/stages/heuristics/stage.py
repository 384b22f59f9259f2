"""Heuristic filters: Gopher quality and repetition (Rae et al. 2021), C4 (Raffel et al. 2020), FineWeb quality (Penedo
et al. 2024), RefinedWeb's lines (Penedo et al. 2023).

The same thresholds are not the same filter, so a family is named with its dialect: ``gopher_quality`` is short for
``gopher_quality@datatrove``, as datatrove 0.10.1 counts, which made FineWeb; ``gopher_quality@dolma`` counts as dolma
does. A family runs if the recipe has its section. Thresholds default to the published ones; one may be given per
language (``{en: 50, "*": 20}``, where the recipe identifies languages) or taken away (null).

Thresholds and word lists were made for English. Where a stage before named each document's language, one in another
language is judged by what is known of that (``pipeline.text.languages``): its own stop words, end marks of any script,
and bounds that its longer or shorter words move apart, never closer. A language without reference text has no stop
words, and the rule on them does not apply to it. ``by_language`` in a family's section sets any field for one language;
``by_language: null`` judges every language as English.

All families measure the text as it reaches the stage; lines that C4 or RefinedWeb drop are cut for later stages. Words
are those of ``pipeline.text.words``: in scripts without spaces (``pipeline.text.scripts``) characters or syllables,
which count as words but not for the mean word length; where they are most of a text, that is null. The dialects of
dolma and RefinedWeb count runs without whitespace, as these do: they are for scripts with spaces.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from pipeline import MillError
from pipeline.build.stage import Batch, Measured, Recipe, Stage
from pipeline.stages.heuristics.families import Config, DolmaRepetition, Family, GopherRepetition, by_language
from pipeline.store.ledger import Rule
from pipeline.text import datatrove, dolma, languages, ngrams, refinedweb, seams, spans

VERSION = 8


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
        each = _of_each(c4)
        for name, signal in _FOUND.items():
            yield _rule(
                f"c4.{signal}", signal, _by_language(each, lambda of, name=name: 0 if of[name] else None), False
            )
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


#: Switch of C4 -> the signal that says what was found.
_FOUND = {"drop_lorem_ipsum": "lorem_ipsum", "drop_curly_bracket": "curly_bracket"}
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


def _limits(name: str, family: Family, signals: Mapping[str, str]) -> Iterator[Rule]:
    each = _of_each(family)
    for field, signal in signals.items():
        limit = _by_language(each, lambda of, field=field: of[field])
        yield _rule(f"{name}.{field}", signal, limit, field.startswith("min_"))


def _ngram_limits(name: str, family: GopherRepetition | DolmaRepetition, suffix: str = "") -> Iterator[Rule]:
    each = _of_each(family)
    for kind in ("top", "duplicate"):
        field = f"max_{kind}_ngram_characters"
        for n in _lengths(family, field):
            limit = _by_language(each, lambda of, field=field, n=n: of[field].get(n))
            signal = f"{kind}_{n}gram_character_fraction{suffix}"
            yield _rule(f"{name}.max_{kind}_{n}gram_characters", signal, limit, False)


def _lengths(family: GopherRepetition | DolmaRepetition, field: str) -> list[int]:
    """The lengths of n-grams that any language has a limit for."""
    given = [getattr(family, field), *(of[field] for of in (family.by_language or {}).values() if field in of)]
    return sorted({n for limits in given for n in limits})


def _of_each(family: Family) -> dict[str | None, dict[str, Any]]:
    """The fields of ``family`` by language, and under None those of documents whose language nothing named."""
    given = family.by_language
    known = () if given is None else {**languages.known(), **given}
    return {None: family.of(None), **{label: family.of(label) for label in known}}


def _by_language(each: Mapping[str | None, Mapping[str, Any]], limit: Callable[[Mapping[str, Any]], Any]) -> Any:
    """A threshold: ``limit`` of a family's fields, by language where it differs; NaN where it does not apply."""
    common = limit(each[None])
    own = {label: limit(fields) for label, fields in each.items() if label is not None}
    differing = {label: math.nan if value is None else value for label, value in own.items() if value != common}
    if not differing:
        return common
    if isinstance(common, Mapping):
        return {**common, **differing}
    return {**differing, languages.OTHERS: math.nan if common is None else common}


def _rule(name: str, signal: str, limit: Any, is_minimum: bool) -> Rule:
    by = "language" if isinstance(limit, Mapping) else None
    return Rule(name, signal, minimum=limit, by=by) if is_minimum else Rule(name, signal, maximum=limit, by=by)


class Sorts(NamedTuple):
    """The languages of some texts: their labels (None: none is known), and int64 [n] which of them each text has."""

    labels: list[str | None]
    of_text: np.ndarray


def _sorts(batch: Batch) -> Sorts:
    if "language" not in batch.signals:
        return Sorts([None], np.zeros(len(batch.texts), np.int64))
    languages = batch.signals["language"]
    if not pa.types.is_dictionary(languages.type):
        languages = languages.dictionary_encode()
    codes = languages.indices.fill_null(len(languages.dictionary)).to_numpy(zero_copy_only=False)
    return Sorts([*languages.dictionary.to_pylist(), None], codes.astype(np.int64))


def measure(config: Config, batch: Batch) -> Measured:
    """Signals of every family that runs; ``spans`` are the lines and marks that C4 and RefinedWeb cut, without a
    character that becomes a space where C4 has ``word[12]word`` as ``wordword``.

    A fraction or ratio of nothing (an empty text) is null, and passes; so is a count of stop words where a language has
    none. No other count is ever null.
    """
    sorts = _sorts(batch)
    signals: dict[str, pa.Array] = {}
    cuts: list[pa.ListArray] = []
    if config.gopher_quality or config.gopher_repetition or config.c4 or config.fineweb:
        _measure_datatrove(config, batch.texts, sorts, signals, cuts)
    if config.gopher_quality_dolma or config.gopher_repetition_dolma:
        _measure_dolma(config, batch.texts, sorts, signals)
    if config.refinedweb:
        most = np.array([config.refinedweb.of(label)["max_uppercase"] for label in sorts.labels], np.float64)
        counts = refinedweb.count(batch.texts, most[sorts.of_text])
        signals["removed_word_fraction"] = _ratio(counts.counts["removed_words"], counts.counts["words"])
        cuts.append(counts.spans)
    if not cuts:
        return Measured(signals)
    # lines are cut whole, as the families define it; but a mark between two words would leave them as one
    tidied = seams.tidy(batch.texts, spans.merge(cuts), whitespace=False)
    return Measured(signals, tidied.cuts, (tidied.overwrites, tidied.fill))


def _measure_datatrove(
    config: Config, texts: pa.StringArray, sorts: Sorts, signals: dict[str, pa.Array], cuts: list[pa.ListArray]
) -> None:
    quality, repetition, c4, fineweb = config.gopher_quality, config.gopher_repetition, config.c4, config.fineweb
    words_of = [quality.of(label)["stop_words"] if quality else () for label in sorts.labels]
    settings = [
        datatrove.Settings(
            stop_words,
            fineweb.of(label)["short_line_characters"] if fineweb else 0,
            c4.line_rules(label) if c4 else None,
            repetition.units(label) if repetition else 1.0,
        )
        for label, stop_words in zip(sorts.labels, words_of, strict=True)
    ]
    facts = datatrove.count(texts, settings, _shortest_duplicate(repetition), sorts.of_text)
    counts = facts.counts
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
        signals["stop_word_count"] = pa.array(counts["stop_words"], mask=_without(words_of)[sorts.of_text])
    if repetition:
        signals["character_count"] = pa.array(characters)
        signals["duplicate_paragraph_fraction"] = _ratio(counts["repeated_paragraphs"], counts["paragraphs"])
        signals["duplicate_paragraph_character_fraction"] = _ratio(counts["repeated_paragraph_characters"], characters)
        signals["duplicate_line_fraction"] = _ratio(counts["repeated_lines"], counts["split_lines"])
        signals["duplicate_line_character_fraction"] = _ratio(counts["repeated_line_characters"], characters)
        compared = counts["compared_characters"]
        # datatrove joins the words of an n-gram by single spaces, which nothing joins in a language without them
        spaces = np.array([entry.units == 1 for entry in settings])[sorts.of_text]
        for n in _lengths(repetition, "max_top_ngram_characters"):
            times, size = facts.top[:, n - 2, 0], facts.top[:, n - 2, 1]
            spaced = np.where(times > 0, size + spaces * (n - 1), 0)
            signals[f"top_{n}gram_character_fraction"] = _ratio(times * spaced, compared)
        for n in _lengths(repetition, "max_duplicate_ngram_characters"):
            signals[f"duplicate_{n}gram_character_fraction"] = _ratio(facts.twice[:, n - 2, 0], compared)
    if facts.spans is not None:
        signals |= {name: pa.array(counts[name]) for name in ("lorem_ipsum", "curly_bracket")}
        signals["sentence_count"] = pa.array(counts["sentences"])
        cuts.append(facts.spans)
    if fineweb:
        lines = counts["full_lines"]
        signals["nonempty_line_count"] = pa.array(lines)
        signals["end_punctuation_line_fraction"] = _ratio(counts["ended_lines"], lines)
        signals["short_line_fraction"] = _ratio(counts["short_lines"], lines)
        visible = characters - counts["newlines"]
        signals["repeated_line_character_fraction"] = _ratio(counts["repeated_full_characters"], visible)
        signals["newlines_per_word"] = _ratio(counts["newlines"], words)


def _measure_dolma(config: Config, texts: pa.StringArray, sorts: Sorts, signals: dict[str, pa.Array]) -> None:
    quality, repetition = config.gopher_quality_dolma, config.gopher_repetition_dolma
    words_of = [quality.of(label)["stop_words"] if quality else () for label in sorts.labels]
    facts = dolma.count(texts, words_of, _shortest_duplicate(repetition), sorts.of_text)
    counts = facts.counts
    words, lines, characters = counts["words"], counts["lines"], counts["word_characters"]
    if quality:
        signals["word_count_dolma"] = pa.array(words)
        signals["median_word_length_dolma"] = pa.array((counts["lower_median"] + counts["upper_median"]) / 2)
        signals["symbol_word_fraction_dolma"] = _ratio(counts["symbol_words"], words)
        signals["bullet_line_fraction_dolma"] = _ratio(counts["bullet_lines"], lines)
        signals["ellipsis_line_fraction_dolma"] = _ratio(counts["ellipsis_lines"], lines)
        signals["letter_word_fraction_dolma"] = _ratio(counts["letter_words"], words)
        signals["stop_word_count_dolma"] = pa.array(counts["stop_words"], mask=_without(words_of)[sorts.of_text])
    if repetition:
        signals["duplicate_line_fraction_dolma"] = _ratio(counts["repeated_lines"], lines)
        signals["duplicate_line_character_fraction_dolma"] = _ratio(counts["repeated_line_characters"], characters)
        for n in _lengths(repetition, "max_top_ngram_characters"):
            top = facts.top[:, n - 2].prod(axis=1)
            signals[f"top_{n}gram_character_fraction_dolma"] = _ratio(top, counts["compared_characters"])
        for n in _lengths(repetition, "max_duplicate_ngram_characters"):
            shares = _ratio(facts.repeated[:, n - 2], facts.every[:, n - 2])
            signals[f"duplicate_{n}gram_character_fraction_dolma"] = shares


def _shortest_duplicate(repetition: GopherRepetition | DolmaRepetition | None) -> int | None:
    return min(_lengths(repetition, "max_duplicate_ngram_characters"), default=ngrams.LONGEST) if repetition else None


def _without(words_of: list[tuple[str, ...]]) -> np.ndarray:
    return np.array([not words for words in words_of], bool)


def _ratio(part: np.ndarray, whole: np.ndarray) -> pa.Array:
    """part / whole as float64; null where there is nothing to take a part of."""
    return pa.array(part / np.maximum(whole, 1), mask=whole == 0)


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
    **dict.fromkeys((*_FOUND.values(), *_COUNTS), pa.int64()),
    "removed_word_fraction": pa.float64(),
}


def _check(config: Config, recipe: Recipe) -> None:
    if recipe.section("language") is None and (field := by_language(config)):
        raise MillError(f"`heuristics.{field}` is given by language: add a `language` section")


STAGE = Stage(
    name="heuristics",
    title="Heuristic filters",
    about="drop documents by the rules of Gopher, C4, FineWeb or RefinedWeb",
    config=Config,
    check=_check,
    version=VERSION,
    signals=SIGNALS,
    rules=rules,
    measure=measure,
    measured=lambda config: [rule.signal for rule in _rules(config)],
)
