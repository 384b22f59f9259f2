"""Texts in capitals, and the same in small letters: models of language have seen hardly any capitals."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy import uint64

from pipeline.text import characters
from pipeline.text.buffers import text_buffers
from pipeline.text.characters import LOWER, UPPER, kind
from pipeline.text.jit import njit
from pipeline.text.kernels import between32, borrow, ones, text_data, trailing_zeros
from pipeline.text.utf8 import width


def folded(texts: pa.StringArray) -> pa.StringArray:
    """``texts``, those in small letters whose letters are mostly capitals; all others as they are."""
    data, offsets = text_buffers(texts)
    capital = _mostly_capitals(text_data(data), offsets, characters.table())
    if not capital.any():
        return texts
    mask = pa.array(capital)
    return pc.replace_with_mask(texts, mask, pc.utf8_lower(texts.filter(mask)))


@njit(cache=True, nogil=True)
def _mostly_capitals(data, offsets, table):
    data, table = borrow(data), borrow(table)
    mostly = np.zeros(len(offsets) - 1, np.bool_)
    for text in range(len(offsets) - 1):
        at, end, upper, lower = offsets[text], offsets[text + 1], 0, 0
        while at < end:
            if data[at] < 0x80 and at + 32 <= len(data):  # most often
                others = between32(data, at, 0, 0x80, 0xFF) | uint64(1 << 32)
                size = min(np.int64(trailing_zeros(others)), end - at)
                these = (uint64(1) << uint64(size)) - uint64(1)
                upper += np.int64(ones(between32(data, at, 0, ord("A"), ord("Z")) & these))
                lower += np.int64(ones(between32(data, at, 0, ord("a"), ord("z")) & these))
                at += size
                continue
            case = kind(data, at, table) & (UPPER | LOWER)  # letters of scripts without case have both
            upper += case == UPPER
            lower += case == LOWER
            at += width(data[at])
        mostly[text] = upper > lower
    return mostly
