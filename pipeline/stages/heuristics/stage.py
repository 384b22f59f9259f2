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

import difflib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Annotated, Any, NamedTuple

import numpy as np
import pyarrow as pa
from pydantic import (
    AliasChoices,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from pipeline import MillError
from pipeline.build.stage import Batch, Measured, Recipe, Stage
from pipeline.stages.heuristics import limits
from pipeline.store import recipe_file
from pipeline.store.ledger import Rule
from pipeline.text import c4 as c4_lines
from pipeline.text import datatrove, dolma, languages, ngrams, refinedweb, seams, spans
from pipeline.text.languages import Language

VERSION = 8

STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")
TOP_NGRAMS: dict[int, limits.ShareLimit] = {2: 0.20, 3: 0.18, 4: 0.16}
DUPLICATE_NGRAMS: dict[int, limits.ShareLimit] = {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10}


class Family(recipe_file.Config):
    """A family of rules, whose fields may differ by language."""

    by_language: Annotated[
        dict[str, dict[str, Any]] | None,
        Field(
            description="fields of this family for documents in one language, such as {de: {max_mean_word_length: 12}};"
            " null: every language by the rules for English"
        ),
    ] = {}

    @field_validator("by_language")
    @classmethod
    def _are_fields(cls, values: dict[str, dict[str, Any]] | None) -> dict[str, dict[str, Any]] | None:
        return values and {language: cls._checked(language, given) for language, given in values.items()}

    @classmethod
    def _checked(cls, language: str, given: dict[str, Any]) -> dict[str, Any]:
        known = [name for name in cls.model_fields if name != "by_language"]
        for name, value in given.items():
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                remedy = f"did you mean `{near[0]}`?" if near else f"known here: {', '.join(known)}"
                raise MillError(f"{language}: unknown field `{name}`; {remedy}")
            if isinstance(value, Mapping) and not name.endswith("ngram_characters"):
                raise MillError(f"{language}: `{name}` takes one value here")
        try:
            made = cls.model_validate(given)
        except ValidationError as error:
            (first, *_) = error.errors()
            raise MillError(f"{language}: `{'.'.join(map(str, first['loc']))}`: {first['msg']}") from error
        return {name: getattr(made, name) for name in given}

    def adapted(self, language: Language) -> dict[str, Any]:  # noqa: ARG002
        """The fields that suit a language other than English better, where the recipe leaves them at their defaults."""
        return {}

    def of(self, label: str | None) -> dict[str, Any]:
        """Every field as it holds for documents whose language was named ``label`` (None: nothing named it)."""
        values = {name: getattr(self, name) for name in type(self).model_fields}
        if label is None or self.by_language is None:
            return values
        language = languages.known().get(label, languages.UNKNOWN)
        if language.code != languages.ENGLISH:
            for name, value in self.adapted(language).items():
                if values[name] == _default(self, name):
                    values[name] = value
        return values | self.by_language.get(label, {})


def _default(family: Family, name: str) -> Any:
    return type(family).model_fields[name].default


def _looser(family: Family, low: str, high: str, ratio: float) -> dict[str, float]:
    """Bounds on the length of words where they are ``ratio`` as long as in English: as far apart, or further."""
    return {
        low: round(_default(family, low) * min(ratio, 1), 2),
        high: round(_default(family, high) * max(ratio, 1), 2),
    }


def _lettered(family: Family, language: Language) -> float:
    """``min_words_with_letter`` where more words are marks: the share without letters that passes grows as theirs."""
    return round(1 - (1 - _default(family, "min_words_with_letter")) * max(language.unlettered, 1), 2)


#: Where words are not counted, no n-gram is of words.
_WITHOUT_NGRAMS: dict[str, Any] = {"max_top_ngram_characters": {}, "max_duplicate_ngram_characters": {}}


class GopherQuality(Family):
    """Words that are not punctuation, their mean length, symbols per word, bullets, ellipses, letters, stop words.

    In scripts without spaces a character (Han, Kana) or syllable (Thai, Lao, Khmer, Myanmar) counts as a word, and a
    text mostly in them has no mean word length. Without stop words the rule on them does not apply: Lao, Khmer, Burmese
    and Tibetan have no list. No rule on the number or length of words applies to Tibetan and Dzongkha: nothing is known
    of how many of their syllables say what a word says.
    """

    min_words: limits.MinWords = 50
    max_words: limits.MaxWords = 100_000
    min_mean_word_length: limits.MinMeanLength = 3.0
    max_mean_word_length: limits.MaxMeanLength = 10.0
    max_hashes_per_word: limits.MaxHashes = 0.1
    max_ellipses_per_word: limits.MaxEllipses = 0.1
    max_bullet_lines: limits.MaxBullets = 0.9
    max_ellipsis_lines: limits.MaxEllipsisLines = 0.3
    min_words_with_letter: limits.MinLettered = 0.8
    min_stop_words: limits.MinDistinctStopWords = 2
    stop_words: limits.StopWords = STOP_WORDS

    def adapted(self, language: Language) -> dict[str, Any]:
        if not language.words:
            counting = ("min_words", "min_mean_word_length", "max_mean_word_length", "min_words_with_letter")
            return {"stop_words": (), **dict.fromkeys(counting)}
        bounds = _looser(self, "min_mean_word_length", "max_mean_word_length", language.word_length)
        lettered = _lettered(self, language)
        return {"stop_words": language.stop_words, "min_words_with_letter": lettered, **bounds}


class GopherRepetition(Family):
    """Repeats after the first as a share of lines, paragraphs and all characters; n-grams read greedily.

    An n-gram is of words and marks as ``gopher_quality`` finds them. In a language that writes no spaces those are
    characters or syllables, of which 5 come again in good prose far more often than 5 words do. There an n-gram is of
    as many as say what n words say in English: 2.14 n in Japanese, 2.95 n in Thai, 1.4 n in Chinese, as the Universal
    Declaration of Human Rights, which says the same in each, has more of them than words in English.
    """

    max_duplicate_paragraphs: limits.MaxParagraphs = 0.30
    max_duplicate_paragraph_characters: limits.MaxParagraphCharacters = 0.20
    max_duplicate_lines: limits.MaxLines = 0.30
    max_duplicate_line_characters: limits.MaxLineCharacters = 0.20
    max_top_ngram_characters: limits.MaxTop = TOP_NGRAMS
    max_duplicate_ngram_characters: limits.MaxNgrams = DUPLICATE_NGRAMS

    def adapted(self, language: Language) -> dict[str, Any]:
        return {} if language.words else _WITHOUT_NGRAMS

    def units(self, label: str | None) -> float:
        """How many characters or syllables count as one word in n-grams of the language ``label``; 1 with spaces."""
        if label is None or self.by_language is None:
            return 1.0
        return languages.known().get(label, languages.UNKNOWN).units


class C4(Family):
    """Lines are dropped, then pages. FineWeb runs it with ``end_punctuation: false``.

    Words are runs without whitespace, and characters or syllables in scripts without spaces. ``end_punctuation`` asks
    for one of . ? ! " ' in English and where no language is known; in other languages any mark that ends a sentence in
    some script, or closes a quotation, will do. Where nothing surely marks the end (Thai, Lao, Khmer,
    Burmese, Tibetan) both are off, it and
    ``min_sentences``.
    """

    end_punctuation: limits.EndPunctuation = True
    min_words_per_line: limits.MinLineWords = 3
    max_word_length: limits.MaxWordLength = 1000
    remove_citations: limits.Citations = True
    drop_javascript_lines: limits.Javascript = True
    drop_policy_lines: limits.Policy = True
    drop_lorem_ipsum: limits.LoremIpsum = True
    drop_curly_bracket: limits.CurlyBracket = True
    min_sentences: limits.MinSentences = 5

    def adapted(self, language: Language) -> dict[str, Any]:
        unmarked = {} if language.end_marks else {"end_punctuation": False, "min_sentences": None}
        return unmarked if language.words else {**unmarked, "min_words_per_line": 0}

    def line_rules(self, label: str | None) -> c4_lines.LineRules:
        """The line rules for documents in the language ``label``."""
        values = self.of(label)
        marks = _end_marks(label if self.by_language is not None else None) if values["end_punctuation"] else 0
        limits = (values["min_words_per_line"], values["max_word_length"])
        flags = (values[name] for name in ("remove_citations", "drop_javascript_lines", "drop_policy_lines"))
        return c4_lines.LineRules(marks, *limits, *flags)


def _end_marks(label: str | None) -> int:
    code = languages.ENGLISH if label is None else languages.known().get(label, languages.UNKNOWN).code
    return {languages.ENGLISH: c4_lines.ENGLISH_MARKS, "el": c4_lines.GREEK_MARKS}.get(code, c4_lines.ANY_MARKS)


class FineWebQuality(Family):
    """Lines that end in punctuation, short lines, characters in repeated lines, newlines per word."""

    min_lines_with_end_punctuation: limits.MinEnded = 0.12
    max_short_lines: limits.MaxShort = 0.67
    short_line_characters: limits.ShortLine = 30
    max_duplicate_line_characters: limits.MaxFineWebLines = 0.01
    max_newlines_per_word: limits.MaxNewlines = 0.3

    def adapted(self, language: Language) -> dict[str, Any]:
        short = round(_default(self, "short_line_characters") * min(language.line_length, 1))
        unmarked = {} if language.end_marks else {"min_lines_with_end_punctuation": None}
        uncounted = {} if language.words else {"max_newlines_per_word": None}
        return {"short_line_characters": short, **unmarked, **uncounted}


class DolmaQuality(Family):
    """Like ``GopherQuality`` with the median word length, words that hold # or U+2026, and stop words by occurrence."""

    min_words: limits.MinWords = 50
    max_words: limits.MaxWords = 100_000
    min_median_word_length: limits.MinMedianLength = 3.0
    max_median_word_length: limits.MaxMedianLength = 10.0
    max_words_with_symbol: limits.MaxSymbols = 0.1
    max_bullet_lines: limits.MaxBullets = 0.9
    max_ellipsis_lines: limits.MaxEllipsisLines = 0.3
    min_words_with_letter: limits.MinLettered = 0.8
    min_stop_words: limits.MinStopWords = 2
    stop_words: limits.StopWords = STOP_WORDS

    def adapted(self, language: Language) -> dict[str, Any]:
        if not language.spaces:  # a word is here what stands between spaces
            return {
                "stop_words": (),
                **dict.fromkeys(("min_words", "min_median_word_length", "max_median_word_length")),
            }
        bounds = _looser(self, "min_median_word_length", "max_median_word_length", language.word_length)
        return {"stop_words": language.stop_words, **bounds}


class DolmaRepetition(Family):
    """All copies, the first too, as a share of lines and of the characters in words; n-grams overlap."""

    max_duplicate_lines: limits.MaxLines = 0.30
    max_duplicate_line_characters: limits.MaxLineCharacterRatio = 0.20
    max_top_ngram_characters: limits.MaxTopRatio = TOP_NGRAMS
    max_duplicate_ngram_characters: limits.MaxNgrams = DUPLICATE_NGRAMS

    def adapted(self, language: Language) -> dict[str, Any]:
        return {} if language.spaces else _WITHOUT_NGRAMS


class RefinedWeb(Family):
    """Lines are dropped; a page that loses too many words in them goes too."""

    max_uppercase: limits.MaxUppercase = 0.5
    max_removed_words: limits.MaxRemoved = 0.05


def _family(name: str, dialect: str, about: str) -> Any:
    names = AliasChoices(name.removesuffix("_dolma") + "@" + dialect, name)
    return Field(default=None, validation_alias=names, description=about)


class Config(recipe_file.Config):
    """The families to run; none named (``{}``): the four of datatrove."""

    model_config = ConfigDict(validate_by_name=True)

    gopher_quality: GopherQuality | None = _family(
        "gopher_quality", "datatrove", "Gopher's quality rules as datatrove counts them, which made FineWeb (Rae 2021)"
    )
    gopher_repetition: GopherRepetition | None = _family(
        "gopher_repetition", "datatrove", "Gopher's repetition rules as datatrove counts them (Rae 2021)"
    )
    c4: C4 | None = _family("c4", "datatrove", "C4's rules of lines and pages (Raffel 2020)")
    fineweb: FineWebQuality | None = _family("fineweb", "datatrove", "FineWeb's quality rules (Penedo 2024)")
    gopher_quality_dolma: DolmaQuality | None = _family(
        "gopher_quality_dolma", "dolma", "Gopher's quality rules as dolma counts them"
    )
    gopher_repetition_dolma: DolmaRepetition | None = _family(
        "gopher_repetition_dolma", "dolma", "Gopher's repetition rules as dolma counts them"
    )
    refinedweb: RefinedWeb | None = Field(default=None, description="RefinedWeb's rules of lines (Penedo 2023)")

    @model_validator(mode="before")
    @classmethod
    def _datatrove_by_default(cls, values: Any) -> Any:
        return (
            values if values != {} else {name: {} for name in ("gopher_quality", "gopher_repetition", "c4", "fineweb")}
        )


def by_language(config: Config) -> str | None:
    """The first field that has values by language in the recipe, dotted; None if there is none."""
    for name in type(config).model_fields:
        family: Family | None = getattr(config, name)
        for field in type(family).model_fields if family else ():
            value = getattr(family, field)
            if value and isinstance(value, Mapping) and not field.endswith("ngram_characters"):
                return f"{name}.{field}"
    return None


def without_stop_words(config: Config, labels: Iterable[str]) -> list[str]:
    """Those of the languages ``labels`` that the rule on stop words does not apply to, as none are known."""
    families = [family for family in (config.gopher_quality, config.gopher_quality_dolma) if family]
    return [
        label
        for label in labels
        if label != languages.UNDETERMINED
        and any(family.of(label)["min_stop_words"] and not family.of(label)["stop_words"] for family in families)
    ]


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
        for name, signal in _FOUND.items():
            yield _rule(f"c4.{signal}", signal, _by_language(c4, lambda of, name=name: 0 if of[name] else None), False)
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
    for field, signal in signals.items():
        limit = _by_language(family, lambda of, field=field: of[field])
        yield _rule(f"{name}.{field}", signal, limit, field.startswith("min_"))


def _ngram_limits(name: str, family: GopherRepetition | DolmaRepetition, suffix: str = "") -> Iterator[Rule]:
    for kind in ("top", "duplicate"):
        field = f"max_{kind}_ngram_characters"
        for n in _lengths(family, field):
            limit = _by_language(family, lambda of, field=field, n=n: of[field].get(n))
            signal = f"{kind}_{n}gram_character_fraction{suffix}"
            yield _rule(f"{name}.max_{kind}_{n}gram_characters", signal, limit, False)


def _lengths(family: GopherRepetition | DolmaRepetition, field: str) -> list[int]:
    """The lengths of n-grams that any language has a limit for."""
    given = [getattr(family, field), *(of[field] for of in (family.by_language or {}).values() if field in of)]
    return sorted({n for limits in given for n in limits})


def _by_language(family: Family, limit: Callable[[Mapping[str, Any]], Any]) -> Any:
    """A threshold: ``limit`` of the family's fields, by language where it differs; NaN where it does not apply."""
    common = limit(family.of(None))
    given = family.by_language
    if given is None:
        return common
    labels = [*languages.known(), *(label for label in given if label not in languages.known())]
    own = {label: limit(family.of(label)) for label in labels}
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
    found = batch.signals["language"]
    if not pa.types.is_dictionary(found.type):
        found = found.dictionary_encode()
    codes = found.indices.fill_null(len(found.dictionary)).to_numpy(zero_copy_only=False)
    return Sorts([*found.dictionary.to_pylist(), None], codes.astype(np.int64))


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
        found = refinedweb.count(batch.texts, most[sorts.of_text])
        signals["removed_word_fraction"] = _ratio(found.counts["removed_words"], found.counts["words"])
        cuts.append(found.spans)
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
    found = datatrove.count(texts, settings, _shortest_duplicate(repetition), sorts.of_text)
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
            times, size = found.top[:, n - 2, 0], found.top[:, n - 2, 1]
            spaced = np.where(times > 0, size + spaces * (n - 1), 0)
            signals[f"top_{n}gram_character_fraction"] = _ratio(times * spaced, compared)
        for n in _lengths(repetition, "max_duplicate_ngram_characters"):
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


def _measure_dolma(config: Config, texts: pa.StringArray, sorts: Sorts, signals: dict[str, pa.Array]) -> None:
    quality, repetition = config.gopher_quality_dolma, config.gopher_repetition_dolma
    words_of = [quality.of(label)["stop_words"] if quality else () for label in sorts.labels]
    found = dolma.count(texts, words_of, _shortest_duplicate(repetition), sorts.of_text)
    counts = found.counts
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
            top = found.top[:, n - 2].prod(axis=1)
            signals[f"top_{n}gram_character_fraction_dolma"] = _ratio(top, counts["compared_characters"])
        for n in _lengths(repetition, "max_duplicate_ngram_characters"):
            shares = _ratio(found.repeated[:, n - 2], found.every[:, n - 2])
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
