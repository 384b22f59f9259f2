"""What all merging trainers share: words as symbols that merge in place, and an index of their adjacent pairs.

Symbols are ids of pieces; each position of a word starts with one. Merging two keeps the left position and covers the
right one: a symbol of L > 1 positions has -L in its second and in its last, from which its neighbours are found. For
every pair (left, right) ever adjacent the index knows how often it occurs now (words weighted by their counts, 64-bit)
and a list of positions where it has occurred. So a merge touches only its own occurrences. Occurrences are adjacencies:
"aaa" holds (a, a) twice, and merges from the left. The lists lie end to end: a merge first finds how many positions
each pair gains, then writes them.

Everything is allocated at its bound (what is not used costs no memory): n symbols allow n merges of occurrences, each
of which makes two new adjacencies, maybe of new pairs.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy import uint64

from pipeline.text.hashing import FNV_OFFSET, fnv_step, slot_of
from pipeline.text.jit import njit
from pipeline.text.kernels import borrow
from pipeline.tokenization.encoding import spantable

_BLOCK_BITS = 5  # 32 positions: few short words, so that few runs have to be passed


class Symbols(NamedTuple):
    """Positions of all words end to end. ``symbol`` is -1 where none stands, below at positions that one covers.

    How often the word at a position occurs is kept for runs of words that occur equally often: few numbers, where the
    words come in the order of their counts. A run is found from the one that reaches into its block of positions.
    """

    symbol: np.ndarray  # int32 [n]
    opens: np.ndarray  # bool [n], a word starts here
    ends: np.ndarray  # int64 [runs], position after the run
    frequency: np.ndarray  # int64 [runs], of each of its words
    run: np.ndarray  # int32 [blocks of 1 << _BLOCK_BITS positions], run of the first position


class Pairs(NamedTuple):
    """The index of adjacent pairs; ``size`` is [pairs, numbers of ``position``] in use.

    A list in ``position`` is its length, the number of a row of this index that has the list before it (-1: none), and
    the positions, ascending. Such a row is no pair: its symbols are -1.
    """

    left: np.ndarray  # int32, per pair
    right: np.ndarray  # int32, per pair
    count: np.ndarray  # int64, per pair: occurrences now
    start: np.ndarray  # int64, per pair: where its list of positions is, -1 for none
    position: np.ndarray  # int32
    size: np.ndarray  # int64 [2]
    near: np.ndarray  # int64 [symbols, 2, 3], while a pair is merged, by the symbol on its left or right: how often it
    # occurs beside that, at how many positions, and where the list of these is


class Pieces(NamedTuple):
    """The bytes of all pieces end to end, and a hash table from bytes to piece. ``size`` is [pieces, bytes]."""

    data: np.ndarray  # uint8
    offsets: np.ndarray  # int64 [capacity + 1]
    length: np.ndarray  # int32 [capacity], characters (for byte-level pieces: bytes)
    inner: np.ndarray  # bool [capacity], continues a word: written with the continuing-subword prefix
    slots: np.ndarray  # int32, 1 + piece
    size: np.ndarray  # int64 [2]


@njit(cache=True, nogil=True, inline="always")
def lend(pairs: Pairs) -> Pairs:
    """``pairs`` borrowed, for the inner calls of a kernel that was handed them."""
    return Pairs(
        borrow(pairs.left),
        borrow(pairs.right),
        borrow(pairs.count),
        borrow(pairs.start),
        borrow(pairs.position),
        borrow(pairs.size),
        borrow(pairs.near),
    )


@njit(cache=True, nogil=True, inline="always")
def _lend(symbols: Symbols) -> Symbols:
    return Symbols(
        borrow(symbols.symbol),
        borrow(symbols.opens),
        borrow(symbols.ends),
        borrow(symbols.frequency),
        borrow(symbols.run),
    )


@njit(cache=True, nogil=True)
def link(symbols: np.ndarray, bounds: np.ndarray, counts: np.ndarray) -> Symbols:
    """``symbols`` int32 [n] of words ``bounds`` int64 [words + 1] with ``counts``; a -1 separates its neighbours."""
    opens = np.zeros(len(symbols), np.bool_)
    ends, frequency = np.empty(len(counts), np.int64), np.empty(len(counts), np.int64)
    run = np.empty((len(symbols) >> _BLOCK_BITS) + 1, np.int32)
    runs = blocks = 0
    for w in range(len(counts)):
        if bounds[w] == bounds[w + 1]:
            continue
        opens[bounds[w]] = True
        if runs == 0 or counts[w] != frequency[runs - 1]:
            frequency[runs] = counts[w]
            runs += 1
        ends[runs - 1] = bounds[w + 1]
        while blocks << _BLOCK_BITS < bounds[w + 1]:
            run[blocks] = runs - 1
            blocks += 1
    return Symbols(symbols, opens, ends[:runs].copy(), frequency[:runs].copy(), run)


@njit(cache=True, nogil=True, inline="always")
def weight(symbols: Symbols, at: int) -> np.int64:
    """How often the word at position ``at`` occurs."""
    run = int(symbols.run[at >> _BLOCK_BITS])
    while symbols.ends[run] <= at:
        run += 1
    return symbols.frequency[run]


@njit(cache=True, nogil=True, inline="always")
def following(symbols: Symbols, at: int) -> int:
    """Position of the right neighbour of the symbol at ``at``; -1 at an end."""
    after = at + 1
    if after < len(symbols.symbol) and symbols.symbol[after] < -1:
        after = at - symbols.symbol[after]
    if after == len(symbols.symbol) or symbols.opens[after] or symbols.symbol[after] < 0:
        return -1
    return after


@njit(cache=True, nogil=True, inline="always")
def preceding(symbols: Symbols, at: int) -> int:
    """Position of the left neighbour of the symbol at ``at``; -1 at a start."""
    before = at - 1
    if symbols.opens[at] or symbols.symbol[before] == -1:
        return -1
    if symbols.symbol[before] < -1:
        return at + symbols.symbol[before]
    return before


@njit(cache=True, nogil=True)
def index_pairs(symbols: Symbols, capacity: int) -> tuple[Pairs, np.ndarray]:
    """``(pairs, slots)``: the index of all adjacencies and its hash table, which ``find`` replaces when it grows.

    There may be up to ``capacity`` symbols.
    """
    n = len(symbols.symbol)
    both = np.empty((3 * n + 1, 2), np.int32)
    pairs = Pairs(
        both[:, 0],
        both[:, 1],
        np.empty(3 * n + 1, np.int64),
        np.empty(3 * n + 1, np.int64),
        np.empty(9 * n + 2, np.int32),  # three numbers at most for each adjacency there ever is
        np.zeros(2, np.int64),
        np.zeros((capacity, 2, 3), np.int64),
    )
    slots = np.zeros(1 << 12, np.int32)
    symbols, lent = _lend(symbols), lend(pairs)  # ``pairs`` itself is still needed at the end, and kept until then
    symbol, opens = symbols.symbol, symbols.opens
    for at in range(n - 1):
        if symbol[at] >= 0 and symbol[at + 1] >= 0 and not opens[at + 1]:
            pair, slots = find(lent, slots, symbol[at], symbol[at + 1])
            lent.count[pair] += weight(symbols, at)
            lent.start[pair] += 1  # for now one less than how many positions it has
    for pair in range(lent.size[0]):
        length = lent.start[pair] + 1
        lent.start[pair] = -1
        _open(lent, pair, length)
    for at in range(n - 1):
        if symbol[at] >= 0 and symbol[at + 1] >= 0 and not opens[at + 1]:
            pair, slots = find(lent, slots, symbol[at], symbol[at + 1])
            _write(lent.position, lent.start[pair], at)
    return pairs, slots


@njit(cache=True, nogil=True, inline="always")
def pair_slot(left: int, right: int, mask: int) -> int:
    return slot_of((uint64(left) << uint64(32)) | uint64(right), mask)


@njit(cache=True, nogil=True, inline="always")
def find(pairs: Pairs, slots: np.ndarray, left: int, right: int) -> tuple[int, np.ndarray]:
    """The index of a pair, made with count 0 if it is new; and the hash table, which may have been replaced."""
    mask = len(slots) - 1
    slot = pair_slot(left, right, mask)
    pair = int(slots[slot]) - 1
    while pair >= 0 and (pairs.left[pair] != left or pairs.right[pair] != right):
        slot = (slot + 1) & mask
        pair = int(slots[slot]) - 1
    if pair < 0:
        pair, slots = _make(pairs, slots, left, right, slot)
    return pair, slots


@njit(cache=True, nogil=True)
def _make(pairs: Pairs, slots: np.ndarray, left: int, right: int, slot: int) -> tuple[int, np.ndarray]:
    pair = int(pairs.size[0])
    pairs.size[0] += 1
    pairs.left[pair], pairs.right[pair] = left, right
    pairs.count[pair], pairs.start[pair] = 0, -1
    slots[slot] = pair + 1
    if 4 * pair > 3 * len(slots):
        mask = 2 * len(slots) - 1
        slots = np.zeros(2 * len(slots), np.int32)
        for known in range(pair + 1):
            slot = pair_slot(pairs.left[known], pairs.right[known], mask)
            while slots[slot] != 0:
                slot = (slot + 1) & mask
            slots[slot] = known + 1
    return pair, slots


@njit(cache=True, nogil=True, inline="always")
def _open(pairs: Pairs, pair: int, length: int) -> int:
    """An empty list of ``pair`` with room for ``length`` positions; where it is."""
    before = -1
    if pairs.start[pair] >= 0:
        before = int(pairs.size[0])
        pairs.size[0] += 1
        pairs.left[before], pairs.right[before] = -1, -1
        pairs.count[before], pairs.start[before] = 0, pairs.start[pair]
    place = int(pairs.size[1])
    pairs.size[1] += 2 + length
    pairs.position[place], pairs.position[place + 1] = 0, before
    pairs.start[pair] = place
    return place


@njit(cache=True, nogil=True, inline="always")
def _write(position: np.ndarray, place: int, at: int) -> None:
    """One more position in the list at ``place``."""
    length = position[place]
    position[place + 2 + length] = at
    position[place] = length + 1


@njit(cache=True, nogil=True)
def occurrences(pairs: Pairs, pair: int) -> np.ndarray:
    """int32: the positions in the list of ``pair``, ascending (some of them past), which it then has no more."""
    place = pairs.start[pair]
    pairs.start[pair] = -1
    if place < 0:
        return np.empty(0, np.int32)
    first, last = place + 2, place + 2 + pairs.position[place]
    before = pairs.position[place + 1]
    if before < 0:
        return pairs.position[first:last]
    positions = pairs.position[first:last].copy()
    while before >= 0:
        place = pairs.start[before]
        first, last = place + 2, place + 2 + pairs.position[place]
        positions = np.concatenate((positions, pairs.position[first:last]))
        before = pairs.position[place + 1]
    positions.sort()
    return positions


@njit(cache=True, nogil=True)
def apply(symbols: Symbols, pairs: Pairs, slots: np.ndarray, pair: int, new: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Replace every occurrence of ``pair`` by the symbol ``new``.

    Returns the pairs that gained occurrences (each once), the hash table, and the sum of the weights of the occurrences
    replaced.
    """
    symbols, pairs = _lend(symbols), lend(pairs)
    a, b = int(pairs.left[pair]), int(pairs.right[pair])
    positions = occurrences(pairs, pair)
    # by side, on the left and on the right: each neighbour once, and of every occurrence the neighbour and the position
    others = np.empty((2, len(positions)), np.int32)
    met = np.empty((2, len(positions), 2), np.int32)
    lefts = rights = met_left = met_right = replaced = 0
    for k in range(len(positions)):
        at = int(positions[k])
        if symbols.symbol[at] != a:
            continue
        right = following(symbols, at)
        if right < 0 or symbols.symbol[right] != b:
            continue
        times = int(weight(symbols, at))
        before, after = preceding(symbols, at), following(symbols, right)
        if before >= 0:
            other = int(symbols.symbol[before])
            met[0, met_left, 0], met[0, met_left, 1] = other, before
            met_left += 1
            if _meet(pairs.near, other, 0, times):
                others[0, lefts] = other
                lefts += 1
        if after >= 0:
            other = int(symbols.symbol[after])
            met[1, met_right, 0], met[1, met_right, 1] = other, at
            met_right += 1
            if _meet(pairs.near, other, 1, times):
                others[1, rights] = other
                rights += 1
        _cover(symbols.symbol, at, right, new)
        replaced += times
    gained = np.empty(lefts + rights, np.int32)
    n, between = 0, -1
    for k in range(lefts):
        other = int(others[0, k])
        lost, slots = find(pairs, slots, other, a)
        gain, slots = find(pairs, slots, other, new)
        _move(pairs, other, 0, lost, gain)
        if other == new:
            between = gain  # of two that are new: the only one that can gain on both sides
        gained[n] = gain
        n += 1
    for k in range(rights):
        other = int(others[1, k])
        lost, slots = find(pairs, slots, b, other)
        gain, slots = find(pairs, slots, new, other)
        _move(pairs, other, 1, lost, gain)
        if gain != between:
            gained[n] = gain
            n += 1
    for k in range(met_left):
        _write(pairs.position, pairs.near[met[0, k, 0], 0, 2], met[0, k, 1])
    for k in range(met_right):
        _write(pairs.position, pairs.near[met[1, k, 0], 1, 2], met[1, k, 1])
    pairs.count[pair] = 0
    return gained[:n], slots, replaced


@njit(cache=True, nogil=True, inline="always")
def _meet(near: np.ndarray, other: int, side: int, times: int) -> bool:
    """Note an occurrence beside the symbol ``other``; whether it is the first one there."""
    first = near[other, side, 0] == 0
    if first:
        near[other, side, 1] = 0
    near[other, side, 0] += times
    near[other, side, 1] += 1
    return first


@njit(cache=True, nogil=True, inline="always")
def _move(pairs: Pairs, other: int, side: int, lost: int, gain: int) -> None:
    """Move the occurrences that ``_meet`` noted of ``other`` from one pair to the other, which gets room for them."""
    near = pairs.near
    pairs.count[lost] -= near[other, side, 0]
    pairs.count[gain] += near[other, side, 0]
    near[other, side, 0] = 0
    near[other, side, 2] = _open(pairs, gain, near[other, side, 1])


@njit(cache=True, nogil=True, inline="always")
def _cover(symbol: np.ndarray, at: int, right: int, new: int) -> None:
    """Let ``new`` stand at ``at`` and reach as far as the symbol at ``right`` does."""
    last = right
    if right + 1 < len(symbol) and symbol[right + 1] < -1:
        last = right - symbol[right + 1] - 1
    symbol[at], symbol[right] = new, -2  # inside, any number below -1 does
    symbol[at + 1] = symbol[last] = at - last - 1


@njit(cache=True, nogil=True)
def collect_pieces(
    data: np.ndarray, offsets: np.ndarray, length: np.ndarray, inner: np.ndarray, capacity: int
) -> Pieces:
    """The initial pieces (bytes ``data[offsets[i]:offsets[i + 1]]``), with room for ``capacity`` in all."""
    n = len(length)
    slots = 4
    while slots < 2 * capacity:
        slots *= 2
    pieces = Pieces(
        np.empty(max(len(data) * 2, 1 << 16), np.uint8),
        np.zeros(capacity + 1, np.int64),
        np.empty(capacity, np.int32),
        np.empty(capacity, np.bool_),
        np.zeros(slots, np.int32),
        np.zeros(2, np.int64),
    )
    for i in range(n):
        start, end = offsets[i], offsets[i + 1]
        base = pieces.size[1]
        for k in range(end - start):
            pieces.data[base + k] = data[start + k]
        _, slot = _piece_slot(pieces, base, base + end - start, inner[i])
        _append(pieces, base + end - start, length[i], inner[i], slot)
    return pieces


@njit(cache=True, nogil=True)
def join(
    pieces: Pieces, left: int, right: int, strings: np.ndarray, bounds: np.ndarray, length: int
) -> tuple[int, Pieces]:
    """The piece that ``left`` and ``right`` make, an existing one if its bytes are known; and the (grown) pieces.

    A new one has the ``length``. -1 if they make one of the strings ``strings[bounds[i]:bounds[i + 1]]``, which are no
    pieces.
    """
    base = pieces.size[1]
    room = (pieces.offsets[left + 1] - pieces.offsets[left]) + (pieces.offsets[right + 1] - pieces.offsets[right])
    if base + room > len(pieces.data):
        data = np.empty(2 * (base + room), np.uint8)
        data[:base] = pieces.data[:base]
        pieces = Pieces(data, pieces.offsets, pieces.length, pieces.inner, pieces.slots, pieces.size)
    at = base
    for part in (left, right):
        for k in range(pieces.offsets[part], pieces.offsets[part + 1]):
            pieces.data[at] = pieces.data[k]
            at += 1
    if spantable.spells(pieces.data, base, at, strings, bounds):
        return -1, pieces
    piece, slot = _piece_slot(pieces, base, at, pieces.inner[left])
    if piece < 0:
        piece = pieces.size[0]
        _append(pieces, at, length, pieces.inner[left], slot)
    return int(piece), pieces


@njit(cache=True, nogil=True)
def _append(pieces: Pieces, end: int, length: int, inner: bool, slot: int) -> None:
    piece = pieces.size[0]
    pieces.length[piece], pieces.inner[piece] = length, inner
    pieces.offsets[piece + 1] = end
    pieces.slots[slot] = piece + 1
    pieces.size[0], pieces.size[1] = piece + 1, end


@njit(cache=True, nogil=True)
def _piece_slot(pieces: Pieces, start: int, end: int, inner: bool) -> tuple[int, int]:
    """``(piece, slot)`` of the bytes ``pieces.data[start:end]``; piece -1 and a free slot if they are no piece yet."""
    h = FNV_OFFSET + uint64(inner)
    for k in range(start, end):
        h = fnv_step(h, pieces.data[k])
    mask = len(pieces.slots) - 1
    slot = int(np.int64((h ^ (h >> uint64(31))) & uint64(mask)))
    while pieces.slots[slot] != 0:
        piece = pieces.slots[slot] - 1
        first = pieces.offsets[piece]
        if pieces.inner[piece] == inner and pieces.offsets[piece + 1] - first == end - start:
            same = True
            for k in range(end - start):
                if pieces.data[first + k] != pieces.data[start + k]:
                    same = False
                    break
            if same:
                return int(piece), slot
        slot = (slot + 1) & mask
    return -1, slot
