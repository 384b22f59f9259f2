from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.batches import cooccurrences


def brute_force(documents: list[list[int]], window: int) -> dict[tuple[int, int], float]:
    found: dict[tuple[int, int], float] = defaultdict(float)
    for words in documents:
        for at, word in enumerate(words):
            for other in range(max(0, at - window), min(len(words), at + window + 1)):
                if other != at and word >= 0 and words[other] >= 0:
                    found[word, words[other]] += 1 / abs(at - other)
    return found


def flat(documents: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    bounds = np.cumsum([0, *(len(words) for words in documents)])
    return np.array([word for words in documents for word in words], np.int32), bounds


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(-1, 6), max_size=12), min_size=1, max_size=6), st.integers(1, 5), st.booleans())
def test_cooccurrences_are_those_of_brute_force(documents: list[list[int]], window: int, in_two: bool) -> None:
    half = len(documents) // 2 if in_two else 0
    blocks = [flat(part) for part in (documents[:half], documents[half:]) if part]
    i, j, x = cooccurrences.count(blocks, 7, window)
    found = dict(zip(zip(i.tolist(), j.tolist(), strict=True), x.tolist(), strict=True))
    wanted = brute_force(documents, window)
    assert found.keys() == wanted.keys()
    for pair, value in wanted.items():
        assert found[pair] == pytest.approx(value)


def test_blocks_of_documents_do_not_change_the_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(0)
    documents = [draw.integers(0, 7, draw.integers(0, 40)).tolist() for _ in range(200)]
    whole = cooccurrences.count([flat(documents)], 7, 3)
    monkeypatch.setattr(cooccurrences, "_PENDING", 500)
    for one, two in zip(whole, cooccurrences.count([flat(documents)], 7, 3), strict=True):
        np.testing.assert_allclose(one, two)
