"""What a vocabulary makes of one piece of text: BPE, WordPiece and Unigram as compiled kernels over bytes.

They give the ids that ``tokenizers`` gives. Pieces whose way there is longer (one that must be normalised first, a
character that the vocabulary lacks, a very long piece) are left to that library: they are few, and each is encoded
once.
"""

from __future__ import annotations

from operator import add
from typing import Any, NamedTuple

import numpy as np
from numpy import int64, uint64

from pipeline.text.hashing import MIX, slot_of
from pipeline.text.jit import njit
from pipeline.text.kernels import borrow, text_data
from pipeline.text.utf8 import continues, decode, width
from pipeline.tokenization.encoding import trie
from pipeline.tokenization.encoding.trie import INNER, Trie, step
from pipeline.tokenization.formats.export import byte_alphabet

BYTES, CHARACTERS, WORDPIECE, UNIGRAM = range(4)
LONGEST = 256  # bytes of a piece that is segmented here
_ROOM = LONGEST + 4  # symbols of one, its mark included
_MARK = "▁"
_SYMBOL, _RANK = 21, 22  # bits of an entry of the table of merges: of each of two symbols, and of the rank
_PLACE = 10  # bits of where a pair stands in its piece, below its rank
_NEVER = np.int64(1 << _RANK)  # above every rank
_NO_SYMBOL = (1 << _SYMBOL) - 1  # what stands before and after a piece: no pair has it
_FREE = uint64(0xFFFFFFFFFFFFFFFF)
_KICKS = 100  # entries of the table of merges moved for a new one before it is given twice the room
_ASCII_ONLY = text_data(np.zeros(0, np.uint8))
_NONE = np.uint8(0)


class Model(NamedTuple):
    """A vocabulary as the kernels use it. Arrays that a kind does not need are empty.

    ``initial`` int32 [2, 256]: the symbol of each byte or ASCII character, inside a word and at its end; -1 for none.
    ``merges`` uint64: a hash table of ``left | right | rank``, each at one of two slots. ``merged`` int32 [ranks]: what
    each merge makes. ``pairs`` int32 [256 * 256]: at which rank two bytes inside a word merge, _NEVER if they do
    not; most looks are for those, and the few that texts have stand close together.
    ``trie`` holds the pieces, for BPE characters that are not ASCII alone.
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
    merged: np.ndarray
    pairs: np.ndarray
    trie: Trie


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
            pairs = [pair.split(" ") if isinstance(pair, str) else pair for pair in content["merges"]]
            merges = _ids_of(pairs, vocabulary)
            if max(vocabulary.values(), default=0) >= _NO_SYMBOL or len(merges) >= (1 << _RANK) - 1:
                return None
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
            tables = _merge_tables(merges, initial[0])
            return Model(kind, lower, digits, spaced, lead, -1, 0, initial, *tables, trie.of(wide))
        case "WordPiece":
            prefix = content["continuing_subword_prefix"]
            rows = [
                (piece.removeprefix(prefix).encode(), piece.startswith(prefix), index, 0.0)
                for piece, index in vocabulary.items()
            ]
            longest, unknown = content["max_input_chars_per_word"], vocabulary[unk]
            return Model(WORDPIECE, lower, digits, False, -1, unknown, longest, *_no_merges(), trie.of(rows))
        case "Unigram":
            rows = [(piece.encode(), False, index, score) for index, (piece, score) in enumerate(vocabulary)]
            return Model(UNIGRAM, lower, digits, spaced, 0 if marked else -1, -1, 0, *_no_merges(), trie.of(rows))
    return None


def _no_merges() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    none = np.zeros(0, np.int32)
    return np.full((2, 256), -1, np.int32), np.full(2, _FREE), none, none


def _ids_of(pairs: list[Any], vocabulary: dict[str, int]) -> np.ndarray:
    """int32 [pairs, 3]: the ids of both parts and of the whole."""
    ids = np.empty((len(pairs), 3), np.int32)
    left, right = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    for column, pieces in enumerate((left, right, map(add, left, right))):
        ids[:, column] = list(map(vocabulary.__getitem__, pieces))
    return ids


def _merge_tables(merges: np.ndarray, initial: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The fields ``merges``, ``merged`` and ``pairs`` of Model."""
    table = _hash_merges(merges)
    return table, merges[:, 2].copy(), _pair_ranks(table, initial)


@njit(cache=True, nogil=True, inline="always")
def _pair(left, right):
    return (uint64(left) << uint64(_SYMBOL)) | uint64(right)


@njit(cache=True, nogil=True, forceinline=True)
def _slots(pair: np.uint64, mask: int) -> tuple[int, int]:
    return slot_of(pair, mask), int64(uint64(pair * MIX) >> uint64(32)) & mask  # type: ignore[return-value]


@njit(cache=True, nogil=True)
def _hash_merges(merges):
    """Cuckoo hashing (Pagh and Rodler 2001): to see whether a pair merges, which nothing foretells, takes no branch."""
    size = 2
    while size < 2 * len(merges):
        size *= 2
    while True:
        table = np.full(size, _FREE)
        if _fill(table, merges):
            return table
        size *= 2


@njit(cache=True, nogil=True)
def _fill(table, merges):
    mask = len(table) - 1
    for rank in range(len(merges)):
        pair = _pair(merges[rank, 0], merges[rank, 1])
        entry = (pair << uint64(_RANK)) | uint64(rank)
        slot, other = _slots(pair, mask)
        if table[other] >> uint64(_RANK) == pair:
            slot = other
        kicks = 0
        while table[slot] != _FREE and table[slot] >> uint64(_RANK) != entry >> uint64(_RANK):
            if kicks == _KICKS:
                return False
            kicks += 1
            table[slot], entry = entry, table[slot]
            first, second = _slots(entry >> uint64(_RANK), mask)
            slot = first ^ second ^ slot
        table[slot] = entry
    return True


@njit(cache=True, nogil=True)
def _pair_ranks(table, initial):
    pairs = np.full(1 << 16, _NEVER, np.int32)
    for left in range(256):
        for right in range(256):
            if initial[left] >= 0 and initial[right] >= 0:
                pairs[left << 8 | right] = _rank(initial[left], initial[right], table)
    return pairs


@njit(cache=True, nogil=True, forceinline=True)
def _rank(left, right, table):
    """The rank at which two symbols merge; _NEVER if they do not."""
    pair = _pair(left, right)
    slot, other = _slots(pair, len(table) - 1)
    first, second = table[slot], table[other]
    entry = first if first >> uint64(_RANK) == pair else second
    return int64(entry & uint64((1 << _RANK) - 1)) if entry >> uint64(_RANK) == pair else _NEVER


def segment(
    data: np.ndarray, bounds: np.ndarray, model: Model, classes: np.ndarray = _ASCII_ONLY, outside: np.uint8 = _NONE
) -> tuple[np.ndarray, np.ndarray]:
    """``(ids, lengths)`` of the pieces ``data[bounds[i]:bounds[i + 1]]``: uint32 ids end to end, int64 how many each.

    A length of -1 says that the piece is not one for these kernels: characters that are not ASCII are known with a
    table of ``classes`` only, for pieces that are normalised, and none may be in the classes ``outside``.

    For Unigram pieces are taken in the order of their first eight bytes, so that a piece goes on from the paths of the
    one before it as far as they have the same bytes.
    """
    data, pieces = text_data(data), len(bounds) - 1
    order = np.argsort(_openings(data, bounds)) if model.kind == UNIGRAM else np.arange(pieces)
    texts, paths = np.empty((2, _ROOM), np.uint8), np.empty((3, _ROOM), np.int64)
    room = *texts, *_merging_room(), *paths, *np.empty((2, _ROOM, _ROOM), np.int32), np.empty(_ROOM)
    ids, lengths = _segment(data, bounds, order, model, classes, outside, *room)
    return (_reordered(ids, lengths, order) if model.kind == UNIGRAM else ids), lengths


@njit(cache=True, nogil=True)
def _openings(data, bounds):
    """uint64: the first eight bytes of each piece, the first of them highest."""
    openings = np.zeros(len(bounds) - 1, np.uint64)
    for i in range(len(openings)):
        for k in range(min(bounds[i + 1] - bounds[i], 8)):
            openings[i] |= uint64(data[bounds[i] + k]) << uint64(56 - 8 * k)
    return openings


@njit(cache=True, nogil=True)
def _reordered(ids, lengths, order):
    """The ids of the pieces one after the other, given those in this order."""
    places, at = np.empty(len(order), np.int64), 0
    for i in order:
        places[i] = at
        at += max(lengths[i], 0)
    placed, at = np.empty_like(ids), 0
    for i in range(len(order)):
        for k in range(lengths[i]):
            placed[at + k] = ids[places[i] + k]
        at += max(lengths[i], 0)
    return placed


def _merging_room() -> tuple[np.ndarray, ...]:
    """``symbols``, ``applied``, ``keys``, ``before`` and ``after`` of ``_merge_all``."""
    return *np.empty((2, _ROOM), np.int32), *np.empty((3, _ROOM), np.int64)


@njit(cache=True, nogil=True)
def _segment(
    data, bounds, order, model, classes, outside,
    text, last, symbols, applied, keys, before, after, alive, back, via, starts, nodes, score,
):  # fmt: skip
    data, text, last, symbols, score = borrow(data), borrow(text), borrow(last), borrow(symbols), borrow(score)
    applied, keys, before, after, alive = borrow(applied), borrow(keys), borrow(before), borrow(after), borrow(alive)
    classes, back, via, starts, nodes = borrow(classes), borrow(back), borrow(via), borrow(starts), borrow(nodes)
    links = borrow(model.trie.roots), borrow(model.trie.labels), borrow(model.trie.first)
    initial, known, scores = borrow(model.initial), borrow(model.trie.ids), borrow(model.trie.scores)
    merges, merged, pairs = borrow(model.merges), borrow(model.merged), borrow(model.pairs)
    best = score, back, via
    lengths = np.full(len(bounds) - 1, -1, np.int64)
    ids, filled, done = np.empty(1024, np.uint32), 0, 0
    for i in order:
        start, end = bounds[i], bounds[i + 1]
        if end - start > LONGEST or end == start:
            continue
        if model.kind == BYTES:
            n = _bytes(data, start, end, initial, pairs, symbols, keys)
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
                n = _characters(text, size, has_mark, model.lead, initial, links, known, merges, pairs, symbols, keys)
            elif model.kind == WORDPIECE:
                n = _longest_matches(text, size, model.longest, model.unk, links, known, symbols)
            else:
                shared = 0
                while shared < min(size, done) and text[shared] == last[shared]:
                    shared += 1
                while 0 < shared < size and continues(text[shared]):
                    shared -= 1
                for k in range(shared, size):
                    last[k] = text[k]
                n = _best_path(text, size, shared, links, known, scores, symbols, best, alive, starts, nodes)
                done = size if n >= 0 else 0
        if n < 0:
            continue
        if model.kind == BYTES or model.kind == CHARACTERS:
            n = _merge_all(symbols, n, keys, before, after, merges, merged, applied)
        if filled + n > len(ids):
            ids = np.concatenate((ids, np.empty(len(ids) + n, np.uint32)))
        for k in range(n):
            ids[filled + k] = symbols[k]
        filled += n
        lengths[i] = n
    return ids[:filled], lengths


@njit(cache=True, nogil=True, forceinline=True)
def _bytes(data, start, end, initial, pairs, symbols, keys):
    last = int64(0)
    for k in range(end - start):
        byte = int64(data[start + k])
        symbols[k] = initial[0, byte]
        if symbols[k] < 0:
            return -1
        if k > 0:
            keys[k - 1] = int64(pairs[last << 8 | byte])
        last = byte
    return end - start


@njit(cache=True, nogil=True, forceinline=True)
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


@njit(cache=True, nogil=True, forceinline=True)
def _characters(text, size, has_mark, lead, initial, links, ids, merges, pairs, symbols, keys):
    n = at = 0
    if has_mark:
        symbols[0] = lead
        n = 1
    while at < size:
        after = at + width(text[at])
        if text[at] < 0x80:
            symbols[n] = initial[1 if after == size else 0, text[at]]
        else:
            node = INNER if after == size else 0
            for k in range(at, after):
                node = step(links, node, text[k])
                if node == 0:
                    return -1
            symbols[n] = ids[node]
        n += 1
        at = after
    for k in range(n):
        if symbols[k] < 0:
            return -1
    plain = size if n == has_mark + size else 0  # ASCII alone, whose last character may have a symbol of its own
    for k in range(n - 1):
        place = k - has_mark
        if 0 <= place < plain - 2:
            keys[k] = int64(pairs[int64(text[place]) << 8 | int64(text[place + 1])])
        else:
            keys[k] = _rank(symbols[k], symbols[k + 1], merges)
    return n


@njit(cache=True, nogil=True, forceinline=True)
def _merge_all(symbols, n, keys, before, after, merges, merged, applied):
    """Merge the pair of lowest rank, the leftmost first, until none merges; returns how many symbols are left.

    ``keys`` are the ranks of the pairs to begin with. ``applied`` takes the rank of each merge.
    """
    for k in range(n):
        before[k], after[k] = k - 1, k + 1
        keys[k] = keys[k] << _PLACE | k
    keys[n - 1], before[0], symbols[n] = _NEVER << _PLACE, n, _NO_SYMBOL  # place n is on either side of the piece
    times = 0
    while True:
        least = keys[0]
        for k in range(1, n):  # no branch: which is the least cannot be foreseen
            least = min(least, keys[k])
        rank, at = least >> _PLACE, least & ((1 << _PLACE) - 1)
        if rank >= _NEVER:
            break
        applied[times] = rank
        times += 1
        symbols[at] = merged[rank]
        preceding, following = before[at], after[after[at]]
        keys[after[at]] = _NEVER << _PLACE
        after[at], before[following] = following, at
        keys[at] = _rank(symbols[at], symbols[following], merges) << _PLACE | at
        keys[preceding] = _rank(symbols[preceding], symbols[at], merges) << _PLACE | preceding
    at = left = 0
    while at < n:
        symbols[left] = symbols[at]
        left += 1
        at = after[at]
    return left


@njit(cache=True, nogil=True, forceinline=True)
def _longest_matches(text, size, longest, unk, links, ids, symbols):
    characters = 0
    for k in range(size):
        characters += not continues(text[k])
    if characters > longest:
        symbols[0] = unk
        return 1
    start = n = 0
    while start < size:
        node, match, stop, end = int64(INNER if start > 0 else 0), np.int32(-1), start, start
        while end < size:
            node = step(links, node, text[end])
            if node == 0:
                break
            end += 1
            if links[2][node] & 1:
                match, stop = ids[node], end
        if match < 0:
            symbols[0] = unk
            return 1
        symbols[n] = match
        n += 1
        start = stop
    return n


@njit(cache=True, nogil=True, forceinline=True)
def _best_path(text, size, shared, links, ids, scores, symbols, best, alive, starts, nodes):
    """Viterbi, ties to the piece that starts first; -1 if a character is no piece of the vocabulary.

    At each byte ``alive`` pieces may go on, begun at ``starts``, of which the trie is at ``nodes``: all take a step
    together, so that the waits for memory overlap. Up to byte ``shared``, where a character ends, all is as the text
    before has left it.
    """
    score, back, via = best
    score[0], alive[0], opened = 0.0, 0, 0
    for at in range(shared, size):
        some, left, highest, single = alive[at], 0, -np.inf, False
        if not continues(text[at]):
            starts[at, some], nodes[at, some], opened = at, 0, at
            some += 1
        for k in range(some):
            node = step(links, int64(nodes[at, k]), text[at])
            if node != 0:
                start = int64(starts[at, k])
                starts[at + 1, left], nodes[at + 1, left] = start, node
                left += 1
                if links[2][node] & 1:
                    single = single or start == opened
                    total = score[start] + scores[node]
                    if total > highest:
                        highest, back[at + 1], via[at + 1] = total, start, node
        alive[at + 1], score[at + 1] = left, highest
        if not single and (at + 1 == size or not continues(text[at + 1])):
            return -1
    n, at = 0, size
    while at > 0:
        symbols[n] = ids[via[at]]
        n += 1
        at = back[at]
    for k in range(n // 2):
        symbols[k], symbols[n - 1 - k] = symbols[n - 1 - k], symbols[k]
    return n


def merge_uses(data: np.ndarray, offsets: np.ndarray, counts: np.ndarray, model: Model) -> tuple[int, np.ndarray]:
    """``(bytes, uses)`` of words that occur ``counts`` times: how often each merge applies to them, int64 [ranks].

    For byte-level BPE. Words of more than ``LONGEST`` bytes, or with a byte that is no piece, are left out of both.
    """
    return _merge_uses(data, offsets, counts, model, *_merging_room())


@njit(cache=True, nogil=True)
def _merge_uses(data, offsets, counts, model, symbols, applied, keys, before, after):
    uses, total = np.zeros(len(model.merged), np.int64), np.int64(0)
    for i in range(len(counts)):
        if offsets[i + 1] - offsets[i] > LONGEST:
            continue
        n = _bytes(data, offsets[i], offsets[i + 1], model.initial, model.pairs, symbols, keys)
        if n < 1:
            continue
        left = _merge_all(symbols, n, keys, before, after, model.merges, model.merged, applied)
        for k in range(n - left):
            uses[applied[k]] += counts[i]
        total += n * counts[i]
    return total, uses
