"""What a vocabulary makes of one piece of text: BPE, WordPiece and Unigram as compiled kernels over bytes.

They give the ids that ``tokenizers`` gives. Pieces whose way there is longer (a character that is not ASCII and must be
normalised, one that the vocabulary lacks, a very long piece) are left to that library: they are few, and each is
encoded once.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit, uint64

from pipeline.text.hashing import FNV_OFFSET, fnv_step, slot_of
from pipeline.tokenization.encoding import spantable
from pipeline.tokenization.formats.export import byte_alphabet

BYTES, CHARACTERS, WORDPIECE, UNIGRAM = range(4)
LONGEST = 256  # bytes of a piece that is segmented here
_MARK = "▁"
_NEVER = np.int32(0x7FFFFFFF)


class Model(NamedTuple):
    """A vocabulary as the kernels use it. Arrays that a kind does not need are empty.

    ``initial`` int32 [2, 256]: the symbol of each byte or ASCII character, inside a word and at its end; -1 for none.
    ``merges`` int32 [slots, 4]: a hash table of (left, right, rank, merged), rank -1 where a slot is free.
    ``slots`` int32: a hash table of pieces, 1 + piece; piece p is ``data[ends[p]:ends[p + 1]]``, ``inner`` if it goes
    on a word, with its id and its logarithm of probability.
    """

    kind: int
    lower: bool  # ASCII is lower-cased first
    digits: bool  # digits stand alone: pieces that hold any are left out
    spaced: bool  # only a piece that opens with a space has the mark
    lead: int  # symbol of the mark before every word, -1 for none
    unk: int
    longest: int  # characters of a word above which WordPiece gives it up
    initial: np.ndarray
    merges: np.ndarray
    slots: np.ndarray
    data: np.ndarray
    ends: np.ndarray
    inner: np.ndarray
    ids: np.ndarray
    scores: np.ndarray


def model_of(
    tokenizer: dict, marked: bool, byte_level: bool, lower: bool, digits: bool, spaced: bool = False
) -> Model | None:
    """The model of a tokenizer.json; None if it is one of another kind.

    ``marked``: every word opens with Metaspace's mark; ``spaced``: with a space, where it has the mark;
    ``byte_level``: pieces are written in GPT-2's alphabet.
    """
    content = tokenizer["model"]
    vocabulary = content["vocab"]
    unk = content.get("unk_token")
    match content["type"]:
        case "BPE":
            if content["continuing_subword_prefix"] or content["ignore_merges"]:
                return None
            suffix = content["end_of_word_suffix"] or ""
            letters = byte_alphabet() if byte_level else [chr(point) if point < 128 else "" for point in range(256)]
            inside = [vocabulary.get(letter, -1) for letter in letters]
            last = [vocabulary.get(letter + suffix, -1) if letter else -1 for letter in letters]
            pairs = [tuple(pair.split(" ")) if isinstance(pair, str) else tuple(pair) for pair in content["merges"]]
            ids = [(vocabulary[a], vocabulary[b], vocabulary[a + b]) for a, b in pairs]
            lead = vocabulary.get(_MARK, -2) if marked else -1
            kind = BYTES if byte_level else CHARACTERS
            initial = np.array([inside, last], np.int32)
            return Model(kind, lower, digits, spaced, lead, -1, 0, initial, _merge_table(ids), *_pieces([]))
        case "WordPiece":
            prefix = content["continuing_subword_prefix"]
            rows = [
                (piece.removeprefix(prefix).encode(), piece.startswith(prefix), index, 0.0)
                for piece, index in vocabulary.items()
            ]
            longest, unknown = content["max_input_chars_per_word"], vocabulary[unk]
            return Model(WORDPIECE, lower, digits, False, -1, unknown, longest, *_no_merges(), *_pieces(rows))
        case "Unigram":
            rows = [(piece.encode(), False, index, score) for index, (piece, score) in enumerate(vocabulary)]
            return Model(UNIGRAM, lower, digits, spaced, 0 if marked else -1, -1, 0, *_no_merges(), *_pieces(rows))
    return None


def _no_merges() -> tuple[np.ndarray, np.ndarray]:
    return np.full((2, 256), -1, np.int32), _merge_table([])


def _merge_table(merges: list[tuple[int, int, int]]) -> np.ndarray:
    return _hash_merges(np.array(merges, np.int32).reshape(-1, 3))


def _pieces(rows: list[tuple[bytes, bool, int, float]]) -> tuple[np.ndarray, ...]:
    """The fields ``slots`` to ``scores`` of Model from (bytes, inner, id, score)."""
    data = np.frombuffer(b"".join(row[0] for row in rows), np.uint8)
    ends = np.cumsum([0, *(len(row[0]) for row in rows)], dtype=np.int64)
    inner = np.array([row[1] for row in rows], np.bool_)
    ids, scores = np.array([row[2] for row in rows], np.int32), np.array([row[3] for row in rows], np.float64)
    return _hash_pieces(data, ends, inner), data, ends, inner, ids, scores


@njit(cache=True, nogil=True, inline="always")
def _pair_slot(left, right, mask):
    return slot_of((uint64(left) << uint64(32)) | uint64(right), mask)


@njit(cache=True, nogil=True)
def _hash_merges(merges):
    size = 2
    while size < 2 * len(merges):
        size *= 2
    table = np.full((size, 4), -1, np.int32)
    for rank in range(len(merges)):
        left, right = merges[rank, 0], merges[rank, 1]
        slot = _pair_slot(left, right, size - 1)
        while table[slot, 2] >= 0 and (table[slot, 0] != left or table[slot, 1] != right):
            slot = (slot + 1) & (size - 1)
        table[slot, 0], table[slot, 1], table[slot, 2], table[slot, 3] = left, right, rank, merges[rank, 2]
    return table


@njit(cache=True, nogil=True, inline="always")
def _merge(left, right, table):
    """``(rank, merged)`` of two symbols; rank _NEVER if they do not merge."""
    mask = len(table) - 1
    slot = _pair_slot(left, right, mask)
    while table[slot, 2] >= 0:
        if table[slot, 0] == left and table[slot, 1] == right:
            return table[slot, 2], table[slot, 3]
        slot = (slot + 1) & mask
    return _NEVER, np.int32(-1)


@njit(cache=True, nogil=True)
def _opening(inner):
    return fnv_step(FNV_OFFSET, 0xFF) if inner else FNV_OFFSET


@njit(cache=True, nogil=True)
def _hash_pieces(data, ends, inner):
    size = 2
    while size < 2 * len(inner):
        size *= 2
    slots = np.zeros(size, np.int32)
    for piece in range(len(inner)):
        h = _opening(inner[piece])
        for at in range(ends[piece], ends[piece + 1]):
            h = fnv_step(h, data[at])
        slot = np.int64(spantable.finish(h) & uint64(size - 1))
        while slots[slot] != 0:
            slot = (slot + 1) & (size - 1)
        slots[slot] = piece + 1
    return slots


@njit(cache=True, nogil=True)
def _find(model, h, inner, text, start, end):
    """The piece that reads ``text[start:end]``, whose hash so far is ``h``; -1 if there is none."""
    mask = len(model.slots) - 1
    slot = np.int64(spantable.finish(h) & uint64(mask))
    while model.slots[slot] != 0:
        piece = model.slots[slot] - 1
        first = model.ends[piece]
        if model.inner[piece] == inner and model.ends[piece + 1] - first == end - start:
            k = 0
            while k < end - start and model.data[first + k] == text[start + k]:
                k += 1
            if k == end - start:
                return np.int64(piece)
        slot = (slot + 1) & mask
    return np.int64(-1)


@njit(cache=True, nogil=True)
def segment(data: np.ndarray, bounds: np.ndarray, model: Model) -> tuple[np.ndarray, np.ndarray]:
    """``(ids, lengths)`` of the pieces ``data[bounds[i]:bounds[i + 1]]``: uint32 ids end to end, int64 how many each.

    A length of -1 says that the piece is not one for these kernels.
    """
    lengths = np.full(len(bounds) - 1, -1, np.int64)
    ids, filled = np.empty(1024, np.uint32), 0
    text, symbols = np.empty(LONGEST + 3, np.uint8), np.empty(LONGEST + 4, np.int32)
    ranks, merged = np.empty(LONGEST + 4, np.int32), np.empty(LONGEST + 4, np.int32)
    applied = np.empty(LONGEST + 4, np.int32)
    score, back = np.empty(LONGEST + 4), np.empty(LONGEST + 4, np.int64)
    via = np.empty(LONGEST + 4, np.int64)
    for i in range(len(bounds) - 1):
        start, end = bounds[i], bounds[i + 1]
        if end - start > LONGEST or end == start:
            continue
        if model.kind == BYTES:
            n = _bytes(data, start, end, model, symbols)
        else:
            has_mark = data[start] == 32 if model.spaced else model.lead != -1
            size = _plain(data, start + (model.spaced and has_mark), end, has_mark, model, text)
            if size < 0:
                continue
            if model.kind == CHARACTERS:
                n = _characters(text, size, has_mark, model, symbols)
            elif model.kind == WORDPIECE:
                n = _longest_matches(text, size, model, symbols)
            else:
                n = _best_path(text, size, model, symbols, score, back, via)
        if n < 0:
            continue
        if model.kind == BYTES or model.kind == CHARACTERS:
            n = _merge_all(symbols, n, model.merges, ranks, merged, applied)
        if filled + n > len(ids):
            ids = np.concatenate((ids, np.empty(len(ids) + n, np.uint32)))
        for k in range(n):
            ids[filled + k] = symbols[k]
        filled += n
        lengths[i] = n
    return ids[:filled], lengths


@njit(cache=True, nogil=True)
def _bytes(data, start, end, model, symbols):
    for k in range(end - start):
        symbols[k] = model.initial[0, data[start + k]]
        if symbols[k] < 0:
            return -1
    return end - start


@njit(cache=True, nogil=True)
def _plain(data, start, end, has_mark, model, text):
    """Copy a piece of visible ASCII to ``text``, lower-cased and marked as the model has it; its length, or -1."""
    size = 0
    if model.kind == UNIGRAM and has_mark:
        text[0], text[1], text[2] = 0xE2, 0x96, 0x81
        size = 3
    for at in range(start, end):
        byte = data[at]
        if byte <= 32 or byte >= 127 or (model.digits and 48 <= byte <= 57):
            return -1
        if model.lower and 65 <= byte <= 90:
            byte += 32
        text[size] = byte
        size += 1
    return size


@njit(cache=True, nogil=True)
def _characters(text, size, has_mark, model, symbols):
    n = 0
    if has_mark:
        symbols[0] = model.lead
        n = 1
    for k in range(size):
        symbols[n] = model.initial[1 if k == size - 1 else 0, text[k]]
        n += 1
    for k in range(n):
        if symbols[k] < 0:
            return -1
    return n


@njit(cache=True, nogil=True)
def _merge_all(symbols, n, table, ranks, merged, applied):
    """Merge the pair of lowest rank, the leftmost first, until none merges; returns how many symbols are left.

    ``applied`` takes the rank of each merge.
    """
    whole = n
    for k in range(n - 1):
        ranks[k], merged[k] = _merge(symbols[k], symbols[k + 1], table)
    while n > 1:
        best, rank = 0, ranks[0]
        for k in range(1, n - 1):
            if ranks[k] < rank:
                best, rank = k, ranks[k]
        if rank == _NEVER:
            break
        applied[whole - n] = rank
        symbols[best] = merged[best]
        n -= 1
        for k in range(best + 1, n):
            symbols[k] = symbols[k + 1]
            if k < n:
                ranks[k], merged[k] = ranks[k + 1], merged[k + 1]
        if best > 0:
            ranks[best - 1], merged[best - 1] = _merge(symbols[best - 1], symbols[best], table)
        if best < n - 1:
            ranks[best], merged[best] = _merge(symbols[best], symbols[best + 1], table)
    return n


@njit(cache=True, nogil=True)
def _longest_matches(text, size, model, symbols):
    if size > model.longest:
        symbols[0] = model.unk
        return 1
    start = n = 0
    while start < size:
        h, longest, stop = _opening(start > 0), np.int64(-1), start
        for end in range(start + 1, size + 1):
            h = fnv_step(h, text[end - 1])
            piece = _find(model, h, start > 0, text, start, end)
            if piece >= 0:
                longest, stop = piece, end
        if longest < 0:
            symbols[0] = model.unk
            return 1
        symbols[n] = model.ids[longest]
        n += 1
        start = stop
    return n


@njit(cache=True, nogil=True)
def _best_path(text, size, model, symbols, score, back, via):
    """Viterbi, ties to the path found first; -1 if a character is no piece of the vocabulary."""
    for k in range(size + 1):
        score[k] = -np.inf
    score[0] = 0.0
    start = 0
    while start < size:
        width = 3 if text[start] >= 0x80 else 1
        h, single = FNV_OFFSET, False
        for end in range(start + 1, size + 1):
            h = fnv_step(h, text[end - 1])
            piece = _find(model, h, False, text, start, end)
            if piece >= 0:
                single = single or end == start + width
                total = score[start] + model.scores[piece]
                if total > score[end]:
                    score[end], back[end], via[end] = total, start, piece
        if not single:
            return -1
        start += width
    n, at = 0, size
    while at > 0:
        symbols[n] = model.ids[via[at]]
        n += 1
        at = back[at]
    for k in range(n // 2):
        symbols[k], symbols[n - 1 - k] = symbols[n - 1 - k], symbols[k]
    return n


@njit(cache=True, nogil=True)
def merge_uses(data: np.ndarray, offsets: np.ndarray, counts: np.ndarray, model: Model) -> tuple[int, np.ndarray]:
    """``(bytes, uses)`` of words that occur ``counts`` times: how often each merge applies to them, int64 [ranks].

    For byte-level BPE. Words of more than ``LONGEST`` bytes, or with a byte that is no piece, are left out of both.
    """
    uses, total = np.zeros(np.max(model.merges[:, 2]) + 1, np.int64), np.int64(0)
    symbols, applied = np.empty(LONGEST + 4, np.int32), np.empty(LONGEST + 4, np.int32)
    ranks, merged = np.empty(LONGEST + 4, np.int32), np.empty(LONGEST + 4, np.int32)
    for i in range(len(counts)):
        if offsets[i + 1] - offsets[i] > LONGEST:
            continue
        n = _bytes(data, offsets[i], offsets[i + 1], model, symbols)
        if n < 1:
            continue
        left = _merge_all(symbols, n, model.merges, ranks, merged, applied)
        for k in range(n - left):
            uses[applied[k]] += counts[i]
        total += n * counts[i]
    return total, uses  # type: ignore[return-value]
