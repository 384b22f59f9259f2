"""Bad words: documents that hold words of a list, such as C4 left out (Raffel et al. 2020, with the LDNOOBW lists).

A list is a file with a word or phrase on each line (``#`` begins a comment line). ``pipeline.text.phrases`` says what
is found: whole words in any case; in scripts without spaces phrases anywhere.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from pipeline import MillError
from pipeline.build.stage import Batch, Measured, Recipe, Stage
from pipeline.store import model_files, recipe_file
from pipeline.store.ledger import Rule
from pipeline.text import phrases
from pipeline.text.phrases import Phrases

VERSION = 2
ALL = "*"

FOUND = pa.list_(pa.struct([("word", pa.string()), ("count", pa.int32())]))
SIGNALS = {"bad_word_count": pa.int32(), "bad_word_fraction": pa.float64(), "bad_words": FOUND}


class Config(recipe_file.Config):
    """``lists``: for each language the file with its words, ``"*"`` for a list that holds in every language.

    A document is searched for the list of its language and that of ``"*"``; what no list is for has no such signals,
    and stays. Without a ``language`` section give one list, ``"*"``. ``max_count`` is how often they may occur,
    ``max_fraction`` which share of the document's words they may be (null: any).
    """

    lists: Annotated[
        dict[str, str],
        Field(min_length=1, description='file of words for each language, one per line; "*" is for all languages'),
    ]
    max_count: Annotated[
        Annotated[int, Field(ge=0)] | None,
        Field(description="occurrences above which a document is dropped; null: any number"),
    ] = 0
    max_fraction: Annotated[
        Annotated[float, Field(ge=0, le=1)] | None,
        Field(description="share of the document's words above which it is dropped; null: any share"),
    ] = None


def rules(config: Config) -> list[Rule]:
    limits = []
    if config.max_count is not None:
        limits.append(Rule("bad_words.max_count", "bad_word_count", maximum=config.max_count))
    if config.max_fraction is not None:
        limits.append(Rule("bad_words.max_fraction", "bad_word_fraction", maximum=config.max_fraction))
    return limits


def measure(config: Config, batch: Batch) -> Measured:
    """``bad_word_count``; ``bad_word_fraction``, the share of the words that are part of one (null without a word);
    ``bad_words``, which ones and how often, the most frequent first.
    """
    languages = batch.signals["language"].cast(pa.string()) if "language" in batch.signals else None
    rows, parts = [], []
    for names, chosen in _groups(config, languages, len(batch.texts)):
        paths = [batch.models[name] for name in names]
        known = _list(tuple(paths), tuple(map(model_files.digest, paths)))
        rows.append(chosen)
        parts.append(_measured(phrases.count(batch.texts.take(pa.array(chosen)), known), known))
    return Measured(_in_order(rows, parts, len(batch.texts)))


def _groups(config: Config, languages: pa.StringArray | None, count: int) -> list[tuple[list[str], np.ndarray]]:
    """The lists to search for and the rows to search in; rows that no list is for are left out."""
    always = [ALL] if ALL in config.lists else []
    if languages is None:
        return [(always, np.arange(count))] if always else []
    own = [name for name in config.lists if name != ALL]
    code = pc.fill_null(pc.index_in(languages, pa.array(own, pa.string())), -1).to_numpy(zero_copy_only=False)
    groups = [([name, *always], np.flatnonzero(code == number)) for number, name in enumerate(own)]
    return groups + ([(always, np.flatnonzero(code < 0))] if always else [])


@lru_cache(maxsize=256)
def _list(paths: tuple[str, ...], _digests: tuple[str, ...]) -> Phrases:
    lines = [line.strip() for path in paths for line in Path(path).read_text("utf-8-sig").split("\n")]
    return phrases.prepare([line for line in lines if not line.startswith("#")])


def _measured(counts: phrases.Counts, known: Phrases) -> pa.Table:
    number = np.diff(counts.offsets)
    text = np.repeat(np.arange(len(number)), number)
    pairs, times = np.unique(text * max(len(known.phrases), 1) + counts.matches, return_counts=True)
    text, phrase = np.divmod(pairs, max(len(known.phrases), 1))
    order = np.lexsort((phrase, -times, text))
    words = pa.array(known.phrases, pa.string()).take(pa.array(phrase[order]))
    each = pa.StructArray.from_arrays([words, pa.array(times[order].astype(np.int32))], fields=list(FOUND.value_type))
    ends = np.concatenate([[0], np.cumsum(np.bincount(text, minlength=len(number)))]).astype(np.int32)
    return pa.table(
        {
            "bad_word_count": pa.array(number.astype(np.int32)),
            "bad_word_fraction": pa.array(counts.covered / np.maximum(counts.words, 1), mask=counts.words == 0),
            "bad_words": pa.ListArray.from_arrays(pa.array(ends), each, type=FOUND),
        }
    )


def _in_order(rows: list[np.ndarray], parts: list[pa.Table], count: int) -> dict[str, pa.Array]:
    place = np.full(count, -1)
    if rows:
        place[np.concatenate(rows)] = np.arange(sum(map(len, rows)))
    table = pa.concat_tables(parts) if parts else pa.table({name: pa.array([], kind) for name, kind in SIGNALS.items()})
    table = table.combine_chunks().take(pa.array(place, mask=place < 0))
    return {name: table[name].combine_chunks() for name in SIGNALS}


def _models(config: Config) -> dict[str, str]:
    return config.lists


def _check(config: Config, recipe: Recipe) -> None:
    if recipe.section("language") is None and set(config.lists) != {ALL}:
        raise MillError("`bad_words` has lists by language: add a `language` section, or give one list, for '*'")


STAGE = Stage(
    name="bad_words",
    title="Bad words",
    about="drop documents with words of a list (C4)",
    subject=True,
    config=Config,
    check=_check,
    version=VERSION,
    signals=SIGNALS,
    rules=rules,
    measure=measure,
    models=_models,
)
