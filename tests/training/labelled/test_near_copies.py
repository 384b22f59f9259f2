from __future__ import annotations

from functools import cache

import numpy as np

from pipeline.text.shingles import shingles
from training.labelled.near_copies import CONFIG, find


@cache
def shingle_set(text: str) -> frozenset[tuple[str, ...]]:
    return frozenset(shingles(text, 5))


def jaccard(one: str, other: str) -> float:
    """By the definition: shared 5-grams of words by all of them."""
    left, right = shingle_set(one), shingle_set(other)
    return len(left & right) / len(left | right) if left | right else float(one == other)


def changed(words: list[str], times: int, draw: np.random.Generator) -> str:
    made = list(words)
    for _ in range(times):
        made[draw.integers(len(made))] = f"w{draw.integers(10**6)}"
    return " ".join(made)


def test_what_is_found_is_what_comparing_all_pairs_finds() -> None:
    draw = np.random.default_rng(0)
    sources = [[f"w{draw.integers(300)}" for _ in range(draw.integers(5, 120))] for _ in range(120)]
    train = [" ".join(words) for words in sources] + ["short one", "", "!!!", "🙂"]
    test = [changed(words, int(draw.integers(0, 4)), draw) for words in sources] + ["Short one!", "!!!", "🙂 🙂", "new"]
    found = {copy.test: copy for copy in find(train, test)}
    for row, text in enumerate(test):
        close = [other for other, source in enumerate(train) if jaccard(text, source) >= CONFIG.threshold]
        assert (row in found) == bool(close), text
        if close:
            assert found[row].train in close
            assert found[row].similarity == jaccard(text, train[found[row].train])
    assert 30 < len(found) < 120  # there are some of both


def test_a_copy_is_found_wherever_it_stands() -> None:
    draw = np.random.default_rng(1)
    train = [" ".join(f"w{n}" for n in draw.integers(0, 10**6, 12)) for _ in range(20_000)]
    assert [(copy.test, copy.train) for copy in find(train, [train[7], "x y", train[9000].upper(), train[19_999]])] == [
        *((0, 7), (2, 9000), (3, 19_999))
    ]
