import math
from collections import Counter, defaultdict
from itertools import pairwise

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.stages.perplexity.kneser_ney import FALLBACK, Model, NoDiscounts, estimate

corpora = st.lists(st.lists(st.sampled_from("abcde"), min_size=1, max_size=7).map(" ".join), min_size=1, max_size=25)
orders = st.integers(2, 5)
prunings = st.sampled_from([(), (0, 1), (0, 0, 1), (0, 0, 1, 2), (0, 1, 1, 1)])
Table = dict[tuple[str, ...], tuple[float, float]]


def table(model: Model) -> Table:
    """(probability, backoff) by n-gram."""
    words = model.vocabulary.to_pylist()
    return {
        tuple(words[i] for i in gram): (float(p), float(b))
        for grams in model.grams
        for gram, p, b in zip(grams.words, grams.probability, grams.backoff, strict=True)
    }


def by_definition(corpus: list[str], order: int, prune: tuple[int, ...]) -> Table:
    """Modified Kneser-Ney as the papers state it, with dictionaries and no regard to speed."""
    limits = [*prune, *[prune[-1] if prune else 0] * order][:order]
    count: Counter[tuple[str, ...]] = Counter()
    for line in corpus:
        words = ["<s>", *line.split(), "</s>"]
        count.update(tuple(words[i : i + n]) for n in range(1, order + 1) for i in range(len(words) - n + 1))
    vocabulary = {gram[0] for gram in count if len(gram) == 1} | {"<unk>"}
    left: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for gram in count:
        left[gram[1:]].add(gram[0])
    adjusted = {
        gram: count[gram] if len(gram) == order or (gram[0] == "<s>" and len(gram) > 1) else len(left[gram])
        for gram in count
    }
    discount = {}
    for n in range(1, order + 1):
        t = Counter(a for gram, a in adjusted.items() if len(gram) == n)
        discount[n] = {1: FALLBACK[0], 2: FALLBACK[1], 3: FALLBACK[2]}
        if t[1] and t[2] and t[3]:
            y = t[1] / (t[1] + 2 * t[2])
            found = {j: j - (j + 1) * y * t[j + 1] / t[j] for j in (1, 2, 3)}
            if all(0 <= found[j] <= j for j in found):
                discount[n] = found

    def stays(gram: tuple[str, ...]) -> bool:
        return len(gram) == 1 or count[gram] > limits[len(gram) - 1]

    def taken(gram: tuple[str, ...]) -> float:
        a = adjusted[gram]
        return (discount[len(gram)][min(a, 3)] if a else 0) if stays(gram) else a

    followers = defaultdict(list)
    for gram in adjusted:
        followers[gram[:-1]].append(gram)

    def backoff(context: tuple[str, ...]) -> float:
        total = sum(adjusted[gram] for gram in followers[context])
        return sum(taken(gram) for gram in followers[context]) / total if total else 1.0

    def probability(gram: tuple[str, ...]) -> float:
        if gram == ("<s>",):
            return 1.0
        lower = probability(gram[1:]) if len(gram) > 1 else 1 / (len(vocabulary) - 1)
        context = followers[gram[:-1]]
        kept = (adjusted[gram] - taken(gram)) / sum(adjusted[g] for g in context) if gram in adjusted else 0
        return kept + backoff(gram[:-1]) * lower

    grams = [gram for gram in count if stays(gram)] + [("<unk>",)]
    return {gram: (probability(gram), backoff(gram) if len(gram) < order else 1.0) for gram in grams}


def test_values_computed_by_hand():
    """The sentences "a b" and "a a", order 2; too few for other discounts than 1/2, 1, 3/2.

    Unigrams: a follows <s> and a, b follows a, </s> follows a and b: adjusted counts 2, 1, 2, together 5. Taken away
    are 1 + 1/2 + 1 = 5/2, so that a, b, </s>, <unk> get 1/2 / 4 = 1/8 each: p(a) = p(</s>) = (2-1)/5 + 1/8, p(b) =
    (1-1/2)/5 + 1/8, p(<unk>) = 1/8. Bigrams: after <s> twice a: backoff 1/2, p(a|<s>) = (2-1)/2 + 1/2 p(a). After a
    once each a, b, </s>: backoff (3/2)/3, p(b|a) = (1-1/2)/3 + 1/2 p(b). After b once </s>: (1-1/2)/1 + 1/2 p(</s>).
    """
    hand = {
        ("<unk>",): (0.125, 1),
        ("<s>",): (1, 0.5),
        ("</s>",): (0.325, 1),
        ("a",): (0.325, 0.5),
        ("b",): (0.225, 0.5),
        ("<s>", "a"): (0.6625, 1),
        ("a", "a"): (1 / 6 + 0.1625, 1),
        ("a", "b"): (1 / 6 + 0.1125, 1),
        ("a", "</s>"): (1 / 6 + 0.1625, 1),
        ("b", "</s>"): (0.6625, 1),
    }
    assert table(estimate(pa.array(["a b", "a a"]), 2, (), FALLBACK)) == {
        gram: pytest.approx(value) for gram, value in hand.items()
    }


def test_discounts_computed_by_hand():
    """10, 5, 3, 2 words stand alone in 1, 2, 3, 4 sentences, each of which gives two bigrams of that count: t = 20, 10,
    6, 4, y = 20 / (20 + 2 * 10) = 1/2, D = 1 - 2 y 10/20, 2 - 3 y 6/10, 3 - 4 y 4/6. No unigram follows two words."""
    lines = [
        f"w{size}x{i}" for size, many in ((1, 10), (2, 5), (3, 3), (4, 2)) for i in range(many) for _ in range(size)
    ]
    grams = estimate(pa.array(lines), 2, (), FALLBACK).grams
    assert grams[1].discounts == pytest.approx((0.5, 1.1, 5 / 3))
    assert grams[0].discounts == FALLBACK


@given(corpora, orders, prunings)
def test_equals_the_definition(corpus: list[str], order: int, prune: tuple[int, ...]):
    prune = prune[:order]
    found = table(estimate(pa.array(corpus), order, prune, FALLBACK))
    wanted = by_definition(corpus, order, prune)
    assert found.keys() == wanted.keys()
    for gram, values in wanted.items():
        assert found[gram] == pytest.approx(values, abs=1e-12), gram


@given(corpora, orders, prunings)
def test_after_any_history_the_probabilities_sum_to_one(corpus: list[str], order: int, prune: tuple[int, ...]):
    grams = table(estimate(pa.array(corpus), order, prune[:order], FALLBACK))
    words = [gram[0] for gram in grams if len(gram) == 1 and gram != ("<s>",)]

    def probability(history: tuple[str, ...], word: str) -> float:
        if (*history, word) in grams:
            return grams[*history, word][0]
        return grams.get(history, (0.0, 1.0))[1] * probability(history[1:], word)

    histories = {gram[:-1] for gram in grams} | {("a", "b", "c", "a")[: order - 1], ("e",)}
    for history in histories:
        assert math.fsum(probability(history, word) for word in words) == pytest.approx(1, abs=1e-9), history


@given(corpora, orders, st.randoms())
def test_the_order_of_the_sentences_does_not_matter(corpus: list[str], order: int, random):
    one = estimate(pa.array(corpus), order, (), FALLBACK)
    other = estimate(pa.array(random.sample(corpus, len(corpus))), order, (), FALLBACK)
    assert one.vocabulary == other.vocabulary
    for mine, theirs in zip(one.grams, other.grams, strict=True):
        assert all(a.tobytes() == b.tobytes() for a, b in zip(mine[:3], theirs[:3], strict=True))


@given(corpora, st.sampled_from([(0, 0, 1), (0, 0, 2)]))
def test_pruning_leaves_out_exactly_what_was_seen_too_rarely(corpus: list[str], prune: tuple[int, ...]):
    seen: Counter[tuple[str, ...]] = Counter()
    for line in corpus:
        words = ["<s>", *line.split(), "</s>"]
        seen.update(zip(words, words[1:], words[2:], strict=False))
    kept = {gram for gram in table(estimate(pa.array(corpus), 3, prune, FALLBACK)) if len(gram) == 3}
    assert kept == {gram for gram, count in seen.items() if count > prune[-1]}


def test_words_are_numbered_by_their_bytes():
    vocabulary = estimate(pa.array(["é z Z", "漢 😀 a"]), 2, (), FALLBACK).vocabulary.to_pylist()
    assert vocabulary == ["<unk>", "<s>", "</s>", *sorted(["é", "z", "Z", "漢", "😀", "a"], key=str.encode)]
    assert all(a.encode() < b.encode() for a, b in pairwise(vocabulary[3:]))


def test_text_without_discounts_is_refused_unless_there_is_a_fallback():
    with pytest.raises(NoDiscounts, match="1-grams"):
        estimate(pa.array(["a b", "a b"]), 2)


@pytest.mark.parametrize(
    ("lines", "order", "prune", "says"),
    [
        ([], 2, (), "sentence"),
        (["a"], 1, (), "order 1"),
        (["a"], 2, (1,), r"prune \[1\]"),
        (["a"], 3, (0, 2, 1), r"prune \[0, 2, 1\]"),
        (["a"], 2, (0, 1, 1), r"prune \[0, 1, 1\]"),
        (["a <s> b"], 2, (), "<s>"),
        (["a <unk>"], 2, (), "<unk>"),
    ],
)
def test_wrong_arguments_are_refused(lines: list[str], order: int, prune: tuple[int, ...], says: str):
    with pytest.raises(ValueError, match=says):
        estimate(pa.array(lines, pa.string()), order, prune, FALLBACK)
