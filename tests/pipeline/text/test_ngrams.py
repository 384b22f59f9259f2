"""Repeated n-grams against counting them one by one."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.text import ngrams

WORDS = st.lists(st.sampled_from(["a", "bb", "ccc", "d"]), max_size=60)


def oracle(words: list[str], units: float = 1) -> list[tuple[int, int, int, int]]:
    rows = []
    for n in (round(k * units) for k in range(ngrams.SHORTEST, ngrams.LONGEST + 1)):
        grams = [tuple(words[k : k + n]) for k in range(len(words) - n + 1)]
        if not grams:
            rows.append((0, 0, 0, 0))
            continue
        times = Counter(grams)
        top, count = times.most_common(1)[0]  # of equally frequent ones the first
        met, seen, at = 0, set(), 0
        while at < len(grams):
            if grams[at] in seen:
                met += len("".join(grams[at]))
                at += n
            else:
                seen.add(grams[at])
                at += 1
        every = sum(len("".join(gram)) for gram in grams if times[gram] > 1)
        rows.append((count, len("".join(top)), met, every))
    return rows


def measured(words: list[str], space: ngrams.Workspace, units: float = 1) -> list[tuple[int, ...]]:
    names = {word: k for k, word in enumerate(dict.fromkeys(words), 1)}
    space.keys[: len(words)] = [names[word] for word in words]
    space.ahead[: len(words) + 1] = np.cumsum([0, *map(len, words)])
    top, twice = np.empty((9, 2), np.int64), np.empty((9, 2), np.int64)
    ngrams.repeats(space, len(words), ngrams.SHORTEST, ngrams.lengths(units), top, twice)
    return [tuple(row) for row in np.concatenate([top, twice], axis=1).tolist()]


@given(st.lists(WORDS, min_size=1, max_size=3), st.sampled_from([1, 1.4, 2.14, 3]))
def test_repeats_are_those_found_one_by_one_whatever_was_measured_before(
    documents: list[list[str]], units: float
) -> None:
    space = ngrams.workspace(60)
    for words in documents:
        assert measured(words, space, units) == oracle(words, units)


def test_a_text_of_one_word_is_measured_in_linear_time() -> None:
    words = ["word"] * 100_000
    rows = measured(words, ngrams.workspace(len(words)))
    for n, (count, size, met, every) in enumerate(rows, 2):
        assert (count, size, every) == (len(words) - n + 1, 4 * n, (len(words) - n + 1) * 4 * n)
        assert met == 4 * n * ((len(words) - 1) // n)  # the first, then every n-th after one step
