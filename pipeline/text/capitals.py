"""Texts in capitals, and the same in small letters: models of language have seen hardly any capitals."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.text import characters
from pipeline.text.buffers import text_buffers
from pipeline.text.characters import LOWER, UPPER, kind
from pipeline.text.jit import njit
from pipeline.text.kernels import borrow, text_data
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
            case = kind(data, at, table) & (UPPER | LOWER)  # letters of scripts without case have both
            upper += case == UPPER
            lower += case == LOWER
            at += width(data[at])
        mostly[text] = upper > lower
    return mostly
