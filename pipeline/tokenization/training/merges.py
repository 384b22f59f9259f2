"""What all merging trainers share: words as symbols that merge in place, and an index of their adjacent pairs.

Symbols are ids of pieces; each position of a word starts with one. Merging two keeps the left position and covers the
right one: a symbol of L > 1 positions has -L in its second and in its last, from which its neighbours are found. For
every pair (left, right) ever adjacent the index knows how often it occurs now (words weighted by their counts, 64-bit)
and a list of positions where it has occurred. So a merge touches only its own occurrences. Occurrences are adjacencies:
"aaa" holds (a, a) twice, and merges from the left.

Everything is allocated at its bound (what is not used costs no memory): n symbols allow n merges of occurrences, each
of which makes two new adjacencies, maybe of new pairs, and gives back one entry of a list.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit, uint64

from pipeline.text.hashing import FNV_OFFSET, fnv_step, slot_of
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
    """The index of adjacent pairs; ``size`` is [pairs, list entries, the first entry given back or -1]."""

    left: np.ndarray  # int32, per pair
    right: np.ndarray  # int32, per pair
    count: np.ndarray  # int64, per pair: occurrences now
    head: np.ndarray  # int32, per pair: first of its list of positions, -1 for none
    stamp: np.ndarray  # int32, per pair: the last merge that added to it
    position: np.ndarray  # int32, per list entry
    next_entry: np.ndarray  # int32, per list entry
    size: np.ndarray  # int64 [3]


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
        borrow(pairs.head),
        borrow(pairs.stamp),
        borrow(pairs.position),
        borrow(pairs.next_entry),
        borrow(pairs.size),
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
def index_pairs(symbols: Symbols) -> tuple[Pairs, np.ndarray]:
    """``(pairs, slots)``: the index of all adjacencies and its hash table, which ``add`` replaces when it grows."""
    room, entries = 3 * len(symbols.symbol) + 1, 2 * len(symbols.symbol) + 1
    pairs = Pairs(
        np.empty(room, np.int32),
        np.empty(room, np.int32),
        np.empty(room, np.int64),
        np.empty(room, np.int32),
        np.empty(room, np.int32),
        np.empty(entries, np.int32),
        np.empty(entries, np.int32),
        np.array([0, 0, -1]),
    )
    slots = np.zeros(1 << 12, np.int32)
    symbol, opens = symbols.symbol, symbols.opens
    for at in range(len(symbol) - 1):
        if symbol[at] >= 0 and symbol[at + 1] >= 0 and not opens[at + 1]:
            pair, slots = find(pairs, slots, symbol[at], symbol[at + 1])
            add(pairs, pair, at, int(weight(symbols, at)))
    return pairs, slots


@njit(cache=True, nogil=True, inline="always")
def pair_slot(left: int, right: int, mask: int) -> int:
    return slot_of((uint64(left) << uint64(32)) | uint64(right), mask)


@njit(cache=True, nogil=True)
def find(pairs: Pairs, slots: np.ndarray, left: int, right: int) -> tuple[int, np.ndarray]:
    """The index of a pair, made with count 0 if it is new; and the hash table, which may have been replaced."""
    mask = len(slots) - 1
    slot = pair_slot(left, right, mask)
    while slots[slot] != 0:
        pair = slots[slot] - 1
        if pairs.left[pair] == left and pairs.right[pair] == right:
            return int(pair), slots
        slot = (slot + 1) & mask
    pair = pairs.size[0]
    pairs.size[0] += 1
    pairs.left[pair], pairs.right[pair] = left, right
    pairs.count[pair], pairs.head[pair], pairs.stamp[pair] = 0, -1, -1
    slots[slot] = pair + 1
    if 4 * pair > 3 * mask:
        mask = 2 * len(slots) - 1
        slots = np.zeros(2 * len(slots), np.int32)
        for known in range(pair + 1):
            slot = pair_slot(pairs.left[known], pairs.right[known], mask)
            while slots[slot] != 0:
                slot = (slot + 1) & mask
            slots[slot] = known + 1
    return pair, slots


@njit(cache=True, nogil=True, inline="always")
def add(pairs: Pairs, pair: int, at: int, weight: int) -> None:
    """One more occurrence of ``pair``, at position ``at``."""
    entry = pairs.size[2]
    if entry >= 0:
        pairs.size[2] = pairs.next_entry[entry]
    else:
        entry = pairs.size[1]
        pairs.size[1] += 1
    pairs.position[entry] = at
    pairs.next_entry[entry] = pairs.head[pair]
    pairs.head[pair] = entry
    pairs.count[pair] += weight


@njit(cache=True, nogil=True)
def occurrences(pairs: Pairs, pair: int) -> np.ndarray:
    """int32: the positions in the list of ``pair``, ascending (some of them past); gives back its entries."""
    n, entry, last = 0, pairs.head[pair], np.int32(-1)
    while entry >= 0:
        n += 1
        last, entry = entry, pairs.next_entry[entry]
    positions = np.empty(n, np.int32)
    entry = pairs.head[pair]
    ascending = True
    for k in range(n - 1, -1, -1):
        positions[k] = pairs.position[entry]
        ascending = ascending and (k == n - 1 or positions[k] < positions[k + 1])
        entry = pairs.next_entry[entry]
    if n > 0:
        pairs.next_entry[last], pairs.size[2] = pairs.size[2], pairs.head[pair]
        pairs.head[pair] = -1
    if not ascending:
        positions.sort()
    return positions


@njit(cache=True, nogil=True)
def apply(
    symbols: Symbols, pairs: Pairs, slots: np.ndarray, pair: int, new: int, merge: int
) -> tuple[np.ndarray, np.ndarray, int]:
    """Replace every occurrence of ``pair`` by the symbol ``new``.

    Returns the pairs that gained occurrences (each once: ``stamp`` is set to ``merge``), the hash table, and the sum of
    the weights of the occurrences replaced.
    """
    pairs = lend(pairs)
    a, b = int(pairs.left[pair]), int(pairs.right[pair])
    positions = occurrences(pairs, pair)
    gained = np.empty(2 * len(positions), np.int32)
    n = replaced = 0
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
            lost, slots = find(pairs, slots, other, a)
            pairs.count[lost] -= times
            gain, slots = find(pairs, slots, other, new)
            add(pairs, gain, before, times)
            if pairs.stamp[gain] != merge:
                pairs.stamp[gain] = merge
                gained[n] = gain
                n += 1
        if after >= 0:
            other = int(symbols.symbol[after])
            lost, slots = find(pairs, slots, b, other)
            pairs.count[lost] -= times
            gain, slots = find(pairs, slots, new, other)
            add(pairs, gain, at, times)
            if pairs.stamp[gain] != merge:
                pairs.stamp[gain] = merge
                gained[n] = gain
                n += 1
        _cover(symbols.symbol, at, right, new)
        replaced += times
    pairs.count[pair] = 0
    return gained[:n], slots, replaced


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
