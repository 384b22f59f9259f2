"""Exact quantiles of a signal over all shards, in a memory that does not grow with their number."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

_HALF = 1 << 16


def order_statistics(batches: Callable[[], Iterable[np.ndarray]], ranks: Sequence[int]) -> list[float]:
    """The values that would stand at each of ``ranks`` (from 0) if all values of all batches were sorted.

    ``batches()`` gives arrays of float32 >= 0 (their bits order as they do) and is called twice: once to count by the
    upper half of the bits, once by the lower half of those with the right upper half. Raises IndexError for a rank
    that is not below the number of values.
    """
    upper = np.zeros(_HALF, np.int64)
    for values in batches():
        upper += np.bincount(values.view(np.uint32) >> 16, minlength=_HALF)
    total = np.cumsum(upper)
    if not all(0 <= rank < total[-1] for rank in ranks):
        raise IndexError(f"ranks {list(ranks)} among {total[-1]} values")
    heads = [int(np.searchsorted(total, rank, side="right")) for rank in ranks]
    lower = {head: np.zeros(_HALF, np.int64) for head in heads}
    for values in batches():
        bits = values.view(np.uint32)
        for head, counts in lower.items():
            counts += np.bincount(bits[bits >> 16 == head] & 0xFFFF, minlength=_HALF)
    tails = [
        int(np.searchsorted(np.cumsum(lower[head]), rank - (total[head] - upper[head]), side="right"))
        for head, rank in zip(heads, ranks, strict=True)
    ]
    statistics = [head << 16 | tail for head, tail in zip(heads, tails, strict=True)]
    return np.array(statistics, np.uint32).view(np.float32).astype(float).tolist()
