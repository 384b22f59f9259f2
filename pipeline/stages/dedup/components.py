"""The connected components of edges that do not fit in memory, in two passes over the documents.

Documents are numbered; a range of ``SPAN`` of them is in memory at a time. Each edge lies in the range of its higher
end. From the last range to the first, the edges of a range are united among its documents; where a component reaches
below the range, only its lowest neighbour is kept for it, and each further one is joined to that by an edge among lower
documents, which goes to a range still to come. So edges never become more, however many meet in one document. From the
first range to the last, the documents then take the component of the neighbour that was kept.

What is as long as the corpus lies in files that are mapped: 8 bytes a document for its component, 12 for the sizes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from pipeline.stages.dedup.similarity_join import find
from pipeline.text.jit import njit

#: Documents of which 16 bytes each are in memory.
SPAN = 1 << 22
#: Edges read at once.
_BLOCK = 1 << 20


def components(
    documents: int, edges: Iterable[tuple[np.ndarray, np.ndarray]], folder: Path, chunk: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The components of more than one of the documents 0 to ``documents``, for any order of the edges.

    Yields ``(members, roots)``, int64: documents, ascending, and the lowest document of the component of each; together
    about ``chunk`` of them or less, unless one component has more; no component is in two of them. ``folder`` is an
    empty folder for what does not fit in memory.
    """
    if not documents:
        return
    roots = np.memmap(folder / "roots", np.int64, "w+", shape=(documents,))
    _unite(documents, edges, folder, roots)
    sizes = np.memmap(folder / "sizes", np.int64, "w+", shape=(documents,))
    for first in range(0, documents, SPAN):
        root, count = np.unique(roots[first : first + SPAN], return_counts=True)
        sizes[root] += count
    yield from _chunks(roots, sizes, folder, chunk)


def _unite(documents: int, edges: Iterable[tuple[np.ndarray, np.ndarray]], folder: Path, roots: np.ndarray) -> None:
    """Write the lowest document of its component of each document to ``roots``."""
    for a, b in edges:
        _sort_in(folder, np.maximum(a, b), np.minimum(a, b))
    for first in reversed(range(0, documents, SPAN)):
        count = min(SPAN, documents - first)
        parent, lowest = np.arange(count), np.full(count, -1)
        path = folder / f"edges-{first // SPAN}"
        for block in _blocks(path):
            high, low = _join(parent, lowest, first, block[:, 0], block[:, 1])
            _sort_in(folder, high, low)
        path.unlink(missing_ok=True)
        roots[first : first + count] = _kept(parent, lowest, first)
    for first in range(SPAN, documents, SPAN):
        here = np.array(roots[first : first + SPAN])
        below = here < first
        lower, entry = np.unique(here[below], return_inverse=True)  # in order, so that the file is read forwards
        here[below] = roots[lower][entry]
        roots[first : first + SPAN] = here


def _sort_in(folder: Path, high: np.ndarray, low: np.ndarray) -> None:
    """Append edges to the files of the ranges of their higher ends."""
    span = high // SPAN
    order = np.argsort(span, kind="stable")
    pairs, span = np.stack([high, low], axis=1)[order], span[order]
    for number in np.unique(span).tolist():
        first, last = np.searchsorted(span, [number, number + 1])
        with (folder / f"edges-{number}").open("ab") as handle:
            pairs[first:last].tofile(handle)


def _blocks(path: Path) -> Iterator[np.ndarray]:
    """The edges in ``path``, int64 [n, 2]."""
    if path.exists():
        with path.open("rb") as handle:
            while len(block := np.fromfile(handle, np.int64, 2 * _BLOCK)):
                yield block.reshape(-1, 2)


@njit(cache=True, nogil=True)
def _join(parent, lowest, first, high, low):
    """Unite the edges in the range that begins with ``first``; returns those that go to lower ranges.

    ``lowest``: of each root of ``parent`` its lowest neighbour below the range, or -1.
    """
    out_high, out_low, count = np.empty(len(high), np.int64), np.empty(len(high), np.int64), 0
    for i in range(len(high)):
        x = find(parent, high[i] - first)
        if low[i] >= first:
            y = find(parent, low[i] - first)
            if x == y:
                continue
            parent[max(x, y)] = min(x, y)
            one, other, x = lowest[x], lowest[y], min(x, y)
        else:
            one, other = lowest[x], low[i]
        if one >= 0 and other >= 0 and one != other:
            out_high[count], out_low[count] = max(one, other), min(one, other)
            count += 1
        lowest[x] = max(one, other) if one < 0 or other < 0 else min(one, other)
    return out_high[:count].copy(), out_low[:count].copy()


@njit(cache=True, nogil=True)
def _kept(parent, lowest, first):
    """Of each document of the range the lowest neighbour below it of its component; if there is none, its root."""
    kept = np.empty(len(parent), np.int64)
    for x in range(len(parent)):
        root = find(parent, x)
        kept[x] = lowest[root] if lowest[root] >= 0 else root + first
    return kept


def _chunks(roots: np.ndarray, sizes: np.ndarray, folder: Path, chunk: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    parts = np.memmap(folder / "parts", np.int32, "w+", shape=(len(roots),))
    total, used = 0, set[int]()
    for first in range(0, len(roots), SPAN):
        size = np.where(sizes[first : first + SPAN] > 1, sizes[first : first + SPAN], 0)
        ends = total + np.cumsum(size, dtype=np.int64)
        total = int(ends[-1])
        parts[first : first + SPAN] = np.where(ends > 0, (ends - 1) // chunk, 0)
    for first in range(0, len(roots), SPAN):
        root = np.array(roots[first : first + SPAN])
        here = np.flatnonzero(sizes[root] > 1)
        part = parts[root[here]]
        for number in np.unique(part).tolist():
            chosen = here[part == number]
            with (folder / f"part-{number}").open("ab") as handle:
                np.stack([chosen + first, root[chosen]], axis=1).tofile(handle)
            used.add(number)
    for number in sorted(used):
        pairs = np.fromfile(folder / f"part-{number}", np.int64).reshape(-1, 2)
        yield pairs[:, 0].copy(), pairs[:, 1].copy()
