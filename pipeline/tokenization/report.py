"""How well a tokenizer fits text: one row a tokenizer and domain, and one a tokenizer and language, measured
on documents it was not trained on. Published vocabularies stand beside ours.

- bytes per token: UTF-8 bytes of text over tokens; more is better for equal vocabularies
- fertility: tokens per white-space separated word (Rust 2021)
- unknown rate: share of tokens that stand for what the vocabulary cannot write
- single-character share: share of tokens of at most one character, the word mark not counted
- vocabulary used: share of entries that occur at all; ``rare_entries``: entries that occur fewer than 100 times
- premium: tokens a character, over those in the language that needs the fewest (Petrov 2023 takes parallel texts; here
  each language has its own, so small differences say little)
- Renyi efficiency at alpha 2.5 (Zouhar 2023): Renyi entropy of the tokens over the logarithm of the vocabulary size
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tokenizers import Tokenizer

from pipeline.tokenization.encoding.encode import Encoder

VERSION = 3
#: Share of unknown tokens above which a row with enough tokens is warned of.
UNKNOWN, LEAST_TOKENS = 0.005, 1000
ALL = "*"  # the row of all domains together
_ALPHA = 2.5
_RARE = 100
_BYTE = re.compile("<0x[0-9A-F]{2}>")


@dataclass(frozen=True)
class Row:
    """One tokenizer on the held-out documents of one domain or one language (``*``: of all)."""

    tokenizer: str
    domain: str
    language: str
    vocab_size: int
    reference: bool
    documents: int
    bytes: int
    characters: int
    words: int
    tokens: int
    bytes_per_token: float
    fertility: float
    unknown_rate: float
    single_character_share: float
    vocabulary_used: float
    rare_entries: int
    renyi_efficiency: float
    premium: float | None = None


@dataclass(frozen=True)
class Tally:
    """What the rows are computed from: ``entries`` int64 [vocabulary], occurrences of each."""

    documents: int
    bytes: int
    characters: int
    words: int
    entries: np.ndarray

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.documents + other.documents,
            self.bytes + other.bytes,
            self.characters + other.characters,
            self.words + other.words,
            self.entries + other.entries,
        )


def tally(texts: pa.StringArray, encoder: Encoder) -> Tally:
    entries = np.zeros(encoder.vocab_size, np.int64)
    for block in encoder.encode(texts):
        entries += np.bincount(block.tokens, minlength=len(entries))
    words = pc.sum(pc.count_substring_regex(texts, r"\S+")).as_py() or 0
    characters = pc.sum(pc.utf8_length(texts).cast(pa.int64())).as_py() or 0
    size = pc.sum(pc.binary_length(texts).cast(pa.int64())).as_py() or 0
    return Tally(len(texts), size, characters, words, entries)


def measure(tables: Iterable[pa.Table], encoder: Encoder, name: str, reference: bool = False) -> list[Row]:
    """Rows for the documents of ``tables`` (text, domain, language; null where it is not known).

    The row of all documents comes first, then those of the domains, then those of the languages if there are several.
    """
    tallies: dict[tuple[str, str], Tally] = {}
    for table in tables:
        keys = table.group_by(["domain", "language"]).aggregate([])
        for domain, language in zip(keys["domain"].to_pylist(), keys["language"].to_pylist(), strict=True):
            mine = pc.and_(pc.equal(table["domain"], domain), _equal(table["language"], language))
            texts = table.filter(mine)["text"].combine_chunks()
            key, measured = (domain, language or ""), tally(texts, encoder)
            tallies[key] = tallies[key] + measured if key in tallies else measured
    total = sum(tallies.values(), Tally(0, 0, 0, 0, np.zeros(encoder.vocab_size, np.int64)))
    groups = [((ALL, ALL), total)]
    groups += [((domain, ALL), _sum(tallies, 0, domain)) for domain in sorted({key[0] for key in tallies})]
    languages = sorted({key[1] for key in tallies} - {""})
    if len(languages) > 1:
        groups += [((ALL, language), _sum(tallies, 1, language)) for language in languages]
    about = _About(name, reference, at_most_one_character(encoder.tokenizer), unknown_id(encoder.tokenizer))
    return _with_premium([_row(about, *key, value) for key, value in groups])


def _equal(column: pa.ChunkedArray, value: str | None) -> pa.ChunkedArray:
    return pc.is_null(column) if value is None else pc.fill_null(pc.equal(column, value), False)


def _sum(tallies: Mapping[tuple[str, str], Tally], part: int, value: str) -> Tally:
    first, *rest = [tally for key, tally in tallies.items() if key[part] == value]
    return sum(rest, first)


def _with_premium(rows: list[Row]) -> list[Row]:
    rates = {row.language: row.tokens / max(row.characters, 1) for row in rows if row.language != ALL}
    least = min((rate for rate in rates.values() if rate), default=1.0)
    return [replace(row, premium=rates[row.language] / least) if row.language in rates else row for row in rows]


def warnings(rows: Sequence[Row]) -> list[str]:
    """A sentence for each of our tokenizers whose unknown share is above UNKNOWN, naming the row where it is worst."""
    worst_rows: dict[str, Row] = {}
    for row in rows:
        counts = not row.reference and (row.tokens >= LEAST_TOKENS or row.domain == row.language == ALL)
        worst = worst_rows.get(row.tokenizer)
        if counts and row.unknown_rate > (worst.unknown_rate if worst else UNKNOWN):
            worst_rows[row.tokenizer] = row
    return [
        f"tokenizer {row.tokenizer}: {row.unknown_rate:.1%} of the tokens of held-out text{_where(row)} are unknown;"
        " raise `vocab_size` or `character_coverage`, set `byte_fallback`, or use byte-level BPE"
        for row in worst_rows.values()
    ]


def _where(row: Row) -> str:
    if row.language != ALL:
        return f" in language {row.language}"
    return f" of domain {row.domain}" if row.domain != ALL else ""


def gini(values: Sequence[float]) -> float:
    """The Gini coefficient of ``values``: 0 where all are equal, near 1 where one has all."""
    inorder = np.sort(np.asarray(values, np.float64))
    count = len(inorder)
    total = count * float(inorder.sum())
    return float((2 * np.arange(1, count + 1) - count - 1) @ inorder) / total if total else 0.0


def as_rows(rows: Sequence[Row]) -> list[dict[str, Any]]:
    return [asdict(row) for row in rows]


class _About(NamedTuple):
    """A tokenizer's name, whether it is a published one, and of its entries: the short ones, and the unknown's id."""

    name: str
    reference: bool
    short: np.ndarray
    unk: int | None


def _row(about: _About, domain: str, language: str, tally: Tally) -> Row:
    tokens = int(tally.entries.sum())
    used = int((tally.entries > 0).sum())
    share = tally.entries[tally.entries > 0] / max(tokens, 1)
    entropy = np.log((share**_ALPHA).sum()) / (1 - _ALPHA) if used else 0.0
    return Row(
        tokenizer=about.name,
        domain=domain,
        language=language,
        vocab_size=len(tally.entries),
        reference=about.reference,
        documents=tally.documents,
        bytes=tally.bytes,
        characters=tally.characters,
        words=tally.words,
        tokens=tokens,
        bytes_per_token=tally.bytes / max(tokens, 1),
        fertility=tokens / max(tally.words, 1),
        unknown_rate=int(tally.entries[about.unk]) / max(tokens, 1) if about.unk is not None else 0.0,
        single_character_share=int(tally.entries[about.short].sum()) / max(tokens, 1),
        vocabulary_used=used / len(tally.entries),
        rare_entries=int((tally.entries < _RARE).sum()),
        renyi_efficiency=float(entropy / np.log(len(tally.entries))),
    )


def unknown_id(tokenizer: Tokenizer) -> int | None:
    """The id that stands for what the vocabulary cannot write; None if there is none."""
    model = json.loads(tokenizer.to_str())["model"]
    if model["type"] == "Unigram":
        return model["unk_id"]
    return None if model.get("unk_token") is None else tokenizer.token_to_id(model["unk_token"])


def at_most_one_character(tokenizer: Tokenizer) -> np.ndarray:
    """bool [vocabulary]: entries that write one character at most, apart from what marks a word's start or end."""
    content = json.loads(tokenizer.to_str())
    model = content["model"]
    marks = ("Ġ", "▁", model.get("end_of_word_suffix"), model.get("continuing_subword_prefix"))
    short = np.zeros(tokenizer.get_vocab_size(), bool)
    for piece, index in tokenizer.get_vocab().items():
        for mark in filter(None, marks):
            piece = piece.removeprefix(mark).removesuffix(mark)
        short[index] = len(piece) <= 1 or (model.get("byte_fallback", False) and _BYTE.fullmatch(piece) is not None)
    short[[token["id"] for token in content["added_tokens"]]] = False
    return short
