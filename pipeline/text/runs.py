"""Runs of like bytes, found in windows of some 64 bytes at a time: words, say, of letters.

Where a window's runs start and end are bits of two numbers. So the next run is known without waiting for what is done
with the one before, and no branch depends on how long a run is.
"""

from __future__ import annotations

import numpy as np
from numpy import uint64

from pipeline.text.jit import int64, njit
from pipeline.text.kernels import leading_zeros

#: Bytes of a window: the place after the last has a bit, too.
WINDOW = 63


@njit(cache=True, nogil=True, forceinline=True)
def edges(
    members: np.uint64, alone: np.uint64, size: int | np.int64, closed: bool | np.bool
) -> tuple[np.uint64, np.uint64, np.int64]:
    """``(starts, ends, rest)`` of the runs of set bits among the lowest ``size`` (0 to WINDOW) of ``members``, and of
    those bits of ``alone``, each a run by itself: bits at the first place of each run and at the place after its last.

    A run up to ``size`` has an end only if that is ``closed``. ``rest`` is where what has no end starts, or ``size``.
    """
    inside = (uint64(1) << uint64(size)) - uint64(1)
    members, alone = members & inside, alone & inside
    after = members << uint64(1)
    starts, ends = members & ~after | alone, after & ~members | alone << uint64(1)
    is_open = ends >> uint64(size) & uint64(1) > uint64(closed)
    rest = int64(63) - int64(leading_zeros(starts)) if is_open else int64(size)
    return starts, ends & (inside | uint64(closed) << uint64(size)), rest


@njit(cache=True, nogil=True, forceinline=True)
def without_lowest(bits: np.uint64) -> np.uint64:
    """``bits`` but for the lowest that is set."""
    return bits & (bits - uint64(1))
