"""Byte ranges of texts: cut out, overwritten, united, and carried from an edited text back to the original.

Ranges are arrays of type ``ledger.SPANS``: for each text a list of ``{start, end}`` in bytes of its UTF-8, sorted and
disjoint; a null list says the same as an empty one. The functions return lists without nulls.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.text.buffers import string_array, text_buffers
from pipeline.text.jit import njit
from pipeline.text.utf8 import continues


def from_ranges(offsets: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> pa.ListArray:
    """``ledger.SPANS``: text ``i`` has the ranges ``[starts[k], ends[k])`` for k in ``offsets[i]..offsets[i + 1]``.

    ``offsets`` int [n + 1] from 0, ``starts`` and ``ends`` int [offsets[n]], relative to the text's first byte.
    """
    narrow = [pa.array(values.astype(np.int32)) for values in (starts, ends)]
    ranges = pa.StructArray.from_arrays(narrow, fields=list(SPANS.value_type))
    return pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), ranges, type=SPANS)


def to_ranges(spans: pa.ListArray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The inverse of ``from_ranges``: int64 ``(offsets [n + 1], starts, ends)``; a null list has no ranges."""
    offsets = np.zeros(len(spans) + 1, np.int64)
    np.cumsum(spans.value_lengths().fill_null(0).to_numpy(zero_copy_only=False), out=offsets[1:])
    starts, ends = (column.to_numpy(zero_copy_only=False).astype(np.int64) for column in spans.flatten().flatten())
    return offsets, starts, ends


def cut(texts: pa.StringArray, spans: pa.ListArray) -> pa.StringArray:
    """``texts`` without the bytes in ``spans``, one list of ranges a text.

    Raises ValueError, naming the row, for ranges that overlap, leave the text or split a UTF-8 character.
    """
    _same_length(texts, spans)
    cuts = to_ranges(spans)
    if len(cuts[1]) == 0:
        return texts
    data, offsets = text_buffers(texts)
    kept = np.zeros(len(texts) + 1, np.int64)
    bad = _sizes_after_cut(data, offsets, *cuts, kept[1:])
    if bad >= 0:
        raise ValueError(
            f"text {bad}: {spans[bad].as_py()} are not sorted, disjoint ranges of whole characters in its "
            f"{offsets[bad + 1] - offsets[bad]} bytes"
        )
    np.cumsum(kept, out=kept)
    out = np.empty(kept[-1], np.uint8)
    _copy_after_cut(data, offsets, *cuts, kept, out)
    return string_array(out, kept)


def overwrite(texts: pa.StringArray, ranges: pa.ListArray, fill: pa.StringArray) -> pa.StringArray:
    """``texts`` with other bytes in ``ranges``: those of the ASCII string ``fill`` of each, one range after the other.

    Raises ValueError, naming the row, unless the ranges are sorted, disjoint, of whole characters and together as long
    as the string, and for a string that is not ASCII. A null string is an empty one.
    """
    _same_length(texts, ranges)
    _same_length(texts, fill)
    places = to_ranges(ranges)
    if len(places[1]) == 0:
        return texts
    data, offsets = text_buffers(texts)
    fill_data, fill_offsets = text_buffers(fill)
    rest = np.zeros(len(texts), np.int64)
    bad = _sizes_after_cut(data, offsets, *places, rest)
    if bad < 0:
        wrong = np.diff(offsets) - rest != np.diff(fill_offsets)
        foreign = fill_offsets[0] + np.flatnonzero(fill_data[fill_offsets[0] : fill_offsets[-1]] >= 0x80)
        wrong[np.searchsorted(fill_offsets, foreign, "right") - 1] = True
        bad = int(np.argmax(wrong)) if wrong.any() else -1
    if bad >= 0:
        raise ValueError(f"text {bad}: {ranges[bad].as_py()} are no place for the ASCII string {fill[bad].as_py()!r}")
    out = data[offsets[0] : offsets[-1]].copy()
    _fill(out, offsets - offsets[0], *places, fill_data, fill_offsets)
    return string_array(out, offsets - offsets[0])


def merge(many: Sequence[pa.ListArray]) -> pa.ListArray:
    """For each text the union of its ranges in all of ``many`` (at least one array): touching ranges become one."""
    for spans in many[1:]:
        _same_length(many[0], spans)
    parts = [to_ranges(spans) for spans in many]
    text = np.concatenate([np.repeat(np.arange(len(offsets) - 1), np.diff(offsets)) for offsets, _, _ in parts])
    starts = np.concatenate([starts for _, starts, _ in parts])
    ends = np.concatenate([ends for _, _, ends in parts])
    later = np.diff(text)
    if not ((later > 0) | ((later == 0) & (np.diff(starts) > 0))).all():  # most are in order, and sorting is slow
        order = np.lexsort((ends, starts, text))
        text, starts, ends = text[order], starts[order], ends[order]
    return from_ranges(*_coalesce(text, starts, ends, len(many[0])))


def lift(spans: pa.ListArray, cuts: pa.ListArray) -> pa.ListArray:
    """``spans``, ranges of ``cut(texts, cuts)``, as ranges of ``texts``.

    ``cut(cut(texts, cuts), spans) == cut(texts, merge([cuts, lift(spans, cuts)]))``. A range that reaches over a cut is
    split there, so that the result never overlaps ``cuts`` and covers as many bytes as ``spans``.
    """
    _same_length(spans, cuts)
    return from_ranges(*_lift(*to_ranges(spans), *to_ranges(cuts)))


def covered(spans: pa.ListArray) -> np.ndarray:
    """int64 [n]: how many bytes the spans of each row cover; those of a row do not overlap."""
    flat = spans.flatten()
    sizes = flat.field("end").to_numpy().astype(np.int64) - flat.field("start").to_numpy()
    parent = pc.list_parent_indices(spans).to_numpy()
    return np.bincount(parent, sizes, minlength=len(spans)).astype(np.int64)


def _same_length(one: pa.Array, other: pa.Array) -> None:
    if len(one) != len(other):
        raise ValueError(f"arrays of {len(one)} and {len(other)} texts do not belong together")


@njit(cache=True, nogil=True)
def _sizes_after_cut(data, offsets, span_offsets, starts, ends, sizes):
    """Fills ``sizes`` [n]; returns the first text whose ranges are not valid, or -1."""
    for text in range(len(sizes)):
        base, length = offsets[text], offsets[text + 1] - offsets[text]
        removed, before = 0, 0
        for k in range(span_offsets[text], span_offsets[text + 1]):
            if not before <= starts[k] <= ends[k] <= length:
                return text
            for edge in (starts[k], ends[k]):
                if edge < length and continues(data[base + edge]):
                    return text
            removed += ends[k] - starts[k]
            before = ends[k]
        sizes[text] = length - removed
    return -1


@njit(cache=True, nogil=True)
def _copy_after_cut(data, offsets, span_offsets, starts, ends, kept, out):
    for text in range(len(offsets) - 1):
        at, source = kept[text], offsets[text]
        for k in range(span_offsets[text], span_offsets[text + 1]):
            size = offsets[text] + starts[k] - source
            out[at : at + size] = data[source : source + size]
            at += size
            source = offsets[text] + ends[k]
        out[at : kept[text + 1]] = data[source : offsets[text + 1]]


@njit(cache=True, nogil=True)
def _fill(out, offsets, span_offsets, starts, ends, fill, fill_offsets):
    for text in range(len(offsets) - 1):
        source = fill_offsets[text]
        for k in range(span_offsets[text], span_offsets[text + 1]):
            size = ends[k] - starts[k]
            out[offsets[text] + starts[k] : offsets[text] + ends[k]] = fill[source : source + size]
            source += size


@njit(cache=True, nogil=True)
def _coalesce(text, starts, ends, texts):
    """Ranges sorted by (text, start), united where they touch; empty ones vanish."""
    offsets = np.zeros(texts + 1, np.int64)
    out_starts, out_ends = np.empty_like(starts), np.empty_like(ends)
    count, last = 0, -1
    for k in range(len(text)):
        if starts[k] == ends[k]:
            continue
        if text[k] == last and starts[k] <= out_ends[count - 1]:
            out_ends[count - 1] = max(out_ends[count - 1], ends[k])
            continue
        out_starts[count], out_ends[count], last = starts[k], ends[k], text[k]
        offsets[last + 1] += 1
        count += 1
    return np.cumsum(offsets), out_starts[:count], out_ends[:count]


@njit(cache=True, nogil=True)
def _lift(span_offsets, starts, ends, cut_offsets, cut_starts, cut_ends):
    out_offsets = np.zeros_like(span_offsets)
    out_starts = np.empty(len(starts) + len(cut_starts), np.int64)
    out_ends = np.empty_like(out_starts)
    count = 0
    for text in range(len(span_offsets) - 1):
        c, last_cut = cut_offsets[text], cut_offsets[text + 1]
        removed = 0  # bytes of the cuts passed so far: a place in the edited text is the place here less this
        for k in range(span_offsets[text], span_offsets[text + 1]):
            start = starts[k]
            while start < ends[k]:
                while c < last_cut and cut_starts[c] - removed <= start:
                    removed += cut_ends[c] - cut_starts[c]
                    c += 1
                end = ends[k] if c == last_cut else min(ends[k], cut_starts[c] - removed)
                out_starts[count], out_ends[count] = start + removed, end + removed
                count += 1
                start = end
        out_offsets[text + 1] = count
    return out_offsets, out_starts[:count], out_ends[:count]


SPANS = pa.list_(pa.struct([("start", pa.int32()), ("end", pa.int32())]))
