"""What a vocabulary makes of one piece of text: BPE, WordPiece and Unigram as compiled kernels over bytes.

They give the ids that ``tokenizers`` gives. Pieces whose way there is longer (one that must be normalised first, a
character that the vocabulary lacks, a very long piece) are left to that library: they are few, and each is encoded
once.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy import int64, uint64

from pipeline.text.hashing import slot_of
from pipeline.text.jit import njit
from pipeline.text.kernels import borrow, text_data
from pipeline.text.utf8 import continues, decode, width
from pipeline.tokenization.formats.export import byte_alphabet

BYTES, CHARACTERS, WORDPIECE, UNIGRAM = range(4)
LONGEST = 256  # bytes of a piece that is segmented here
_MARK = "▁"
_NEVER = np.int32(0x7FFFFFFF)
_CHILD = uint64(0xFFFFFFFF)
_INNER = 1  # the node of the trie that pieces going on a word start from; others start from 0
_ASCII_ONLY = text_data(np.zeros(0, np.uint8))
_NONE = np.uint8(0)


class Model(NamedTuple):
    """A vocabulary as the kernels use it. Arrays that a kind does not need are empty.

    ``initial`` int32 [2, 256]: the symbol of each byte or ASCII character, inside a word and at its end; -1 for none.
    ``merges`` int32 [slots, 4]: a hash table of (left, right, rank, merged), rank -1 where a slot is free.
    ``trie`` uint64: a hash table of a trie of pieces, byte by byte (of characters that are not ASCII for BPE), ``node |
    byte | child``, 0 where a slot is free. ``ids`` int32 and ``scores`` float64 [nodes]: the piece that ends at a node,
    -1 for none, and its logarithm of probability.
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
    trie: np.ndarray
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
            pairs = (pair.split(" ") if isinstance(pair, str) else pair for pair in content["merges"])
            ids = [vocabulary[piece] for a, b in pairs for piece in (a, b, a + b)]
            lead = vocabulary.get(_MARK, -2) if marked else -1
            kind = BYTES if byte_level else CHARACTERS
            initial = np.array([inside, last], np.int32)
            wide = (
                []
                if byte_level
                else [
                    (piece[0].encode(), is_last, index, 0.0)
                    for end, is_last in (("", False), (suffix, True))
                    for piece, index in vocabulary.items()
                    if len(piece) == 1 + len(end) and piece.endswith(end) and ord(piece[0]) >= 128
                ]
            )
            return Model(kind, lower, digits, spaced, lead, -1, 0, initial, _merge_table(ids), *_trie(wide))
        case "WordPiece":
            prefix = content["continuing_subword_prefix"]
            rows = [
                (piece.removeprefix(prefix).encode(), piece.startswith(prefix), index, 0.0)
                for piece, index in vocabulary.items()
            ]
            longest, unknown = content["max_input_chars_per_word"], vocabulary[unk]
            return Model(WORDPIECE, lower, digits, False, -1, unknown, longest, *_no_merges(), *_trie(rows))
        case "Unigram":
            rows = [(piece.encode(), False, index, score) for index, (piece, score) in enumerate(vocabulary)]
            return Model(UNIGRAM, lower, digits, spaced, 0 if marked else -1, -1, 0, *_no_merges(), *_trie(rows))
    return None


def _no_merges() -> tuple[np.ndarray, np.ndarray]:
    return np.full((2, 256), -1, np.int32), _merge_table([])


def _merge_table(merges: list[int]) -> np.ndarray:
    """Of the ids of both parts and of the whole, merge after merge."""
    return _hash_merges(np.array(merges, np.int32).reshape(-1, 3))


def _trie(rows: list[tuple[bytes, bool, int, float]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The fields ``trie``, ``ids`` and ``scores`` of Model from (bytes, whether it goes on a word, id, score)."""
    data = np.frombuffer(b"".join(row[0] for row in rows), np.uint8)
    ends = np.cumsum([0, *(len(row[0]) for row in rows)], dtype=np.int64)
    table, last = _grow(data, ends, np.array([row[1] for row in rows], np.int64))
    nodes = int(np.max(table & _CHILD, initial=_INNER)) + 1
    ids, scores = np.full(nodes, -1, np.int32), np.zeros(nodes)
    ids[last], scores[last] = [row[2] for row in rows], [row[3] for row in rows]
    return table, ids, scores


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


@njit(cache=True, nogil=True, forceinline=True)
def _child(trie, node, byte):
    """``(child, slot)``: the child of a node by a byte, 0 if there is none, and where it is or would be."""
    mask = len(trie) - 1
    key = (uint64(node) << uint64(8)) | uint64(byte)
    slot = slot_of(key, mask)
    while trie[slot] != 0:
        if trie[slot] >> uint64(32) == key:
            return int64(trie[slot] & _CHILD), slot
        slot = (slot + 1) & mask
    return int64(0), slot


@njit(cache=True, nogil=True)
def _grow(data, ends, roots):
    """``(trie, last)`` of the pieces ``data[ends[i]:ends[i + 1]]``, each from its root: the node at which it ends."""
    trie, last, nodes = np.zeros(1024, np.uint64), np.empty(len(roots), np.int64), _INNER + 1
    for i in range(len(roots)):
        node = roots[i]
        for at in range(ends[i], ends[i + 1]):
            child, slot = _child(trie, node, data[at])
            if child == 0:
                child = int64(nodes)
                trie[slot] = (uint64(node) << uint64(40)) | (uint64(data[at]) << uint64(32)) | uint64(child)
                nodes += 1
                if 2 * nodes > len(trie):
                    trie = _wider(trie)
            node = child
        last[i] = node
    return trie, last


@njit(cache=True, nogil=True)
def _wider(trie):
    wider = np.zeros(2 * len(trie), np.uint64)
    for entry in trie:
        if entry != 0:
            _, slot = _child(wider, entry >> uint64(40), (entry >> uint64(32)) & uint64(0xFF))
            wider[slot] = entry
    return wider


def segment(
    data: np.ndarray, bounds: np.ndarray, model: Model, classes: np.ndarray = _ASCII_ONLY, outside: np.uint8 = _NONE
) -> tuple[np.ndarray, np.ndarray]:
    """``(ids, lengths)`` of the pieces ``data[bounds[i]:bounds[i + 1]]``: uint32 ids end to end, int64 how many each.

    A length of -1 says that the piece is not one for these kernels: characters that are not ASCII are known with a
    table of ``classes`` only, for pieces that are normalised, and none may be in the classes ``outside``.
    """
    text, symbols = np.empty(LONGEST + 3, np.uint8), np.empty(LONGEST + 4, np.int32)
    ranks, merged, applied = (np.empty(LONGEST + 4, np.int32) for _ in range(3))
    score, back, via = np.empty(LONGEST + 4), np.empty(LONGEST + 4, np.int64), np.empty(LONGEST + 4, np.int64)
    room = text, symbols, ranks, merged, applied, score, back, via
    return _segment(text_data(data), bounds, model, classes, outside, *room)


@njit(cache=True, nogil=True)
def _segment(data, bounds, model, classes, outside, text, symbols, ranks, merged, applied, score, back, via):
    data, text, symbols, score = borrow(data), borrow(text), borrow(symbols), borrow(score)
    ranks, merged, applied = borrow(ranks), borrow(merged), borrow(applied)
    classes, back, via, trie = borrow(classes), borrow(back), borrow(via), borrow(model.trie)
    initial, merges, known, scores = (
        borrow(model.initial),
        borrow(model.merges),
        borrow(model.ids),
        borrow(model.scores),
    )
    lengths = np.full(len(bounds) - 1, -1, np.int64)
    ids, filled = np.empty(1024, np.uint32), 0
    for i in range(len(bounds) - 1):
        start, end = bounds[i], bounds[i + 1]
        if end - start > LONGEST or end == start:
            continue
        if model.kind == BYTES:
            n = _bytes(data, start, end, initial, symbols)
        else:
            has_mark = data[start] == 32 if model.spaced else model.lead != -1
            size = 0
            if model.kind == UNIGRAM and has_mark:
                text[0], text[1], text[2] = 0xE2, 0x96, 0x81
                size = 3
            start += model.spaced and has_mark
            size = _plain(data, start, end, model.lower, model.digits, classes, outside, text, size)
            if size < 0:
                continue
            if model.kind == CHARACTERS:
                n = _characters(text, size, has_mark, model.lead, initial, trie, known, symbols)
            elif model.kind == WORDPIECE:
                n = _longest_matches(text, size, model.longest, model.unk, trie, known, symbols)
            else:
                n = _best_path(text, size, trie, known, scores, symbols, score, back, via)
        if n < 0:
            continue
        if model.kind == BYTES or model.kind == CHARACTERS:
            n = _merge_all(symbols, n, merges, ranks, merged, applied)
        if filled + n > len(ids):
            ids = np.concatenate((ids, np.empty(len(ids) + n, np.uint32)))
        for k in range(n):
            ids[filled + k] = symbols[k]
        filled += n
        lengths[i] = n
    return ids[:filled], lengths


@njit(cache=True, nogil=True)
def _bytes(data, start, end, initial, symbols):
    for k in range(end - start):
        symbols[k] = initial[0, data[start + k]]
        if symbols[k] < 0:
            return -1
    return end - start


@njit(cache=True, nogil=True)
def _plain(data, start, end, lower, digits, classes, outside, text, size):
    """Copy a piece to ``text[size:]``, lower-cased as the model has it; the length of ``text`` then, or -1."""
    at = start
    while at < end:
        byte = data[at]
        if byte >= 0x80 and len(classes) > 0:
            point, after = decode(data, at)
            if classes[point] & outside:
                return -1
            for k in range(at, after):
                text[size] = data[k]
                size += 1
            at = after
            continue
        if byte <= 32 or byte >= 127 or (digits and 48 <= byte <= 57):
            return -1
        text[size] = byte + 32 if lower and 65 <= byte <= 90 else byte
        size += 1
        at += 1
    return size


@njit(cache=True, nogil=True)
def _characters(text, size, has_mark, lead, initial, trie, ids, symbols):
    n = at = 0
    if has_mark:
        symbols[0] = lead
        n = 1
    while at < size:
        after = at + width(text[at])
        if text[at] < 0x80:
            symbols[n] = initial[1 if after == size else 0, text[at]]
        else:
            node = _INNER if after == size else 0
            for k in range(at, after):
                node, _ = _child(trie, node, text[k])
                if node == 0:
                    return -1
            symbols[n] = ids[node]
        n += 1
        at = after
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
def _longest_matches(text, size, longest, unk, trie, ids, symbols):
    characters = 0
    for k in range(size):
        characters += not continues(text[k])
    if characters > longest:
        symbols[0] = unk
        return 1
    start = n = 0
    while start < size:
        node, match, stop, end = int64(_INNER if start > 0 else 0), np.int32(-1), start, start
        while end < size:
            node, _ = _child(trie, node, text[end])
            if node == 0:
                break
            end += 1
            if ids[node] >= 0:
                match, stop = ids[node], end
        if match < 0:
            symbols[0] = unk
            return 1
        symbols[n] = match
        n += 1
        start = stop
    return n


@njit(cache=True, nogil=True)
def _best_path(text, size, trie, ids, scores, symbols, score, back, via):
    """Viterbi, ties to the path found first; -1 if a character is no piece of the vocabulary."""
    for k in range(size + 1):
        score[k] = -np.inf
    score[0] = 0.0
    start = 0
    while start < size:
        after, node, single, end = start + width(text[start]), int64(0), False, start
        while end < size:
            node, _ = _child(trie, node, text[end])
            if node == 0:
                break
            end += 1
            if ids[node] >= 0:
                single = single or end == after
                total = score[start] + scores[node]
                if total > score[end]:
                    score[end], back[end], via[end] = total, start, node
        if not single:
            return -1
        start = after
    n, at = 0, size
    while at > 0:
        symbols[n] = ids[via[at]]
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
        n = _bytes(data, offsets[i], offsets[i + 1], model.initial, symbols)
        if n < 1:
            continue
        left = _merge_all(symbols, n, model.merges, ranks, merged, applied)
        for k in range(n - left):
            uses[applied[k]] += counts[i]
        total += n * counts[i]
    return total, uses  # type: ignore[return-value]
