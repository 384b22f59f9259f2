"""How well a tokenizer fits text: one row a tokenizer and domain, measured on documents it was not trained on.

- bytes per token: UTF-8 bytes of text over tokens; more is better for equal vocabularies
- fertility: tokens per white-space separated word (Rust 2021)
- unknown rate: share of tokens that stand for what the vocabulary cannot write
- single-character share: share of tokens of at most one character, the word mark not counted
- vocabulary used: share of entries that occur at all; ``rare_entries``: entries that occur fewer than 100 times
- Renyi efficiency at alpha 2.5 (Zouhar 2023): Renyi entropy of the tokens over the logarithm of the vocabulary size
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tokenizers import Tokenizer

from pipeline.tokenization.config import TokenizerConfig
from pipeline.tokenization.encode import Encoder

VERSION = 1
ALL = "*"  # the row of all domains together
_ALPHA = 2.5
_RARE = 100


@dataclass(frozen=True)
class Row:
    """One tokenizer on the held-out documents of one domain (``*``: of all)."""

    tokenizer: str
    domain: str
    documents: int
    bytes: int
    words: int
    tokens: int
    bytes_per_token: float
    fertility: float
    unknown_rate: float
    single_character_share: float
    vocabulary_used: float
    rare_entries: int
    renyi_efficiency: float


@dataclass(frozen=True)
class Tally:
    """What the rows are computed from: ``entries`` int64 [vocabulary], occurrences of each."""

    documents: int
    bytes: int
    words: int
    entries: np.ndarray

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.documents + other.documents,
            self.bytes + other.bytes,
            self.words + other.words,
            self.entries + other.entries,
        )


def tally(texts: pa.StringArray, encoder: Encoder) -> Tally:
    entries = np.zeros(encoder.vocab_size, np.int64)
    for block in encoder.encode(texts):
        entries += np.bincount(block.tokens, minlength=len(entries))
    words = pc.sum(pc.count_substring_regex(texts, r"\S+")).as_py() or 0
    size = pc.sum(pc.binary_length(texts).cast(pa.int64())).as_py() or 0
    return Tally(len(texts), size, words, entries)


def measure(tables: Iterable[pa.Table], encoder: Encoder, config: TokenizerConfig) -> list[Row]:
    """Rows for the documents of ``tables`` (text, domain), the one of all domains first, then by domain."""
    found: dict[str, Tally] = {}
    for table in tables:
        for domain in pc.unique(table["domain"]).to_pylist():
            texts = table.filter(pc.equal(table["domain"], domain))["text"].combine_chunks()
            measured = tally(texts, encoder)
            found[domain] = found[domain] + measured if domain in found else measured
    tokenizer = encoder.tokenizer
    short = _at_most_one_character(tokenizer, config)
    unk = tokenizer.token_to_id(config.special["unk"]) if "unk" in config.special else None
    total = sum(found.values(), Tally(0, 0, 0, np.zeros(tokenizer.get_vocab_size(), np.int64)))
    return [_row(config.name, domain, value, short, unk) for domain, value in [(ALL, total), *sorted(found.items())]]


def as_rows(rows: Sequence[Row]) -> list[dict[str, Any]]:
    return [asdict(row) for row in rows]


def _row(name: str, domain: str, tally: Tally, short: np.ndarray, unk: int | None) -> Row:
    tokens = int(tally.entries.sum())
    used = int((tally.entries > 0).sum())
    share = tally.entries[tally.entries > 0] / max(tokens, 1)
    entropy = np.log((share**_ALPHA).sum()) / (1 - _ALPHA) if used else 0.0
    return Row(
        tokenizer=name,
        domain=domain,
        documents=tally.documents,
        bytes=tally.bytes,
        words=tally.words,
        tokens=tokens,
        bytes_per_token=tally.bytes / max(tokens, 1),
        fertility=tokens / max(tally.words, 1),
        unknown_rate=int(tally.entries[unk]) / max(tokens, 1) if unk is not None else 0.0,
        single_character_share=int(tally.entries[short].sum()) / max(tokens, 1),
        vocabulary_used=used / len(tally.entries),
        rare_entries=int((tally.entries < _RARE).sum()),
        renyi_efficiency=float(entropy / np.log(len(tally.entries))),
    )


def _at_most_one_character(tokenizer: Tokenizer, config: TokenizerConfig) -> np.ndarray:
    """bool [vocabulary]: entries that write one character at most, apart from what marks a word's start or end."""
    marks = (
        "Ġ",
        "▁",
        config.word_suffix,
        config.continuing_subword_prefix if config.algorithm == "wordpiece" else "",
    )
    short = np.zeros(tokenizer.get_vocab_size(), bool)
    for piece, index in tokenizer.get_vocab().items():
        for mark in filter(None, marks):
            piece = piece.removeprefix(mark).removesuffix(mark)
        short[index] = len(piece) <= 1 or (config.byte_fallback and piece.startswith("<0x") and len(piece) == 6)
    short[: len(config.reserved)] = False
    return short
