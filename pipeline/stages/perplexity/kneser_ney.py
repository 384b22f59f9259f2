"""Interpolated modified Kneser-Ney estimation of n-gram models.

Chen and Goodman, "An empirical study of smoothing techniques for language modeling" (TR-10-98, 1998), in the form of
Heafield et al., "Scalable modified Kneser-Ney language model estimation" (ACL 2013), whose program ``lmplz`` this
agrees with:

- The adjusted count a of an n-gram is its count if it is of the highest order or starts a sentence, else the number of
  different words seen before it.
- Discounts of each order, from t_j, the number of its n-grams with a = j: D_j = j - (j + 1) t_1 / (t_1 + 2 t_2) *
  t_(j+1) / t_j for j = 1, 2, 3; D_3 holds for all greater a too, D_0 is 0.
- p(w | h) = (a(hw) - D(a(hw))) / sum_x a(hx) + b(h) p(w | h'), where h' is h without its first word, and the backoff
  weight is b(h) = sum_x D(a(hx)) / sum_x a(hx). Unigrams are interpolated with the uniform distribution over the
  vocabulary, <unk> and </s>; that is all that <unk> gets.
- Pruning leaves out n-grams by their count in the text; what they had goes to b(h).

An n-gram of order k is known by two numbers, those of its first and of its last k - 1 words, so counting is sorting
64-bit integers, contexts lie side by side, and lower orders are found by indexing. Words are numbered in the order of
their bytes: the result does not depend on the order of the sentences.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import MillError

UNK, BOS, EOS = 0, 1, 2
SPECIAL = ["<unk>", "<s>", "</s>"]

Discounts = tuple[float, float, float]
#: D_1, D_2 and D_3 where counts of counts give none; the values of ``lmplz --discount_fallback``.
FALLBACK: Discounts = (0.5, 1.0, 1.5)


class NoDiscounts(MillError):
    """Too little or too regular text: its counts of counts give no discounts."""


class Grams(NamedTuple):
    """The n-grams of one order.

    ``words`` int32 [n, order]; ``probability`` and ``backoff`` float64 [n], not logarithms. The backoff of what is the
    context of nothing is 1, and so by convention is the probability of <s>.
    """

    words: np.ndarray
    probability: np.ndarray
    backoff: np.ndarray
    discounts: Discounts


class Model(NamedTuple):
    """``vocabulary`` holds the words by number, ``grams[k - 1]`` the n-grams of order k."""

    vocabulary: pa.StringArray
    grams: list[Grams]


class _Counts(NamedTuple):
    """The n-grams of one order, sorted by (context, suffix): the numbers that their first and their last words have in
    the order below (int32 [n]), and how often each was seen (int64 [n])."""

    context: np.ndarray
    suffix: np.ndarray
    count: np.ndarray


def estimate(
    sentences: pa.StringArray, order: int, prune: Sequence[int] = (), fallback: Discounts | None = None
) -> Model:
    """The model of ``order`` (at least 2) of sentences whose words are parted by single spaces.

    n-grams of order k seen at most ``prune[k - 1]`` times are left out; the last entry holds for higher orders too,
    the first is 0, none is smaller than the one before. Raises NoDiscounts unless there are ``fallback`` discounts, and
    ValueError for wrong arguments, no sentence, or a text that holds <unk>, <s> or </s> as a word.

    For order 5 a million tokens (4.5 MB of English) take about 1.5 s and 170 MB.
    """
    limits = [*prune, *[prune[-1] if prune else 0] * (order - len(prune))]
    if order < 2 or len(limits) != order or limits[0] != 0 or limits != sorted(limits):
        raise MillError(
            f"order {order}, prune {list(prune)}: need order >= 2 and up to that many counts, rising from 0"
        )
    if not len(sentences):
        raise MillError("a language model needs at least one sentence")
    tokens, depth, vocabulary = _number_words(sentences)
    levels = _count(tokens, depth, len(vocabulary), order)

    words = np.arange(len(vocabulary), dtype=np.int32)[:, None]
    lower = np.full(len(vocabulary), 1 / (len(vocabulary) - 1))  # uniform over all but <s>
    kept = stays = np.ones(len(vocabulary), bool)
    grams: list[Grams] = []
    following: _Counts | None = next(levels)
    for k in range(1, order + 1):
        assert following is not None
        (context, suffix, count), following = following, next(levels, None)
        if k > 1:
            words = np.hstack([words[context], words[suffix, -1:]])
            stays = count > limits[k - 1]
        adjusted = count
        if following is not None:
            adjusted = np.bincount(following.suffix, minlength=len(count))
            if k > 1:
                adjusted = np.where(words[:, 0] == BOS, count, adjusted)
        discounts = _discounts(adjusted, k, fallback)
        taken = np.where(stays, np.array([0.0, *discounts])[np.minimum(adjusted, 3)], adjusted)
        total = np.bincount(context, adjusted)
        backoff = np.bincount(context, taken) / np.maximum(total, 1)
        probability = (adjusted - taken) / np.maximum(total, 1)[context] + backoff[context] * lower[suffix]
        if k == 1:
            probability[BOS] = 1
        else:
            weights = np.ones(len(kept))
            weights[: len(total)][total > 0] = backoff[total > 0]
            grams[-1] = grams[-1]._replace(backoff=weights[kept])
        grams.append(Grams(words[stays], probability[stays], np.ones(np.count_nonzero(stays)), discounts))
        lower, kept = probability, stays
    return Model(vocabulary, grams)


def _number_words(sentences: pa.StringArray) -> tuple[np.ndarray, np.ndarray, pa.StringArray]:
    """``(tokens, depth, vocabulary)``: the sentences as numbers of words, <s> before and </s> after each, one after
    another; how many tokens of its sentence stand before each; and the words by number. Both arrays are int32."""
    lists = pc.split_pattern(sentences, " ")
    encoded = lists.flatten().dictionary_encode()
    words = encoded.dictionary
    order = pc.sort_indices(words)
    if pc.any(pc.is_in(words, pa.array(SPECIAL))).as_py():
        raise MillError(f"a word of the text is one of {', '.join(SPECIAL)}; take them out first")
    rank = np.empty(len(words), np.int32)
    rank[order.to_numpy()] = np.arange(len(SPECIAL), len(SPECIAL) + len(words))
    sizes = lists.value_lengths().to_numpy() + 2
    ends = np.cumsum(sizes)
    starts = ends - sizes
    tokens = np.full(ends[-1], -1, np.int32)
    tokens[starts], tokens[ends - 1] = BOS, EOS
    tokens[tokens < 0] = rank[encoded.indices.to_numpy()]
    vocabulary = pa.concat_arrays([pa.array(SPECIAL), words.take(order)])
    return tokens, (np.arange(len(tokens)) - np.repeat(starts, sizes)).astype(np.int32), vocabulary


def _count(tokens: np.ndarray, depth: np.ndarray, vocabulary: int, order: int) -> Iterator[_Counts]:
    """The n-grams of each order up to ``order``; of those that reach over the start of a sentence only the ones
    whose first word is <s>."""
    unigrams = np.arange(vocabulary, dtype=np.int32)
    yield _Counts(np.zeros(vocabulary, np.int32), unigrams, np.bincount(tokens, minlength=vocabulary))
    numbers = tokens  # of the n-gram that ends at each place
    for k in range(2, order + 1):
        places = np.flatnonzero(depth >= k - 1)
        keys = numbers[places - 1].astype(np.int64) << 32 | numbers[places]
        by_key = np.argsort(keys)
        keys = keys[by_key]
        first = np.flatnonzero(np.diff(keys, prepend=-1))
        count = np.diff(first, append=len(keys))
        yield _Counts((keys[first] >> 32).astype(np.int32), (keys[first] & 0xFFFFFFFF).astype(np.int32), count)
        numbers = numbers.copy()
        numbers[places[by_key]] = np.repeat(np.arange(len(first), dtype=np.int32), count)


def _discounts(adjusted: np.ndarray, order: int, fallback: Discounts | None) -> Discounts:
    """Equation 26 of Chen and Goodman for the adjusted counts of all n-grams of one order."""
    t = np.bincount(np.minimum(adjusted, 5), minlength=6).astype(np.float64)
    if t[1:4].all():
        y = t[1] / (t[1] + 2 * t[2])
        one, two, three = (j - (j + 1) * y * t[j + 1] / t[j] for j in (1, 2, 3))
        if 0 <= one <= 1 and 0 <= two <= 2 and 0 <= three <= 3:
            return float(one), float(two), float(three)
    if fallback is None:
        raise NoDiscounts(
            f"no Kneser-Ney discounts: {t[1:5].astype(int).tolist()} of the {order}-grams have the adjusted counts "
            "1 to 4; train on more text, without its copies"
        )
    return fallback
