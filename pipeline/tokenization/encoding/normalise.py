"""Normalising texts in bulk, as the engine does it one by one.

Unicode's normal forms, lower case and the loss of accents never reach across the left edge of an ASCII character: none
composes with what stands before it, and none is moved. So a text is taken apart into ASCII, which at most becomes lower
case, and *units*: runs of other characters, each with the ASCII character before it, with which it may combine.
Each distinct unit is given to the engine once.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tokenizers.normalizers import Normalizer

from pipeline.text.buffers import text_buffers
from pipeline.text.jit import int64, njit
from pipeline.text.kernels import between64, borrow, copy16, lower16, trailing_zeros

_WINDOW, _COPIED = 64, 16  # bytes that are looked at, and that are copied, together
#: The steps of which this holds, as tokenizer.json names them.
KNOWN = frozenset({"NFC", "NFKC", "NFD", "NFKD", "Lowercase", "StripAccents"})


def normalise(
    texts: pa.StringArray | pa.LargeStringArray,
    normalizer: Normalizer,
    marked: tuple[np.ndarray, np.ndarray] | None = None,
) -> tuple[pa.LargeStringArray, np.ndarray]:
    """``(normalised, places)``: the texts by a ``normalizer`` of KNOWN steps, and where the places ``marked`` are then.

    ``marked`` is (places, bounds), both int64: bytes within the texts, ascending, of which
    ``places[bounds[i]:bounds[i + 1]]`` are text i's.
    """
    data, offsets = text_buffers(texts)
    places, bounds = marked or (np.zeros(0, np.int64), np.zeros(len(texts) + 1, np.int64))
    lower = normalizer.normalize_str("A") == "a"
    starts, ends, owners = _units(data, offsets)
    units = _gathered(data, starts, ends).dictionary_encode()
    changed = [normalizer.normalize_str(unit) for unit in units.dictionary.to_pylist()]
    written, written_bounds = text_buffers(pa.array(changed, pa.large_string()))
    which = units.indices.to_numpy()
    size = int(offsets[-1] - offsets[0] + (np.diff(written_bounds)[which] - (ends - starts)).sum())
    out = np.empty(size + _COPIED, np.uint8)
    moved, inside = np.empty(len(places), np.int64), np.full(len(places), -1, np.int64)
    out_bounds = _rewrite(
        data, offsets, starts, ends, owners, which, written, written_bounds, lower, out, places, bounds, moved, inside
    )
    for place in np.flatnonzero(inside >= 0).tolist():  # within a unit: as long as what comes before it is by itself
        text = int(np.searchsorted(bounds, place, "right")) - 1
        before = bytes(data[starts[inside[place]] : offsets[text] + places[place]]).decode()
        moved[place] += len(normalizer.normalize_str(before).encode())
    array = pa.LargeStringArray.from_buffers(len(texts), pa.py_buffer(out_bounds), pa.py_buffer(out[:size]))
    return array, moved


def prefixed(texts: pa.StringArray | pa.LargeStringArray) -> pa.LargeStringArray:
    """Each of ``texts`` with a space before it; empty ones stay empty."""
    space, nothing = (pa.scalar(part, pa.large_string()) for part in (" ", ""))
    texts = texts.cast(pa.large_string())
    lead = pc.if_else(pc.equal(pc.binary_length(texts), 0), nothing, space)
    return pc.binary_join_element_wise(lead, texts, nothing)


def _gathered(data: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> pa.LargeStringArray:
    bounds = np.concatenate([[0], np.cumsum(ends - starts)])
    copied = _copy(data, starts, ends, np.empty(int(bounds[-1]), np.uint8))
    return pa.LargeStringArray.from_buffers(len(starts), pa.py_buffer(bounds), pa.py_buffer(copied))


@njit(cache=True, nogil=True)
def _copy(data: np.ndarray, starts: np.ndarray, ends: np.ndarray, out: np.ndarray) -> np.ndarray:
    at = 0
    for i in range(len(starts)):
        for k in range(starts[i], ends[i]):
            out[at] = data[k]
            at += 1
    return out


@njit(cache=True, nogil=True)
def _units(data: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``(starts, ends, owners)``: int64 spans of all units in ``data``, and which text each is in."""
    most = (offsets[-1] - offsets[0]) // 2 + 1  # a unit has two bytes at least; what is not used costs no memory
    starts, ends, owners = np.empty(most, np.int64), np.empty(most, np.int64), np.empty(most, np.int64)
    n = 0
    for text in range(len(offsets) - 1):
        at, end = offsets[text], offsets[text + 1]
        while at < end:
            if at + _WINDOW <= end:
                wide = between64(data, at, 0, 0x80, 0xFF)
                at += int64(trailing_zeros(wide))
                if not wide:
                    continue
            elif data[at] < 0x80:
                at += 1
                continue
            starts[n] = max(at - 1, offsets[text])
            while at < end and data[at] >= 0x80:
                at += 1
            ends[n], owners[n] = at, text
            n += 1
    return starts[:n].copy(), ends[:n].copy(), owners[:n].copy()


@njit(cache=True, nogil=True)
def _rewrite(
    data, offsets, starts, ends, owners, which, written, written_bounds, lower, out, places, bounds, moved, inside
):
    """Fill ``out`` with the texts, unit i written as ``which[i]`` says, and ``moved`` with their places.

    Returns int64 offsets into ``out``, which has room for ``_COPIED`` bytes more. A place within unit i is moved to the
    unit's start, and ``inside`` says i.
    """
    data, written, out = borrow(data), borrow(written), borrow(out)
    out_bounds = np.zeros(len(offsets), np.int64)
    filled = unit = 0
    for text in range(len(offsets) - 1):
        base, opened, place = offsets[text], filled, bounds[text]
        at, end = base, offsets[text + 1]
        while at < end:
            is_last = unit == len(starts) or owners[unit] != text
            stop = end if is_last else starts[unit]
            while place < bounds[text + 1] and places[place] < stop - base:
                moved[place] = filled - opened + places[place] - (at - base)
                place += 1
            filled = _copy_ascii(data, at, stop, lower, out, filled)
            at = stop
            if not is_last:
                while place < bounds[text + 1] and places[place] < ends[unit] - base:
                    moved[place] = filled - opened
                    if places[place] > at - base:
                        inside[place] = unit
                    place += 1
                for k in range(written_bounds[which[unit]], written_bounds[which[unit] + 1]):
                    out[filled] = written[k]
                    filled += 1
                at = ends[unit]
                unit += 1
        out_bounds[text + 1] = filled
    return out_bounds


@njit(cache=True, nogil=True, forceinline=True)
def _copy_ascii(data, at, stop, lower, out, filled):
    """Copy ``data[at:stop]``, in lower case if ``lower``, to ``out[filled:]``; where it ends there.

    Less than ``_COPIED`` bytes behind it are written over.
    """
    while at < stop and at + _COPIED <= len(data):
        if lower:
            lower16(out, filled, data, at)
        else:
            copy16(out, filled, data, at, 0)
        step = min(_COPIED, stop - at)
        at += step
        filled += step
    while at < stop:
        byte = data[at]
        out[filled] = byte + 32 if lower and 65 <= byte <= 90 else byte
        at += 1
        filled += 1
    return filled
