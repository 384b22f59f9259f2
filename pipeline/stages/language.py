"""Language identification with fastText (Joulin et al. 2016, "Bag of tricks for efficient text classification").

The default model, lid.176, names 176 languages by ISO 639-1 where that has a code. Any fastText model whose labels are
languages will do (GlotLID, whose label ``__label__eng_Latn`` is the language ``eng_Latn``). A text without a visible
character is ``und`` with score 0.

By line: each line is named, too, so that documents that mix languages can be told, and what is in another language cut.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Annotated

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from pipeline.build.build import Build
from pipeline.build.canaries import Canaries, Canary, Host, Maker, Room
from pipeline.build.stage import Batch, Measured, Stage
from pipeline.store import fasttext_model, model_files, recipe_file
from pipeline.store.ledger import Rule
from pipeline.text import capitals, spans
from pipeline.text.excerpts import SMALLEST, excerpts
from pipeline.text.fasttext_prediction import predict
from pipeline.text.foreign_sentences import SENTENCES
from pipeline.text.languages import OTHERS, UNDETERMINED
from pipeline.text.lines import split

VERSION = 3
NOT_WANTED = "language.not_wanted"
DEFAULT_KEEP = {"en": 0.65}
_VISIBLE = r"[^\s\p{Z}\p{C}]"

Score = Annotated[float, Field(ge=0, le=1)]


class Lines(recipe_file.Config):
    """Lines of at least ``min_bytes`` that have a language with at least ``min_score`` count; others are left alone.

    ``keep``: lines that count and are in none of these languages are cut (not given: none is). ``min_fraction``: the
    least share of the bytes of lines that count that must be in the document's own language (null: any).
    """

    keep: Annotated[
        Annotated[list[str], Field(min_length=1)] | None,
        Field(description="languages whose lines stay, all others are cut; default: no line is cut"),
    ] = None
    min_fraction: Annotated[
        Score | None,
        Field(description="smallest share of bytes that must be in the document's own language; null: any share"),
    ] = None
    min_bytes: Annotated[int, Field(ge=1, description="bytes below which a line has no language and stays")] = 30
    min_score: Annotated[Score, Field(description="score below which a line has no language and stays")] = 0.5


class Config(recipe_file.Config):
    """``keep``: the lowest score with which a text of each language stays; ``"*"`` is for all that are not named, and
    without it they are dropped. The default is datatrove's.

    A text longer than ``max_bytes`` is judged by an excerpt of so many; null reads all of it. ``top_k`` > 1 stores that
    many languages and scores of each text in the signal ``languages``. ``lines``: name each line, too.
    """

    model: Annotated[
        str, Field(description="fastText model: lid.176, or the path of another whose labels are languages")
    ] = "lid.176"
    keep: Annotated[
        dict[str, Score],
        Field(
            min_length=1,
            description='lowest score of each language that stays, "*" for all others; default: datatrove\'s en'
            " 0.65 (CCNet: 0.5)",
        ),
    ] = DEFAULT_KEEP
    max_bytes: Annotated[
        Annotated[int, Field(ge=SMALLEST)] | None,
        Field(description="bytes of a longer text that the model reads, as an excerpt; null: all of it"),
    ] = 1000
    top_k: Annotated[
        int,
        Field(ge=1, le=10, description="languages to store for each text; above 1 they are in the signal `languages`"),
    ] = 1
    lines: Annotated[Lines | None, Field(description="identify the language of each line, too")] = None


GUESSES = pa.list_(pa.struct([("language", pa.string()), ("score", pa.float32())]))
SHARES = pa.list_(pa.struct([("language", pa.string()), ("fraction", pa.float64())]))
SIGNALS = {
    "language": pa.dictionary(pa.int32(), pa.string()),
    "language_score": pa.float32(),
    "languages": GUESSES,
    "line_languages": SHARES,
    "line_language_fraction": pa.float64(),
}


def rules(config: Config) -> list[Rule]:
    wanted = {OTHERS: math.inf, **dict.fromkeys(config.keep, 0.0)}  # no score is enough for a language not named
    limits = [
        Rule(NOT_WANTED, "language_score", minimum=wanted, by="language"),
        Rule("language.low_score", "language_score", minimum=config.keep, by="language"),
    ]
    if config.lines and config.lines.min_fraction is not None:
        limits.append(Rule("language.lines.min_fraction", "line_language_fraction", minimum=config.lines.min_fraction))
    return limits


def measure(config: Config, batch: Batch) -> Measured:
    """``language``, ``language_score`` (0 to 1) and, if asked for, ``languages`` (best first).

    By line ``line_languages``, the languages of the lines that count and their shares of these lines' bytes, and
    ``line_language_fraction``, that of the document's own; null where no line counts.
    """
    model = fasttext_model.load(batch.models["language"])
    texts = batch.texts if config.max_bytes is None else excerpts(batch.texts, config.max_bytes)
    labels, scores = predict(model, capitals.folded(texts), config.top_k)
    labels[~_visible(texts)] = -1
    scores = np.where(labels < 0, np.float32(0), np.minimum(scores, np.float32(1)))
    names = pa.array([*model.labels, UNDETERMINED], pa.string())
    best = pa.array(np.where(labels[:, 0] < 0, len(model.labels), labels[:, 0])).dictionary_encode()
    signals: dict[str, pa.Array] = {
        "language": pa.DictionaryArray.from_arrays(best.indices, names.take(best.dictionary)),
        "language_score": pa.array(scores[:, 0]),
    }
    if config.top_k > 1:
        signals["languages"] = _guesses(labels, scores, names)
    if config.lines is None:
        return Measured(signals)
    first, lines = split(batch.texts)
    codes = _name_lines(config.lines, lines, model)
    signals |= _shares(first, lines, codes, model.labels, signals["language"])
    cut = None if config.lines.keep is None else _others(config.lines.keep, first, lines, codes, model.labels)
    return Measured(signals, cut)


def _guesses(labels: np.ndarray, scores: np.ndarray, names: pa.StringArray) -> pa.ListArray:
    known = labels >= 0
    ends = np.concatenate([[0], np.cumsum(known.sum(1))]).astype(np.int32)
    columns = [names.take(pa.array(labels[known])), pa.array(scores[known])]
    each = pa.StructArray.from_arrays(columns, fields=list(GUESSES.value_type))
    return pa.ListArray.from_arrays(pa.array(ends), each, type=GUESSES)


def _name_lines(config: Lines, lines: pa.StringArray, model: fasttext_model.Model) -> np.ndarray:
    """int64 [lines]: of each line that counts the place of its language in the model's labels, else -1."""
    long = np.flatnonzero(pc.greater_equal(pc.binary_length(lines), config.min_bytes).to_numpy(zero_copy_only=False))
    codes = np.full(len(lines), -1)
    if not len(long):
        return codes
    lines = lines.take(pa.array(long))
    labels, scores = predict(model, capitals.folded(lines))
    codes[long] = np.where((scores[:, 0] >= config.min_score) & _visible(lines), labels[:, 0], -1)
    return codes


def _visible(texts: pa.StringArray) -> np.ndarray:
    return pc.match_substring_regex(texts, _VISIBLE).to_numpy(zero_copy_only=False)


def _shares(
    first: np.ndarray, lines: pa.StringArray, codes: np.ndarray, names: Sequence[str], language: pa.DictionaryArray
) -> dict[str, pa.Array]:
    texts = len(first) - 1
    sizes = pc.binary_length(lines).to_numpy(zero_copy_only=False).astype(np.int64)
    text = np.repeat(np.arange(texts), np.diff(first))
    counts = codes >= 0
    total = np.bincount(text[counts], sizes[counts], texts)
    width = max(len(names), 1)
    pairs, inverse = np.unique(text[counts] * width + codes[counts], return_inverse=True)
    size = np.bincount(inverse, sizes[counts], len(pairs))
    row, code = np.divmod(pairs, width)
    order = np.lexsort((np.array(names, object)[code] if len(code) else code, -size, row))
    row, code, fraction = row[order], code[order], (size / total[row])[order]
    named = pa.array(names, pa.string()).take(pa.array(code))
    each = pa.StructArray.from_arrays([named, pa.array(fraction)], fields=list(SHARES.value_type))
    ends = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=texts))]).astype(np.int32)
    own = pc.equal(named, language.cast(pa.string()).take(pa.array(row))).to_numpy(zero_copy_only=False)
    return {
        "line_languages": pa.ListArray.from_arrays(pa.array(ends), each, type=SHARES),
        "line_language_fraction": pa.array(np.bincount(row[own], fraction[own], texts), mask=total == 0),
    }


def _others(
    keep: list[str], first: np.ndarray, lines: pa.StringArray, codes: np.ndarray, names: Sequence[str]
) -> pa.ListArray:
    """The lines that count and are in none of the languages ``keep``, as spans of their texts."""
    unwanted = np.array([name not in keep for name in names] + [False])[codes]
    edges = np.concatenate([[0], np.cumsum(pc.binary_length(lines).to_numpy(zero_copy_only=False), dtype=np.int64)])
    text = np.repeat(np.arange(len(first) - 1), np.diff(first))
    base = edges[first[:-1]][text[unwanted]]
    offsets = np.concatenate([[0], np.cumsum(np.bincount(text[unwanted], minlength=len(first) - 1))])
    return spans.merge([spans.from_ranges(offsets, edges[:-1][unwanted] - base, edges[1:][unwanted] - base)])


def _measured(config: Config) -> list[str]:
    absent = {"languages"} if config.top_k == 1 else set()
    absent |= {"line_languages", "line_language_fraction"} if config.lines is None else set()
    return [name for name in SIGNALS if name not in absent]


def _digest(build: Build) -> str | None:
    config: Config | None = build.section("language")
    return None if config is None else model_files.digest(model_files.locate(config.model, build.root))


def _plant(build: Build, choices: Sequence[random.Random]) -> Iterator[Maker] | None:
    languages = unwanted(sorted(build.section("language").keep))
    return (partial(_sentences, rng=rng, languages=languages) for rng in choices) if languages else None


def _sentences(_host: Host, rng: random.Random, languages: Sequence[str]) -> Canary:
    """Sentences in a language that the recipe does not keep."""
    language = rng.choice(languages)
    sentences = SENTENCES[language][1]
    return Canary(" ".join(rng.sample(sentences, len(sentences))), language)


def unwanted(keep: Sequence[str]) -> list[str]:
    """The languages of which there are sentences and that ``keep`` does not name, by either of their labels."""
    if OTHERS in keep:
        return []
    return [code for code, (label, _) in SENTENCES.items() if code not in keep and label not in keep]


def _caught(room: Room, canaries: Mapping[str, Canary]) -> set[str]:
    dropped = room.ledger("language")["dropped_by"].is_valid().to_pylist()
    return {name for name, row in room.rows(list(canaries)).items() if dropped[row]}


STAGE = Stage(
    name="language",
    title="Language ID",
    about="identify languages with fastText, and drop documents in others",
    subject=True,
    config=Config,
    version=VERSION,
    signals=SIGNALS,
    rules=rules,
    measure=measure,
    models=lambda config: {"language": config.model},
    measured=_measured,
    canaries=Canaries("documents in other languages", _plant, _caught, hosted=False, inputs=_digest),
)
