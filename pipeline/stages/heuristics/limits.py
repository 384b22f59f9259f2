"""The fields of heuristic rules: their types, and the sentence that explains each in `mill fields heuristics`.

A limit is one value for all documents, or one for each language (``{en: 50, "*": 20}``), or null for none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import Discriminator, Field, Tag

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

# Gopher quality (Rae 2021): the same thresholds in both dialects
MinWords = Annotated[CountLimit, Field(description="words below which a document is dropped (Gopher: 50)")]
MaxWords = Annotated[CountLimit, Field(description="words above which a document is dropped (Gopher: 100,000)")]
MinMeanLength = Annotated[RatioLimit, Field(description="smallest mean word length in characters (Gopher: 3)")]
MaxMeanLength = Annotated[RatioLimit, Field(description="largest mean word length in characters (Gopher: 10)")]
MinMedianLength = Annotated[RatioLimit, Field(description="smallest median word length in characters (dolma: 3)")]
MaxMedianLength = Annotated[RatioLimit, Field(description="largest median word length in characters (dolma: 10)")]
MaxHashes = Annotated[RatioLimit, Field(description="largest number of # signs per word (Gopher: 0.1)")]
MaxEllipses = Annotated[RatioLimit, Field(description="largest number of ellipses per word (Gopher: 0.1)")]
MaxSymbols = Annotated[ShareLimit, Field(description="largest share of words that hold # or an ellipsis (dolma: 0.1)")]
MaxBullets = Annotated[ShareLimit, Field(description="largest share of lines that start with a bullet (Gopher: 0.9)")]
MaxEllipsisLines = Annotated[
    ShareLimit, Field(description="largest share of lines that end in an ellipsis (Gopher: 0.3)")
]
MinLettered = Annotated[ShareLimit, Field(description="smallest share of words that hold a letter (Gopher: 0.8)")]
MinDistinctStopWords = Annotated[CountLimit, Field(description="smallest number of different stop words (Gopher: 2)")]
MinStopWords = Annotated[
    CountLimit, Field(description="smallest number of stop words, repeats counted (dolma's reading of Gopher: 2)")
]
StopWords = Annotated[
    tuple[str, ...], Field(max_length=64, description="words that count as stop words (Gopher's are English)")
]

# Gopher repetition (Rae 2021, table A1): what counts as a duplicate, the class of the dialect says
MaxParagraphs = Annotated[ShareLimit, Field(description="largest share of paragraphs that are repeats (Gopher: 0.3)")]
MaxParagraphCharacters = Annotated[
    ShareLimit, Field(description="largest share of characters in repeated paragraphs (Gopher: 0.2)")
]
MaxLines = Annotated[ShareLimit, Field(description="largest share of lines that are repeats (Gopher: 0.3)")]
MaxLineCharacters = Annotated[
    ShareLimit, Field(description="largest share of characters in repeated lines (Gopher: 0.2)")
]
MaxLineCharacterRatio = Annotated[
    RatioLimit, Field(description="most characters in repeated lines, as a share of those in words (Gopher: 0.2)")
]
MaxTop = Annotated[
    dict[Length, ShareLimit],
    Field(
        description="largest share of characters in the most frequent n-gram, for each n in words (Gopher, table A1)"
    ),
]
MaxTopRatio = Annotated[
    dict[Length, RatioLimit],
    Field(
        description="most characters in the most frequent n-gram, as a share of those in words, for each n"
        " (Gopher, table A1)"
    ),
]
MaxNgrams = Annotated[
    dict[Length, ShareLimit],
    Field(description="largest share of characters in repeated n-grams, for each n in words (Gopher, table A1)"),
]

# C4 (Raffel 2020)
EndPunctuation = Annotated[
    bool, Field(description="drop lines that do not end in punctuation, or end in an ellipsis; FineWeb: false")
]
MinLineWords = Annotated[Count, Field(description="words below which a line is dropped (C4: 3)")]
MaxWordLength = Annotated[
    int, Field(ge=1, description="characters of a word above which its line is dropped (datatrove: 1,000)")
]
Citations = Annotated[bool, Field(description="remove citation marks such as [12], [edit], [citation needed] (C4)")]
Javascript = Annotated[bool, Field(description="drop lines that hold the word javascript (C4)")]
Policy = Annotated[bool, Field(description="drop lines about terms of use, privacy or cookies (C4)")]
LoremIpsum = Annotated[bool, Field(description="drop documents that hold lorem ipsum (C4)")]
CurlyBracket = Annotated[bool, Field(description="drop documents that hold a { (C4), mostly code")]
MinSentences = Annotated[CountLimit, Field(description="sentences left below which a document is dropped (C4: 5)")]

# FineWeb (Penedo 2024)
MinEnded = Annotated[ShareLimit, Field(description="smallest share of lines that end in punctuation (FineWeb: 0.12)")]
MaxShort = Annotated[ShareLimit, Field(description="largest share of short lines (FineWeb: 0.67)")]
ShortLine = Annotated[Count, Field(description="characters up to which a line is short (FineWeb: 30)")]
MaxFineWebLines = Annotated[
    ShareLimit, Field(description="largest share of characters in repeated lines (FineWeb: 0.01)")
]
MaxNewlines = Annotated[RatioLimit, Field(description="largest number of line ends per word (FineWeb: 0.3)")]

# RefinedWeb (Penedo 2023)
MaxUppercase = Annotated[
    Share, Field(description="share of upper-case characters above which a line is dropped (RefinedWeb)")
]
MaxRemoved = Annotated[
    ShareLimit, Field(description="share of words lost with lines above which a document is dropped (RefinedWeb: 0.05)")
]
