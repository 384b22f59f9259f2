"""Unigram language model vocabulary (Kudo 2018, section 3.2), trained on counts of words.

Seeds are the substrings that weigh most (frequency x length). Then, until the wanted size is reached: two rounds of EM
over all segmentations of all words, and the pieces whose loss would hurt the likelihood least are dropped, a quarter at
a time. The M step takes exp(digamma(expected count)), which drives rare pieces out, as SentencePiece's does.
Single characters are never dropped, so every word of the alphabet keeps a segmentation.

The lattice of a word is stored as its edges (piece, length) by start; a dropped piece takes its edges with it, and no
string is looked at twice. **Ties** (equal loss, equal score): the piece with the smaller bytes stays, and comes first.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from pipeline.text.hashing import FNV_OFFSET, fnv_step
from pipeline.text.jit import njit
from pipeline.text.utf8 import continues, decode
from pipeline.tokenization.encoding import spantable
from pipeline.tokenization.encoding.spantable import SpanTable

#: Seeds to start from, at most.
SEEDS = 1_000_000
#: Characters of distinct words to learn from, at most: the rarest words beyond are left out.
MOST_CHARACTERS = 20_000_000
#: Longer words are cut into pieces of this many characters.
LONGEST_WORD = 256
_KEEP = 0.75  # share of the pieces that a round of pruning keeps
_SURPLUS = 1.1  # pruning stops at this multiple of the wanted size; the rest goes by score
_LEAST_EXPECTED = 0.5  # pieces expected less often are dropped after each M step
_FLOOR = 1e-12  # probability of a character that EM has no use for
_PLAIN = 24  # words up to this many characters cannot underflow: _FLOOR ** 24 > 1e-300


class Lattices(NamedTuple):
    """Words as edges. Those of character k of all words are ``bounds[k]:bounds[k + 1]``; word w is characters
    ``starts[w]:ends[w]`` and occurs ``weights[w]`` times."""

    starts: np.ndarray  # int64 [words]
    ends: np.ndarray  # int64 [words]
    weights: np.ndarray  # int64 [words]
    bounds: np.ndarray  # int64 [characters + 1]
    piece: np.ndarray  # int32 [edges]
    length: np.ndarray  # uint8 [edges], characters


def learn(
    data: np.ndarray,
    offsets: np.ndarray,
    frequency: np.ndarray,
    alphabet: np.ndarray,
    size: int,
    max_length: int,
    forbidden: tuple[np.ndarray, np.ndarray],
) -> tuple[list[str], list[float]]:
    """``size`` pieces (fewer if the text has no more) with the logarithms of their probabilities, by falling score.

    Every character of ``alphabet`` is one of them, whether it is in the text or not.
    Words are ``data[offsets[i]:offsets[i + 1]]``, end to end, in any fixed order; ``alphabet`` holds the code points
    that pieces may be made of; a piece has at most ``max_length`` (<= 255) characters and is none of the strings of
    ``forbidden`` (alphabet.forbidden).
    """
    is_known = np.zeros(0x110000, bool)
    is_known[alphabet] = True
    at, starts, ends, weights = _segments(data, offsets, frequency, is_known, LONGEST_WORD)
    order = np.argsort(-weights, kind="stable")
    order = np.sort(order[: np.searchsorted(np.cumsum((ends - starts)[order]), MOST_CHARACTERS) + 1])
    starts, ends, weights = starts[order], ends[order], weights[order]
    table, entries = _count_substrings(data, at, starts, ends, weights, max_length)
    spans, lengths, seen, number = _seeds(data, at, table, forbidden)
    edges = _edges(starts, ends, max_length, entries, number, len(at) - 1)
    lattices = Lattices(starts, ends, weights, *edges)
    del table, entries, number, edges
    kept, probability = _fit(lattices, lengths, seen, size)
    names = [data[start:end].tobytes() for start, end in spans[kept].tolist()]
    lengths, scores = lengths[kept], np.log(probability)
    scores[lengths == 1] = np.maximum(scores[lengths == 1], scores[lengths > 1].min(initial=0.0) - 1.0)
    order = sorted(range(len(kept)), key=lambda i: (-scores[i], names[i]))
    longer = [i for i in order if lengths[i] > 1]
    dropped = set(longer[max(0, size - len(alphabet)) :])
    final = [i for i in order if i not in dropped]
    pieces, rounded = [names[i].decode() for i in final], [round(float(scores[i]), 8) for i in final]
    absent = sorted(set(map(chr, alphabet.tolist())) - set(pieces))  # not in the text, as rare as what is rarest there
    return pieces + absent, rounded + [min(rounded, default=-1.0)] * len(absent)


def _fit(lattices: Lattices, lengths: np.ndarray, seen: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """``(kept, probability)``: the indices of the pieces that survive and what EM gives them."""
    kept = np.arange(len(lengths))
    is_character = lengths == 1
    probability = seen * lengths / (seen * lengths).sum()
    wanted = int(size * _SURPLUS)
    while True:
        for _ in range(2):
            expected = _expect(lattices, probability)
            stays = is_character[kept] | (expected >= _LEAST_EXPECTED)
            probability = _maximise(expected)[stays]
            kept, lattices = kept[stays], _without(lattices, stays)
        if len(kept) <= wanted:
            return kept, probability
        used, losses = _losses(lattices, probability)
        target = max(int(len(kept) * _KEEP), wanted)
        droppable = ~is_character[kept]
        order = np.lexsort((kept, -losses))
        order = order[(droppable & (used > 0))[order]]
        stays = ~droppable
        stays[order[: max(0, target - int(stays.sum()))]] = True
        probability = probability[stays] / probability[stays].sum()
        kept, lattices = kept[stays], _without(lattices, stays)


def _seeds(
    data: np.ndarray, at: np.ndarray, table: SpanTable, forbidden: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """``(spans, lengths, seen, number)``: byte spans int64 [n, 2] of the seeds, their characters and frequencies, and
    per entry of ``table`` the number of its seed (-1: none).

    All single characters, and of the longer substrings that occur twice the SEEDS with the highest frequency x length,
    but for those that are ``forbidden``.
    """
    n = int(table.size[0])
    may = np.flatnonzero((table.counts[:n] > 1) | (table.lengths[:n] <= 4))  # a character has at most four bytes
    spans = np.column_stack((table.starts[may], table.starts[may] + table.lengths[may]))
    lengths = np.searchsorted(at, spans[:, 1]) - np.searchsorted(at, spans[:, 0])
    totals = table.counts[may]
    is_seed = (lengths == 1) | (totals > 1)
    suspects = np.flatnonzero(is_seed & np.isin(spans[:, 1] - spans[:, 0], np.diff(forbidden[1])) & (lengths > 1))
    is_seed[suspects[_spelling(data, spans[suspects], *forbidden)]] = False
    weight = totals[is_seed & (lengths > 1)] * lengths[is_seed & (lengths > 1)]
    if len(weight) > SEEDS:
        bar = np.partition(weight, len(weight) - SEEDS)[len(weight) - SEEDS]
        is_seed &= (lengths == 1) | (totals * lengths >= bar)
    number = np.full(n, -1, np.int32)
    number[may[is_seed]] = np.arange(is_seed.sum())
    return spans[is_seed], lengths[is_seed], totals[is_seed].astype(np.float64), number


@njit(cache=True, nogil=True)
def _spelling(data: np.ndarray, spans: np.ndarray, strings: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """bool a span: whether its bytes are one of the strings ``strings[bounds[i]:bounds[i + 1]]``."""
    is_spelled = np.zeros(len(spans), np.bool_)
    for i in range(len(spans)):
        is_spelled[i] = spantable.spells(data, spans[i, 0], spans[i, 1], strings, bounds)
    return is_spelled


def _maximise(expected: np.ndarray) -> np.ndarray:
    """The M step: exp(digamma(c)) / exp(digamma(sum c)), never below _FLOOR."""
    total = expected[expected >= _LEAST_EXPECTED].sum()
    return np.maximum(np.exp(_digamma(np.maximum(expected, 1e-3)) - _digamma(np.array([max(total, 1.0)]))), _FLOOR)


def _digamma(x: np.ndarray) -> np.ndarray:
    """By recurrence up to 7, then the asymptotic series; error below 1e-11 (Bernardo 1976)."""
    result = np.zeros_like(x)
    x = x.copy()
    for _ in range(7):
        small = x < 7
        result[small] -= 1 / x[small]
        x[small] += 1
    y = 1 / (x * x)
    series = y * (1 / 12 - y * (1 / 120 - y * (1 / 252 - y * (1 / 240 - y / 132))))
    return result + np.log(x) - 0.5 / x - series


@njit(cache=True, nogil=True)
def _segments(
    data: np.ndarray, offsets: np.ndarray, frequency: np.ndarray, is_known: np.ndarray, longest: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """``(at, starts, ends, weights)``: the byte at which each character starts (one entry more at the end), and words
    as ranges of characters without unknown ones in them, cut at ``longest``."""
    n = 0
    for k in range(offsets[0], offsets[-1]):
        n += not continues(data[k])
    at = np.empty(n + 1, np.int64)
    starts, ends, weights = np.empty(n, np.int64), np.empty(n, np.int64), np.empty(n, np.int64)
    character = segments = 0
    for word in range(len(offsets) - 1):
        byte, first = offsets[word], character
        while byte < offsets[word + 1]:
            at[character] = byte
            point, byte = decode(data, byte)
            character += 1
            known = is_known[point]
            if not known or byte == offsets[word + 1] or character - first == longest:
                last = character if known else character - 1
                if last > first:
                    starts[segments], ends[segments], weights[segments] = first, last, frequency[word]
                    segments += 1
                first = character
    at[character] = offsets[-1]
    return at, starts[:segments], ends[:segments], weights[:segments]


@njit(cache=True, nogil=True)
def _count_substrings(
    data: np.ndarray,
    at: np.ndarray,
    starts: np.ndarray,
    ends: np.ndarray,
    weights: np.ndarray,
    max_length: int,
) -> tuple[SpanTable, np.ndarray]:
    """All substrings of up to ``max_length`` characters of the words, with the summed weights of their words; and the
    entry (int32) of every one as it comes: by word, then start, then end."""
    total = n = 0
    for word in range(len(starts)):
        for start in range(starts[word], ends[word]):
            total += min(max_length, ends[word] - start)
    room = 1 << 10
    while room < total // 4:
        room *= 2
    table, entries = spantable.empty(room), np.empty(total, np.int32)
    for word in range(len(starts)):
        for start in range(starts[word], ends[word]):
            h, first = FNV_OFFSET, at[start]
            for end in range(start, min(start + max_length, ends[word])):
                for byte in range(at[end], at[end + 1]):
                    h = fnv_step(h, data[byte])
                key, length = spantable.finish(h), at[end + 1] - first
                entry, slot = spantable.find(data, table, key, first, length)
                if entry < 0:
                    entry, table = spantable.insert(table, slot, key, first, length)
                table.counts[entry] += weights[word]
                entries[n] = entry
                n += 1
    return table, entries


@njit(cache=True, nogil=True)
def _edges(
    starts: np.ndarray,
    ends: np.ndarray,
    max_length: int,
    entries: np.ndarray,
    number: np.ndarray,
    characters: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``(bounds, piece, length)`` of Lattices from the entries of all substrings; that of entry e is ``number[e]``."""
    total = 0
    for entry in entries:
        total += number[entry] >= 0
    bounds = np.zeros(characters + 1, np.int64)
    piece, length = np.empty(total, np.int32), np.empty(total, np.uint8)
    n = done = at = 0
    for word in range(len(starts)):
        bounds[done : starts[word]] = n
        for start in range(starts[word], ends[word]):
            bounds[start] = n
            for width in range(1, min(max_length, ends[word] - start) + 1):
                token = number[entries[at]]
                at += 1
                if token >= 0:
                    piece[n], length[n] = token, width
                    n += 1
        done = ends[word]
    bounds[done:] = n
    return bounds, piece, length


@njit(cache=True, nogil=True)
def _without(lattices: Lattices, stays: np.ndarray) -> Lattices:
    """The lattices without the edges of dropped pieces, the others renumbered: written over the given ones."""
    number = np.cumsum(stays) - 1
    bounds, piece, length = lattices.bounds, lattices.piece, lattices.length
    n = first = 0
    for character in range(len(bounds) - 1):
        last = bounds[character + 1]
        bounds[character] = n
        for edge in range(first, last):
            if stays[piece[edge]]:
                piece[n], length[n] = number[piece[edge]], length[edge]
                n += 1
        first = last
    bounds[-1] = n
    return Lattices(lattices.starts, lattices.ends, lattices.weights, bounds, piece[:n], length[:n])


@njit(cache=True, nogil=True)
def _expect(lattices: Lattices, probability: np.ndarray) -> np.ndarray:
    """The E step: float64 [pieces], how often each piece is expected over all segmentations of all words."""
    expected = np.zeros(len(probability))
    alpha, beta = np.zeros(LONGEST_WORD + 1), np.zeros(LONGEST_WORD + 1)
    logs = np.log(probability)
    for word in range(len(lattices.starts)):
        base, n = lattices.starts[word], lattices.ends[word] - lattices.starts[word]
        if n > _PLAIN:
            _expect_long(lattices, word, logs, alpha, beta, expected)
            continue
        alpha[: n + 1] = 0.0
        alpha[0] = 1.0
        for i in range(n):
            for edge in range(lattices.bounds[base + i], lattices.bounds[base + i + 1]):
                alpha[i + lattices.length[edge]] += alpha[i] * probability[lattices.piece[edge]]
        beta[n] = lattices.weights[word] / alpha[n]
        for i in range(n - 1, -1, -1):
            total = 0.0
            for edge in range(lattices.bounds[base + i], lattices.bounds[base + i + 1]):
                piece = lattices.piece[edge]
                share = probability[piece] * beta[i + lattices.length[edge]]
                total += share
                expected[piece] += alpha[i] * share
            beta[i] = total
    return expected


@njit(cache=True, nogil=True)
def _expect_long(
    lattices: Lattices, word: int, logs: np.ndarray, alpha: np.ndarray, beta: np.ndarray, expected: np.ndarray
) -> None:
    """The same for one long word, in logarithms."""
    base, n = lattices.starts[word], lattices.ends[word] - lattices.starts[word]
    alpha[: n + 1] = -np.inf
    alpha[0] = 0.0
    beta[: n + 1] = -np.inf
    beta[n] = 0.0
    for i in range(n):
        for edge in range(lattices.bounds[base + i], lattices.bounds[base + i + 1]):
            end = i + lattices.length[edge]
            alpha[end] = np.logaddexp(alpha[end], alpha[i] + logs[lattices.piece[edge]])
    for i in range(n - 1, -1, -1):
        for edge in range(lattices.bounds[base + i], lattices.bounds[base + i + 1]):
            tail = logs[lattices.piece[edge]] + beta[i + lattices.length[edge]]
            beta[i] = np.logaddexp(beta[i], tail)
            expected[lattices.piece[edge]] += lattices.weights[word] * np.exp(alpha[i] + tail - alpha[n])


@njit(cache=True, nogil=True)
def _best_path(
    lattices: Lattices, base: int, n: int, logs: np.ndarray, without: int, score: np.ndarray, via: np.ndarray
) -> None:
    """Viterbi over characters ``base:base + n``; ``via[i]`` becomes the edge by which the best path reaches i.

    The piece ``without`` is not used (-1: all are)."""
    score[: n + 1] = -np.inf
    score[0] = 0.0
    for i in range(n):
        for edge in range(lattices.bounds[base + i], lattices.bounds[base + i + 1]):
            end = i + lattices.length[edge]
            if end > n or lattices.piece[edge] == without:
                continue
            total = score[i] + logs[lattices.piece[edge]]
            if total > score[end]:
                score[end], via[end] = total, edge


@njit(cache=True, nogil=True)
def _losses(lattices: Lattices, probability: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``(used, losses)``, float64 [pieces]: occurrences in the best segmentations of all words, and by how much the
    mean log likelihood falls if the piece is dropped and its occurrences take its best other segmentation.

    A piece on a best path is its own best segmentation, so that other one is the best path without it.
    """
    logs = np.log(probability)
    used, losses = np.zeros(len(logs)), np.zeros(len(logs))
    place, width = (
        np.zeros(len(logs), np.int64),
        np.zeros(len(logs), np.int64),
    )  # of one occurrence, in characters
    score, via = np.empty(LONGEST_WORD + 1), np.empty(LONGEST_WORD + 1, np.int64)
    for word in range(len(lattices.starts)):
        base, end = lattices.starts[word], lattices.ends[word] - lattices.starts[word]
        _best_path(lattices, base, end, logs, -1, score, via)
        while end > 0:
            piece, length = lattices.piece[via[end]], np.int64(lattices.length[via[end]])
            end -= length
            used[piece] += lattices.weights[word]
            place[piece], width[piece] = base + end, length
    total = used.sum()
    for piece in range(len(logs)):
        if used[piece] == 0 or width[piece] == 1:
            continue
        _best_path(lattices, place[piece], width[piece], logs, piece, score, via)
        end, parts, other = width[piece], 0, 0.0
        while end > 0:
            other += np.log(used[lattices.piece[via[end]]] + used[piece])
            end -= lattices.length[via[end]]
            parts += 1
        other -= parts * np.log(total + used[piece] * (parts - 1))
        losses[piece] = used[piece] / total * (np.log(used[piece] / total) - other)
    return used, losses
