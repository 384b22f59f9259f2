"""Groups of candidates to edges, by the exact Jaccard similarity of their shingle sets.

A group may be all pages of one template, a hundred thousand of them; comparing all pairs is out of the question, and
for the clusters it is not needed. Each group is covered by balls: a leader, and members that are similar to it at a
known distance (1 - similarity).

- A ball is connected, so a document that is similar to its leader need not be compared with its members; near copies
  cost one comparison each.
- The Jaccard distance obeys the triangle inequality, so a document far from the leader cannot be similar to a member
  that is near it; such members, mostly whole balls, are passed over.
- Unlike pages of one template make a ball each. How much two sets can have in common at most is read off two bitmaps
  (Sandes, Teodoro and Melo 2020, "Bitmap filter"), much faster than comparing them.

None of this changes the components that all pairs would give. Only the bound on the work does, and it is counted.
"""

from __future__ import annotations

import numpy as np
from numpy import uint64

from pipeline.text.jit import njit
from pipeline.text.kernels import words_at

#: Slack for the rounding of similarities in the triangle inequality.
_ROUNDING = 1e-9

#: Groups from this size on use bitmaps, of four bits an element, at most this many 64-bit words.
_BITMAP_GROUP, _BITMAP_WORDS = 32, 256


@njit(cache=True, nogil=True)
def similarity(x, y, at_least):
    """The Jaccard similarity of two ascending arrays of distinct values, or -1 as soon as it is under ``at_least``."""
    required = _required(len(x), len(y), at_least)
    spare_x, spare_y = len(x) - required, len(y) - required
    i, j, common = 0, 0, 0
    while i < len(x) and j < len(y):
        if i - common > spare_x or j - common > spare_y:
            return -1.0
        left, right = x[i], y[j]
        i += left <= right
        j += right <= left
        common += left == right
    jaccard = common / (len(x) + len(y) - common)
    return jaccard if jaccard >= at_least else -1.0


@njit(cache=True, nogil=True)
def compare(sets, places, x, y, at_least):
    """The similarity of the sets at ``places`` (see ``join_groups``) ``x`` and ``y``, or -1 if under ``at_least``."""
    return similarity(_set(sets, places, x), _set(sets, places, y), at_least)


@njit(cache=True, nogil=True)
def find(parent, x):
    """The root of ``x`` in the forest ``parent`` (int64), halving the path to it."""
    while parent[x] != x:
        parent[x] = parent[parent[x]]
        x = parent[x]
    return x


@njit(cache=True, nogil=True)
def join_groups(sets, places, starts, repeat, threshold, limit):
    """Edges that connect, in each group, what all pairs of similarity ``threshold`` or more connect.

    ``sets`` int64: where in memory arrays of uint64 begin. ``places`` int64 [n, 3]: the set of document x is what array
    ``places[x, 0]`` holds from ``places[x, 1]`` to ``places[x, 2]``, ascending and distinct. Group g is the documents
    ``starts[g]:starts[g + 1]``.
    ``repeat`` bool [n]: the document's set equals that of the document before it.

    ``limit`` bounds the work: a group has at most so many balls, and a document is compared with at most so many
    members of them. Returns the edges, int64 ``a`` and ``b``, and the number of documents for which this left a
    comparison out.
    """
    n = len(places)
    a, b = np.empty(n, np.int64), np.empty(n, np.int64)
    parent = np.arange(n)
    next_member, distance = np.full(n, -1), np.zeros(n)  # a ball's members: a list that starts at its leader
    leaders, radius = np.empty(limit, np.int64), np.empty(limit)  # one entry a ball, new for each group
    bitmaps, bitmap = np.empty((0, 0), np.uint64), np.empty(0, np.uint64)
    count, curtailed, first = 0, 0, 0
    for g in range(len(starts) - 1):
        start, end = starts[g], starts[g + 1]
        words = 0
        if end - start >= _BITMAP_GROUP:
            words = _bitmap_words(places, start, end)
            bitmaps = np.empty((min(limit, end - start), words), np.uint64)
            bitmap = np.empty(words, np.uint64)
        balls = 0
        for x in range(start, end):
            if repeat[x]:
                a[count], b[count] = first, x
                count += 1
                continue
            first = x
            set_x = _set(sets, places, x)
            _fill(bitmap[:words], set_x)
            left, complete, placed = limit, True, False
            for ball in range(balls):
                leader = leaders[ball]
                if find(parent, leader) == find(parent, x):
                    continue
                bound = threshold - radius[ball] - _ROUNDING
                if words:
                    size = places[leader, 2] - places[leader, 1]
                    unlike = _differing(bitmap, bitmaps[ball])  # at least so many elements are in one set only
                    if len(set_x) + size - unlike < 2 * _required(len(set_x), size, bound):
                        continue
                close, partner = similarity(set_x, _set(sets, places, leader), bound), -1
                if close >= threshold:
                    partner = leader
                    if not placed:
                        placed, distance[x] = True, 1 - close
                        radius[ball] = max(radius[ball], distance[x])
                        next_member[x], next_member[leader] = next_member[leader], x
                elif close >= 0:
                    member = next_member[leader]
                    while member >= 0 and partner < 0:
                        if close + distance[member] >= threshold - _ROUNDING:
                            if left == 0:
                                complete = False
                                break
                            left -= 1
                            if compare(sets, places, x, member, threshold) >= threshold:
                                partner = member
                        member = next_member[member]
                if partner >= 0:
                    a[count], b[count] = partner, x
                    count += 1
                    parent[find(parent, x)] = find(parent, partner)
            if not placed and balls < limit:
                leaders[balls], radius[balls] = x, 0.0
                if words:
                    bitmaps[balls] = bitmap
                balls += 1
            elif not placed:
                complete = False
            curtailed += not complete
    return a[:count].copy(), b[:count].copy(), curtailed


@njit(cache=True, nogil=True)
def _set(sets, places, x):
    start, end = places[x, 1], places[x, 2]
    return words_at(sets[places[x, 0]] + 8 * start, end - start)


@njit(cache=True, nogil=True)
def _required(size_x, size_y, at_least):
    """The least number of common elements with which two sets can have a similarity of ``at_least``."""
    if at_least <= 0:
        return 0
    return int(np.ceil(at_least / (1 + at_least) * (size_x + size_y) - _ROUNDING))


@njit(cache=True, nogil=True)
def _bitmap_words(places, start, end):
    elements = 0
    for x in range(start, end):
        elements += places[x, 2] - places[x, 1]
    words = 8
    while words < _BITMAP_WORDS and words * 64 < 4 * elements / (end - start):
        words *= 2
    return words


@njit(cache=True, nogil=True)
def _fill(bitmap, values):
    """Of the elements that hash to a bit, its parity; the number of words is a power of two (or none)."""
    bitmap[:] = 0
    if len(bitmap) == 0:
        return
    mask = uint64(len(bitmap) - 1)
    for value in values:
        bitmap[(value >> uint64(6)) & mask] ^= uint64(1) << (value & uint64(63))


@njit(cache=True, nogil=True)
def _differing(x, y):
    """The number of bits that differ; each stands for an element, one at least, that only one of the sets has."""
    count = uint64(0)
    for k in range(len(x)):
        count += _ones(x[k] ^ y[k])
    return np.int64(count)


@njit(cache=True, nogil=True, inline="always")
def _ones(bits):
    """The number of bits that are set."""
    bits = bits - ((bits >> uint64(1)) & uint64(0x5555555555555555))
    bits = (bits & uint64(0x3333333333333333)) + ((bits >> uint64(2)) & uint64(0x3333333333333333))
    bits = (bits + (bits >> uint64(4))) & uint64(0x0F0F0F0F0F0F0F0F)
    return (bits * uint64(0x0101010101010101)) >> uint64(56)
