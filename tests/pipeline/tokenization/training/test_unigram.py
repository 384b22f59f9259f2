"""EM, Viterbi and pruning against enumeration of every segmentation, and the course's worked example."""

import math
from collections import Counter

import numpy as np
import pytest
import scipy.special
from hypothesis import given
from hypothesis import strategies as st

from pipeline.text.buffers import text_buffers
from pipeline.tokenization.config import TokenizerConfig
from pipeline.tokenization.formats import export
from pipeline.tokenization.training import train, unigram
from tests.helpers.tokenizer_oracles import HUG, table

COURSE = {
    "h": 15,
    "u": 36,
    "g": 20,
    "hu": 15,
    "ug": 20,
    "p": 17,
    "pu": 17,
    "n": 16,
    "un": 16,
    "b": 4,
    "bu": 4,
}
COURSE |= {"s": 5, "hug": 15, "gs": 5, "ugs": 5}


def lattices(words: dict[str, int], pieces: list[str]) -> unigram.Lattices:
    bounds, piece, length = [0], [], []
    for word in words:
        for start in range(len(word)):
            for end in range(start + 1, len(word) + 1):
                if word[start:end] in pieces:
                    piece.append(pieces.index(word[start:end]))
                    length.append(end - start)
            bounds.append(len(piece))
    ends = np.cumsum([len(word) for word in words])
    starts = ends - [len(word) for word in words]
    edges = (np.array(piece, np.int32), np.array(length, np.uint8))
    return unigram.Lattices(starts, ends, np.array(list(words.values())), np.array(bounds), *edges)


def segmentations(word: str, pieces: list[str]) -> list[list[str]]:
    if not word:
        return [[]]
    heads = [word[:end] for end in range(1, len(word) + 1) if word[:end] in pieces]
    return [[head, *tail] for head in heads for tail in segmentations(word[len(head) :], pieces)]


def probability_of(segmentation: list[str], probability: dict[str, float]) -> float:
    return math.prod(probability[piece] for piece in segmentation)


def likelihood_loss(words: dict[str, int], probability: dict[str, float]) -> float:
    """Minus the log likelihood of the best segmentations, by our Viterbi."""
    pieces = list(probability)
    found = lattices(words, pieces)
    logs = np.log(list(probability.values()))
    score, via = np.empty(30), np.empty(30, np.int64)
    loss = 0.0
    for word, count in zip(range(len(words)), words.values(), strict=True):
        length = found.ends[word] - found.starts[word]
        unigram._best_path(found, found.starts[word], length, logs, -1, score, via)
        loss -= count * score[length]
    return float(loss)


def test_hug_example():
    """Hugging Face course: frequencies sum to 210, the loss is 169.8, without "hug" it is 23.5 higher."""
    data, offsets = text_buffers(table(HUG)["word"].combine_chunks())
    known = np.ones(0x110000, bool)
    at, starts, ends, weights = unigram._segments(data, offsets, np.array(list(HUG.values())), known, 256)
    counted, _ = unigram._count_substrings(data, at, starts, ends, weights, 16)
    n = counted.size[0]
    names = [data[a : a + b].tobytes().decode() for a, b in zip(counted.starts[:n], counted.lengths[:n], strict=True)]
    frequency = dict(zip(names, counted.counts[:n].tolist(), strict=True))
    assert {piece: frequency[piece] for piece in COURSE} == COURSE
    assert sum(COURSE.values()) == 210
    probability = {piece: count / 210 for piece, count in COURSE.items()}
    assert likelihood_loss(HUG, probability) == pytest.approx(169.8, abs=0.01)
    assert math.exp(-likelihood_loss({"unhug": 1}, probability)) == pytest.approx(0.005442, abs=1e-6)
    without = {piece: p for piece, p in probability.items() if piece != "hug"}
    assert likelihood_loss(HUG, without) - likelihood_loss(HUG, probability) == pytest.approx(23.5, abs=0.05)


words = st.dictionaries(st.text("abc", min_size=1, max_size=7), st.integers(1, 30), min_size=1, max_size=5)
longer = st.lists(st.text("abc", min_size=2, max_size=3), max_size=6, unique=True)


@given(words, longer, st.lists(st.floats(0.01, 1), min_size=9, max_size=9))
def test_expected_counts_are_those_of_all_segmentations(found, extra, weights):
    pieces = ["a", "b", "c", *extra]
    probability = np.array(weights[: len(pieces)]) / sum(weights[: len(pieces)])
    named = dict(zip(pieces, probability.tolist(), strict=True))
    expected = Counter()
    for word, count in found.items():
        ways = segmentations(word, pieces)
        total = sum(probability_of(way, named) for way in ways)
        for way in ways:
            for piece in way:
                expected[piece] += count * probability_of(way, named) / total
    measured = unigram._expect(lattices(found, pieces), probability)
    assert measured == pytest.approx([expected[piece] for piece in pieces])


def test_long_words_take_the_same_expectation_in_logarithms():
    pieces, probability = ["a", "b", "ab", "aab"], np.array([0.4, 0.3, 0.2, 0.1])
    short = {"aabab" * 4: 3}
    counted = unigram._expect(lattices(short, pieces), probability)
    found = lattices(short, pieces)
    logs, expected = np.log(probability), np.zeros(4)
    unigram._expect_long(found, 0, logs, np.zeros(99), np.zeros(99), expected)
    assert expected == pytest.approx(counted)
    assert np.isfinite(unigram._expect(lattices({"ab" * 100: 1}, pieces), np.full(4, 1e-12))).all()


@given(words, longer, st.lists(st.floats(0.01, 1), min_size=9, max_size=9))
def test_losses_follow_the_formula_of_sentencepiece(found, extra, weights):
    """Dropping a piece: its occurrences on the best paths move to its best segmentation by other pieces."""
    pieces = ["a", "b", "c", *extra]
    probability = np.array(weights[: len(pieces)]) / sum(weights[: len(pieces)])
    named = dict(zip(pieces, probability.tolist(), strict=True))
    used, losses = unigram._losses(lattices(found, pieces), probability)
    assert used @ [len(piece) for piece in pieces] == sum(len(word) * count for word, count in found.items())
    total = used.sum()
    occurrences = dict(zip(pieces, used.tolist(), strict=True))
    for piece, n, loss in zip(pieces, used, losses, strict=True):
        if n == 0 or len(piece) == 1:
            assert loss == 0
            continue
        ways = [way for way in segmentations(piece, pieces) if way != [piece]]
        best = max(probability_of(way, named) for way in ways)
        candidates = [way for way in ways if probability_of(way, named) == pytest.approx(best)]
        values = []
        for way in candidates:
            moved = math.log(total + n * (len(way) - 1))
            values.append(n / total * (math.log(n / total) - sum(math.log(occurrences[p] + n) - moved for p in way)))
        assert any(loss == pytest.approx(value) for value in values)


def test_digamma_equals_scipys():
    x = np.array([0.001, 0.5, 1.0, 3.7, 6.99, 7.0, 100.0, 1e9])
    assert unigram._digamma(x) == pytest.approx(scipy.special.digamma(x), rel=1e-9)


@given(st.dictionaries(st.text("▁abcdé中", min_size=1, max_size=9), st.integers(1, 40), min_size=3, max_size=30))
def test_the_engine_finds_the_best_segmentation_by_our_scores(found):
    config = TokenizerConfig(name="x", algorithm="unigram", vocab_size=40, normalizer="none")
    vocabulary = train.train(table(found), config)
    assert len(vocabulary.pieces) <= 40
    scores = dict(zip(vocabulary.pieces, vocabulary.scores, strict=True))
    assert {c for word in found for c in word} <= set(vocabulary.pieces)
    assert list(scores.values())[3:] == sorted(list(scores.values())[3:], reverse=True)
    model = export.to_tokenizer(vocabulary, config).model
    for word in found:
        tokens = [token.value for token in model.tokenize(word)]
        best = max(sum(scores[p] for p in way) for way in segmentations(word, vocabulary.pieces[3:]))
        assert sum(scores[token] for token in tokens) == pytest.approx(best)


def test_frequent_words_become_pieces():
    found = {"▁" + word: count for word, count in {"house": 900, "mouse": 700, "xyzzy": 2, "horse": 5}.items()}
    vocabulary = train.train(table(found), TokenizerConfig(name="x", algorithm="unigram", vocab_size=24))
    assert {"▁house", "▁mouse"} <= set(vocabulary.pieces)
    assert "▁xyzzy" not in vocabulary.pieces


def test_the_order_of_the_counts_changes_nothing():
    config = TokenizerConfig(name="x", algorithm="unigram", vocab_size=30)
    found = {f"▁{a}{b}{a}": i + 1 for i, (a, b) in enumerate((a, b) for a in "abcde" for b in "fghij")}
    backwards = dict(reversed(found.items()))
    assert train.train(table(found), config) == train.train(table(backwards), config)
