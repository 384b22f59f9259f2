"""Cuts from which a text comes out well joined: no two words as one, no doubled spaces, no run of empty lines.

Of the whitespace before a cut and after it one run stays: the one with more line ends, so that paragraphs stay apart;
at the ends of a text none stays. Where two words would meet, a space that was to be cut stays between them; if there is
none, a character of the cut becomes one, because an edit may overwrite but not insert. Scripts without spaces between
words need none.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa

from pipeline.text import characters, spans
from pipeline.text.buffers import string_array, text_buffers
from pipeline.text.characters import ALONE, CLUSTER, JOINING, LETTER, NUMERAL, SPACE, kind
from pipeline.text.jit import njit
from pipeline.text.kernels import text_data
from pipeline.text.utf8 import previous, width


class Tidied(NamedTuple):
    """``cuts`` and ``overwrites`` (ledger.SPANS), and the spaces that the latter become, as ``spans.overwrite`` takes
    them.
    """

    cuts: pa.ListArray
    overwrites: pa.ListArray
    fill: pa.StringArray


def tidy(texts: pa.StringArray, cuts: pa.ListArray, whitespace: bool = True) -> Tidied:
    """``cuts`` of ``texts`` (whole characters, in any order) with the whitespace around them. Cuts of nothing but
    whitespace vanish. Without ``whitespace`` the cuts stay as they are but for the space between two words.
    """
    data, offsets = text_buffers(texts)
    seams = _tidy(text_data(data), offsets, *spans.to_ranges(spans.merge([cuts])), characters.table(), whitespace)
    cut_offsets, starts, ends, over_offsets, over_starts, over_ends = seams
    sizes = np.concatenate([[0], np.cumsum(over_ends - over_starts)])[over_offsets]
    fill = string_array(np.full(sizes[-1], ord(" "), np.uint8), sizes)
    return Tidied(
        spans.from_ranges(cut_offsets, starts, ends), spans.from_ranges(over_offsets, over_starts, over_ends), fill
    )


def columns(tidied: Tidied, before: pa.ListArray | None) -> dict[str, pa.Array]:
    """The ledger's columns of edits of texts from which ``before`` had been cut, in coordinates of the whole texts."""
    cuts, overwrites, fill = tidied
    if before is not None:
        cuts, overwrites = spans.lift(cuts, before), spans.lift(overwrites, before)
    return {"spans": cuts, "overwrites": overwrites, "overwritten_with": fill}


@njit(cache=True, nogil=True)
def _tidy(data, offsets, span_offsets, starts, ends, table, whitespace):
    texts = len(offsets) - 1
    cut_offsets, over_offsets = np.zeros(texts + 1, np.int64), np.zeros(texts + 1, np.int64)
    cuts, overs = np.empty((2, 2 * len(starts)), np.int64), np.empty((2, len(starts)), np.int64)
    cut, over = 0, 0
    for text in range(texts):
        begin, end = offsets[text], offsets[text + 1]
        k = span_offsets[text]
        while k < span_offsets[text + 1]:
            first, last = begin + starts[k], begin + ends[k]
            if whitespace:
                first = _after_space(data, first, last, table)
                last = _before_space(data, first, last, table)
            k += 1
            if first == last:
                continue
            left, right = first, last
            if whitespace:
                # cuts with nothing but whitespace between them are one
                while k < span_offsets[text + 1] and _after_space(data, last, end, table) >= begin + starts[k]:
                    last = max(last, _before_space(data, begin + starts[k], begin + ends[k], table))
                    k += 1
                left = _before_space(data, begin, first, table)
                right = _after_space(data, last, end, table)
            if left == begin or right == end:
                cuts[0, cut], cuts[1, cut] = left - begin, right - begin
                cut += 1
                continue
            if left < first or last < right:
                if _keeps_left(data, left, first, last, right):
                    cuts[0, cut], cuts[1, cut] = first - begin, right - begin
                else:
                    cuts[0, cut], cuts[1, cut] = left - begin, last - begin
                cut += 1
                continue
            if not (
                _in_spaced_word(data, previous(data, first), begin, table) and _in_spaced_word(data, last, last, table)
            ):
                cuts[0, cut], cuts[1, cut] = first - begin, last - begin
                cut += 1
                continue
            at, overwritten = _separator(data, first, last, table)
            after = at + width(data[at])
            if overwritten:
                overs[0, over], overs[1, over] = at - begin, after - begin
                over += 1
            for low, high in ((first, at), (after, last)):
                if low < high:
                    cuts[0, cut], cuts[1, cut] = low - begin, high - begin
                    cut += 1
        cut_offsets[text + 1], over_offsets[text + 1] = cut, over
    return cut_offsets, cuts[0, :cut], cuts[1, :cut], over_offsets, overs[0, :over], overs[1, :over]


@njit(cache=True, nogil=True)
def _after_space(data, at, end, table):
    """The first place of ``data[at:end]`` that is no whitespace."""
    while at < end and kind(data, at, table) & SPACE:
        at += width(data[at])
    return at


@njit(cache=True, nogil=True)
def _before_space(data, start, at, table):
    """Where the whitespace at the end of ``data[start:at]`` begins."""
    while at > start and kind(data, previous(data, at), table) & SPACE:
        at = previous(data, at)
    return at


@njit(cache=True, nogil=True)
def _keeps_left(data, left, first, last, right):
    """Whether of the whitespace before a cut and after it the former stays: more line ends, or the shorter run."""
    before, after = 0, 0
    for byte in data[left:first]:
        before += byte == 10
    for byte in data[last:right]:
        after += byte == 10
    if before != after:
        return before > after
    if before or left == first:  # the indentation of the line that follows
        return False
    return last == right or first - left <= right - last


@njit(cache=True, nogil=True)
def _in_spaced_word(data, at, begin, table):
    """Whether the character at ``at``, with the marks on it, belongs to a word of a script that writes spaces."""
    while at > begin and kind(data, at, table) & JOINING:
        at = previous(data, at)
    flags = kind(data, at, table)
    return (data[at] == ord("_") or flags & (LETTER | NUMERAL | JOINING) > 0) and flags & (ALONE | CLUSTER) == 0


@njit(cache=True, nogil=True)
def _separator(data, first, last, table):
    """``(place, overwrite)`` of the character that stays as a space: whitespace, else one of ASCII, else the first."""
    at, chosen = first, -1
    while at < last:
        if kind(data, at, table) & SPACE:
            return at, False
        if chosen < 0 and data[at] < 0x80:
            chosen = at
        at += width(data[at])
    return (chosen if chosen >= 0 else first), True
