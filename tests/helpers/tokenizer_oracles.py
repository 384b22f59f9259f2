"""Trainers written for reading, not for speed: every pair is counted again before every merge."""

from __future__ import annotations

import itertools
from collections import Counter
from fractions import Fraction

import pyarrow as pa

HUG = {"hug": 10, "pug": 5, "pun": 12, "bun": 4, "hugs": 5}
SENNRICH = {"low": 5, "lower": 2, "newest": 6, "widest": 3}


def table(words: dict[str, int]) -> pa.Table:
    """Counts of words as the trainers take them."""
    return pa.table(
        {
            "word": pa.array(list(words), pa.large_string()),
            "count": pa.array(list(words.values()), pa.int64()),
        }
    )


def merge_all(words: dict[tuple[str, ...], int], vocabulary: list[str], size: int, likelihood: bool, prefix: str = ""):
    """``(merges, vocabulary, words)``: the best pair of each step by count or likelihood; ties by vocabulary order."""
    vocabulary, merges = list(vocabulary), []
    while len(vocabulary) < size:
        pairs: Counter = Counter()
        symbols: Counter = Counter()
        for word, count in words.items():
            for symbol in word:
                symbols[symbol] += count
            for pair in itertools.pairwise(word):
                pairs[pair] += count
        if not pairs:
            break
        rank = {piece: index for index, piece in enumerate(vocabulary)}

        def order(pair: tuple[str, str], pairs=pairs, symbols=symbols, rank=rank):
            count = pairs[pair]
            score = Fraction(count, symbols[pair[0]] * symbols[pair[1]]) if likelihood else count
            return -score, rank[pair[0]], rank[pair[1]]

        best = min(pairs, key=order)
        joined = best[0] + best[1].removeprefix(prefix)
        merges.append(best)
        if joined not in rank:
            vocabulary.append(joined)
        merged: dict[tuple[str, ...], int] = {}
        for word, count in words.items():
            merged[apply(word, best, joined)] = count
        words = merged
    return merges, vocabulary, words


def apply(word: tuple[str, ...], pair: tuple[str, str], joined: str) -> tuple[str, ...]:
    out: list[str] = []
    i = 0
    while i < len(word):
        if word[i : i + 2] == pair:
            out.append(joined)
            i += 2
        else:
            out.append(word[i])
            i += 1
    return tuple(out)
