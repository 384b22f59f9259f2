"""The families of heuristic rules as a recipe gives them: thresholds, their sources, and what differs by language."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from pipeline import MillError
from pipeline.stages.heuristics import limits
from pipeline.store import recipe_file
from pipeline.text import c4 as c4_lines
from pipeline.text import languages
from pipeline.text.languages import Language

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


def _with_dialects(schema: dict[str, Any], config: type[BaseModel]) -> None:
    """Add to the JSON Schema of ``config`` the names with a dialect, which are the same families."""
    for name, field in config.model_fields.items():
        for alias in field.validation_alias.choices if isinstance(field.validation_alias, AliasChoices) else ():
            if isinstance(alias, str):
                schema["properties"].setdefault(alias, schema["properties"][name])


class Config(recipe_file.Config):
    """The families to run; none named (``{}``): the four of datatrove."""

    model_config = ConfigDict(validate_by_name=True, json_schema_extra=_with_dialects)

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
