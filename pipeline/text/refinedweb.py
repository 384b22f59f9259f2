"""The line rules of RefinedWeb (Penedo et al. 2023, appendix G.2), with the limits of DCLM's reproduction.

A line (between newlines, empty ones left alone) is dropped if more than half of its characters are upper-case, if it
has digits only, if it counts something ("3 likes"), or if it is a single word. From lines of at most ten words the
phrases "items in cart", "Read more..." at the end and "Sign-in" at the start are cut out. Words are runs without
whitespace.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa

from pipeline.text import characters, spans
from pipeline.text.buffers import text_buffers
from pipeline.text.c4 import with_room
from pipeline.text.characters import LETTER, LOWER, NUMERAL, SPACE, UPPER, kind
from pipeline.text.jit import njit
from pipeline.text.kernels import ZERO, borrow, text_data
from pipeline.text.lines import find_byte, spells, strip
from pipeline.text.utf8 import previous, width

#: One record a document; ``removed_words`` are those of dropped lines and cut phrases.
COUNTS = np.dtype([("words", np.int64), ("removed_words", np.int64)])

_SHORT = 10  # words of the longest line that phrases are cut from
_COUNTED = """
    likes shares comments retweets reposts quotes bookmarks upvotes downvotes downloads views followers
"""


def _bytes(text: str) -> np.ndarray:
    return np.frombuffer(text.encode(), np.uint8)


_CART, _READ_MORE, _SIGN_IN = _bytes("items in cart"), _bytes("read more..."), _bytes("sign-in")
_UNITS = tuple(_bytes(word) for word in _COUNTED.split())


class Counted(NamedTuple):
    """What was counted in n documents: ``counts`` COUNTS [n]; ``spans`` what the line rules cut."""

    counts: np.ndarray
    spans: pa.ListArray


def count(texts: pa.StringArray, max_uppercase: float | np.ndarray = 0.5) -> Counted:
    """Counts the documents ``texts``; lines with a larger share of upper-case characters (float64 [n], or one for all)
    are dropped."""
    data, offsets = text_buffers(texts)
    counts = np.zeros(len(texts), COUNTS)
    limits = np.broadcast_to(np.asarray(max_uppercase, np.float64), len(texts)).copy()
    cut_offsets, cuts = _count(text_data(data), offsets, characters.table(), limits, counts)
    return Counted(counts, spans.from_ranges(cut_offsets, cuts[:, 0], cuts[:, 1]))


@njit(cache=True, nogil=True)
def _count(data, offsets, table, max_uppercase, counts):
    data, table = borrow(data), borrow(table)
    cuts, total = np.empty((1024, 2), np.int64), ZERO
    cut_offsets = np.zeros(len(offsets), np.int64)
    for text in range(len(offsets) - 1):
        begin, end = offsets[text], offsets[text + 1]
        row, at = counts[text], begin
        while at < end:
            stop = find_byte(data, at, end, ord("\n"))
            words, dropped = _judge(data, at, stop, table, max_uppercase[text])
            row.words += words
            if total + _SHORT > len(cuts):
                cuts = with_room(cuts, total, _SHORT)
            first, cut_words = total, 0
            if not dropped and 0 < words <= _SHORT:
                total, cut_words = _cut_phrases(data, at, stop, table, cuts, total)
                dropped = cut_words > 0 and _is_blank(data, at, stop, table, cuts[first:total])
            row.removed_words += words if dropped else cut_words
            if dropped:
                cuts[first, 0], cuts[first, 1] = at, min(stop + 1, end)
                total = first + 1
            at = stop + 1
        for k in range(cut_offsets[text], total):
            cuts[k, 0], cuts[k, 1] = cuts[k, 0] - begin, cuts[k, 1] - begin
        cut_offsets[text + 1] = total
    return cut_offsets, cuts[:total]


@njit(cache=True, nogil=True)
def _judge(data, start, end, table, max_uppercase):
    """``(words, dropped)`` of a line; one without words stays."""
    words, characters, upper, digits, inside = 0, 0, 0, 0, False
    at = start
    while at < end:
        this = kind(data, at, table)
        words += not this & SPACE and not inside
        inside = not this & SPACE
        characters += 1
        upper += this & (UPPER | LOWER) == UPPER
        digits += this & NUMERAL > 0
        at += width(data[at])
    if words == 0:
        return 0, False
    dropped = upper > max_uppercase * characters or digits == characters or words == 1
    return words, dropped or (words < _SHORT and _is_counter(data, start, end, table))


@njit(cache=True, nogil=True)
def _is_counter(data, at, end, table):
    """A number such as 1,024 or 3.5K, whitespace and one of the things that are counted; other marks around them."""
    while at < end and not _is_word_character(data, at, table):
        at += width(data[at])
    if at == end or not kind(data, at, table) & NUMERAL:
        return False
    while at < end and (data[at] == ord(",") or data[at] == ord(".") or kind(data, at, table) & NUMERAL):
        at += width(data[at])
    letter = data[at] | 32 if at < end else 0
    if letter == ord("k") or letter == ord("m") or letter == ord("b"):
        at += 1
    if at == end or not kind(data, at, table) & SPACE:
        return False
    at, _ = strip(data, at, end, table)
    stop = at
    while stop < end and _is_word_character(data, stop, table):
        stop += width(data[stop])
    counted = False
    for unit in _UNITS:
        counted |= stop - at == len(unit) and spells(data, at, stop, at, unit)
    while stop < end and not _is_word_character(data, stop, table):
        stop += width(data[stop])
    return counted and stop == end


@njit(cache=True, nogil=True)
def _is_word_character(data, at, table):
    return data[at] == ord("_") or kind(data, at, table) & (LETTER | NUMERAL) > 0


@njit(cache=True, nogil=True)
def _cut_phrases(data, start, end, table, cuts, total):
    """``(total, words)``: the phrases of a line, each with one space before it (after it at the start), as cuts."""
    words, at = 0, start
    if spells(data, start, end, start, _SIGN_IN):
        at = start + len(_SIGN_IN)
        at += width(data[at]) if at < end and kind(data, at, table) & SPACE else 0
        cuts[total, 0], cuts[total, 1] = start, at
        total, words = total + 1, 1
    last = end - len(_READ_MORE)
    more = spells(data, at, end, last, _READ_MORE)
    stop = _with_space_before(data, at, last, table) if more else end
    while at < stop:
        if spells(data, at, stop, at, _CART):
            begin = _with_space_before(data, cuts[total - 1, 1] if words else start, at, table)
            at += len(_CART)
            cuts[total, 0], cuts[total, 1] = begin, at
            total, words = total + 1, words + 3
        else:
            at += width(data[at])
    if more:
        cuts[total, 0], cuts[total, 1] = stop, end
        total, words = total + 1, words + 2
    return total, words


@njit(cache=True, nogil=True)
def _with_space_before(data, start, at, table):
    """Where the whitespace character before ``at`` starts, if there is one after ``start``."""
    return previous(data, at) if at > start and kind(data, previous(data, at), table) & SPACE else at


@njit(cache=True, nogil=True)
def _is_blank(data, at, end, table, cuts):
    """Whether nothing but whitespace is left of a line after the cuts in it."""
    for k in range(len(cuts) + 1):
        stop = cuts[k, 0] if k < len(cuts) else end
        first, last = strip(data, at, stop, table)
        if first < last:
            return False
        at = cuts[k, 1] if k < len(cuts) else end
    return True
