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
from numba import njit, uint64

from pipeline.tokenization.counts import add_spans, empty_table, hash_span
from pipeline.tokenization.pretokenize import decode

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
_SPANS = 1 << 21  # substrings enumerated at once


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
) -> tuple[list[str], list[float]]:
    """``size`` pieces (fewer if the text has no more) with the logarithms of their probabilities, by falling score.

    Words are ``data[offsets[i]:offsets[i + 1]]``, end to end, in any fixed order; ``alphabet`` holds the code points
    that pieces may be made of; a piece has at most ``max_length`` (<= 255) characters.
    """
    is_known = np.zeros(0x110000, bool)
    is_known[alphabet] = True
    at, starts, ends, weights = _segments(data, offsets, frequency, is_known, LONGEST_WORD)
    order = np.argsort(-weights, kind="stable")
    order = np.sort(order[: np.searchsorted(np.cumsum((ends - starts)[order]), MOST_CHARACTERS) + 1])
    starts, ends, weights = starts[order], ends[order], weights[order]
    pieces, seen = _seeds(data, at, starts, ends, weights, max_length)
    lattices = Lattices(
        starts, ends, weights, *_edges(data, at, starts, ends, max_length, *_lookup(data, pieces))
    )
    kept, probability = _fit(lattices, pieces, seen, size)
    names = [data[pieces[i, 0] : pieces[i, 1]].tobytes() for i in kept]
    lengths = pieces[kept, 2]
    scores = np.log(probability)
    scores[lengths == 1] = np.maximum(scores[lengths == 1], scores[lengths > 1].min(initial=0.0) - 1.0)
    ranked = sorted(range(len(kept)), key=lambda i: (-scores[i], names[i]))
    chosen = set(
        [i for i in ranked if lengths[i] == 1] + [i for i in ranked if lengths[i] > 1][: _rest(size, lengths)]
    )
    final = [i for i in ranked if i in chosen]
    return [names[i].decode() for i in final], [round(float(scores[i]), 8) for i in final]


def _rest(size: int, lengths: np.ndarray) -> int:
    return max(0, size - int((lengths == 1).sum()))


def _fit(
    lattices: Lattices, pieces: np.ndarray, seen: np.ndarray, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """``(kept, probability)``: the indices of the pieces that survive and what EM gives them."""
    kept = np.arange(len(pieces))
    is_character = pieces[:, 2] == 1
    probability = seen * pieces[:, 2] / (seen * pieces[:, 2]).sum()
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
    data: np.ndarray,
    at: np.ndarray,
    starts: np.ndarray,
    ends: np.ndarray,
    weights: np.ndarray,
    max_length: int,
) -> tuple[np.ndarray, np.ndarray]:
    """``(pieces, seen)``: int64 [n, 3] byte start, byte end and characters of each seed, and its frequency, by bytes.

    All single characters, and at most SEEDS substrings that occur twice, by frequency x length."""
    table = empty_table(1 << 16)
    sizes = np.cumsum((ends - starts) * max_length)
    first = 0
    while first < len(starts):
        base = sizes[first - 1] if first else 0
        stop = max(first + 1, int(np.searchsorted(sizes, base + _SPANS)))
        table = add_spans(
            data,
            *_substrings(at, starts[first:stop], ends[first:stop], weights[first:stop], max_length),
            table,
        )
        first = stop
    _, _, where, widths, totals, n = table
    where, widths, totals = where[: n[0]], widths[: n[0]].astype(np.int64), totals[: n[0]]
    pieces = np.column_stack((where, where + widths, _characters(data, where, where + widths)))
    lengths = pieces[:, 2]
    multiple = np.flatnonzero((lengths > 1) & (totals > 1))
    weight = totals[multiple] * lengths[multiple]
    if len(multiple) > SEEDS:
        bar = np.partition(weight, len(weight) - SEEDS)[len(weight) - SEEDS]
        multiple = multiple[weight >= bar]
    chosen = np.concatenate((np.flatnonzero(lengths == 1), multiple))
    names = [data[start:end].tobytes() for start, end in pieces[chosen, :2].tolist()]
    order = chosen[np.array(sorted(range(len(chosen)), key=names.__getitem__), np.int64)]
    return pieces[order], totals[order].astype(np.float64)


def _maximise(expected: np.ndarray) -> np.ndarray:
    """The M step: exp(digamma(c)) / exp(digamma(sum c)), never below _FLOOR."""
    total = expected[expected >= _LEAST_EXPECTED].sum()
    return np.maximum(
        np.exp(_digamma(np.maximum(expected, 1e-3)) - _digamma(np.array([max(total, 1.0)]))), _FLOOR
    )


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
        n += (data[k] & 0xC0) != 0x80
    at = np.empty(n + 1, np.int64)
    starts, ends, weights = np.empty(n, np.int64), np.empty(n, np.int64), np.empty(n, np.int64)
    character = segments = 0
    for word in range(len(offsets) - 1):
        byte, first = offsets[word], character
        while byte < offsets[word + 1]:
            point, width = decode(data, byte)
            at[character] = byte
            byte += width
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
def _substrings(
    at: np.ndarray, starts: np.ndarray, ends: np.ndarray, weights: np.ndarray, max_length: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Byte spans of all substrings of up to ``max_length`` characters of words, and the weights of their words."""
    room = 0
    for word in range(len(starts)):
        room += (ends[word] - starts[word]) * max_length
    left, right, weight = np.empty(room, np.int64), np.empty(room, np.int64), np.empty(room, np.int64)
    n = 0
    for word in range(len(starts)):
        for start in range(starts[word], ends[word]):
            for end in range(start + 1, min(start + max_length, ends[word]) + 1):
                left[n], right[n], weight[n] = at[start], at[end], weights[word]
                n += 1
    return left[:n], right[:n], weight[:n]


@njit(cache=True, nogil=True)
def _characters(data: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    found = np.zeros(len(starts), np.int64)
    for i in range(len(starts)):
        for k in range(starts[i], ends[i]):
            found[i] += (data[k] & 0xC0) != 0x80
    return found


@njit(cache=True, nogil=True)
def _lookup(data: np.ndarray, pieces: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A hash table over the pieces: slots (1 + piece), and the pieces' hashes and byte spans."""
    size = 4
    while size < 2 * len(pieces):
        size *= 2
    slots, hashes = np.zeros(size, np.int32), np.empty(len(pieces), np.uint64)
    for piece in range(len(pieces)):
        hashes[piece] = hash_span(data, pieces[piece, 0], pieces[piece, 1])
        slot = np.int64(hashes[piece] & uint64(size - 1))
        while slots[slot] != 0:
            slot = (slot + 1) & (size - 1)
        slots[slot] = piece + 1
    return slots, hashes, pieces


@njit(cache=True, nogil=True)
def _edges(
    data: np.ndarray,
    at: np.ndarray,
    starts: np.ndarray,
    ends: np.ndarray,
    max_length: int,
    slots: np.ndarray,
    hashes: np.ndarray,
    pieces: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``(bounds, piece, length)`` of Lattices."""
    bounds = np.zeros(len(at), np.int64)
    piece, length = np.empty(1 << 16, np.int32), np.empty(1 << 16, np.uint8)
    n, mask, done = 0, len(slots) - 1, 0
    for word in range(len(starts)):
        bounds[done : starts[word]] = n
        for start in range(starts[word], ends[word]):
            bounds[start] = n
            if n + max_length > len(piece):
                piece = np.concatenate((piece, np.empty_like(piece)))
                length = np.concatenate((length, np.empty_like(length)))
            for end in range(start + 1, min(start + max_length, ends[word]) + 1):
                key = hash_span(data, at[start], at[end])
                slot = np.int64(key & uint64(mask))
                while slots[slot] != 0:
                    found = slots[slot] - 1
                    first = pieces[found, 0]
                    if hashes[found] == key and pieces[found, 1] - first == at[end] - at[start]:
                        same = True
                        for k in range(at[end] - at[start]):
                            if data[first + k] != data[at[start] + k]:
                                same = False
                                break
                        if same:
                            piece[n], length[n] = found, end - start
                            n += 1
                            break
                    slot = (slot + 1) & mask
        done = ends[word]
    bounds[done:] = n
    return bounds, piece[:n], length[:n]


@njit(cache=True, nogil=True)
def _without(lattices: Lattices, stays: np.ndarray) -> Lattices:
    """The lattices with the edges of dropped pieces removed and the others renumbered."""
    number = np.cumsum(stays) - 1
    piece, length = np.empty_like(lattices.piece), np.empty_like(lattices.length)
    bounds = np.empty_like(lattices.bounds)
    n = 0
    for character in range(len(bounds) - 1):
        first, last = lattices.bounds[character], lattices.bounds[character + 1]
        bounds[character] = n
        for edge in range(first, last):
            if stays[lattices.piece[edge]]:
                piece[n], length[n] = number[lattices.piece[edge]], lattices.length[edge]
                n += 1
    bounds[-1] = n
    return Lattices(
        lattices.starts, lattices.ends, lattices.weights, bounds, piece[:n].copy(), length[:n].copy()
    )


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
            found = score[i] + logs[lattices.piece[edge]]
            if found > score[end]:
                score[end], via[end] = found, edge


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
