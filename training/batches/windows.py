"""The order in which a run reads packed documents, as a pure function of (seed, epoch, position).

In each epoch the documents (each as often as it repeats) are laid end to end in an order drawn from (seed, epoch) and
cut into windows of equal length. Window ``p`` of the run is window ``p % windows`` of epoch ``p // windows``; nothing
else, such as the number of workers or where a run was resumed, has a say. What is left at an epoch's end and
fills no window is read in another epoch, when the order has changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol, Self

import numpy as np

from pipeline import MillError
from pipeline.store.packed_tokens import PackedTokens
from training.batches import random_streams

#: Labels and segments of positions that hold nothing.
IGNORE = -100
NOTHING = -1


@dataclass(frozen=True)
class Windows:
    """Windows of packed documents; all arrays [n, length] unless said otherwise.

    ``tokens`` int64. ``segments`` int32: the pieces of documents in a window, counted from 0, or NOTHING.
    ``positions`` int64: place within the piece. ``documents`` int64: row in the table of documents, or NOTHING.
    ``first``: true at the first token of a document. ``visits`` int64 [n, 2]: (epoch, position), the key of its noise.
    """

    tokens: np.ndarray
    segments: np.ndarray
    positions: np.ndarray
    documents: np.ndarray
    first: np.ndarray
    visits: np.ndarray

    def take(self, rows: slice | np.ndarray) -> Self:
        """Some of the windows."""
        return type(self)(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))

    @classmethod
    def concatenate(cls, parts: Sequence[Self]) -> Self:
        names = cls.__dataclass_fields__
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


@dataclass(frozen=True)
class SentenceWindows(Windows):
    """Windows that know ``sentences``, bool [n, length]: true at the first token of a sentence."""

    sentences: np.ndarray


class Reader(Protocol):
    """Reads packed documents in windows of ``length``, as a pure function of seed and position."""

    length: int
    windows_per_epoch: int
    tokens_per_epoch: int

    def read(self, positions: np.ndarray) -> Windows:
        """The windows at ``positions`` (int64 [n]) of the run, in that order."""
        ...

    def head(self, tokens: int) -> tuple[Windows, np.ndarray]:
        """What epoch 0 begins with, about ``tokens`` tokens of it, and the rows (int64) of its documents."""
        ...


def pieces(segments: np.ndarray) -> np.ndarray:
    """Tokens of each piece of a document in ``segments`` [n, length], int64."""
    edges = np.diff(segments, axis=1, prepend=NOTHING - 1, append=NOTHING - 1) != 0
    rows, places = np.nonzero(edges)
    own = rows[1:] == rows[:-1]
    return np.diff(places)[own & (segments[rows[:-1], np.minimum(places[:-1], segments.shape[1] - 1)] != NOTHING)]


class TooFewTokens(MillError):
    """The packed documents do not fill one window."""


@dataclass(frozen=True)
class _Epoch:
    """Documents in the order of one epoch: rows of the table, and where each starts and ends in the stream."""

    rows: np.ndarray  # int64 [n]
    ends: np.ndarray  # int64 [n]

    def starts(self) -> np.ndarray:
        return np.concatenate([np.zeros(1, np.int64), self.ends[:-1]])


@dataclass(frozen=True)
class Layout:
    """How documents are laid out: framed by the tokens ``before`` and ``after`` (None: none).

    ``behind``: how many tokens of what precedes a window are shown with it (1 where the input is the token before the
    label), so that its arrays are ``behind + length`` wide. ``sentences``: whether to read SentenceWindows.
    """

    before: int | None = None
    after: int | None = None
    behind: int = 0
    sentences: bool = False


class Order:
    """Windows of ``length`` over ``packed``, laid out by ``layout``; each document once an epoch unless ``repeat``.

    Raises TooFewTokens where the documents do not fill one window.
    """

    def __init__(self, packed: PackedTokens, layout: Layout, length: int, seed: int, repeat: bool = True) -> None:
        self.packed, self.layout, self.length, self.seed = packed, layout, length, seed
        framing = (layout.before is not None) + (layout.after is not None)
        self._stored = np.diff(packed.starts)
        self._sizes = self._stored + framing
        self._entries = np.repeat(np.arange(len(self._sizes)), packed.repeats if repeat else 1)
        self._epoch = lru_cache(maxsize=2)(self._make_epoch)
        self.tokens_per_epoch = int(self._sizes[self._entries].sum())
        self.windows_per_epoch = self.tokens_per_epoch // length
        if self.windows_per_epoch < 1:
            raise TooFewTokens(
                f"{packed.folder}: {self.tokens_per_epoch} tokens do not fill one sequence of {length};"
                " take a smaller sequence_length or a larger corpus"
            )

    def _make_epoch(self, epoch: int) -> _Epoch:
        keys = random_streams.generator("document order", self.seed, epoch=epoch).random(len(self._entries))
        rows = self._entries[np.argsort(keys, kind="stable")]
        return _Epoch(rows, np.cumsum(self._sizes[rows]))

    def read(self, positions: np.ndarray) -> Windows:
        """The windows at ``positions`` (int64 [n]) of the run, in that order."""
        epochs, places = np.divmod(positions, self.windows_per_epoch)
        parts = []
        for epoch in np.unique(epochs):
            starts = places[epochs == epoch] * self.length
            parts.append((np.flatnonzero(epochs == epoch), self._gather(int(epoch), starts)))
        back = np.argsort(np.concatenate([rows for rows, _ in parts]))
        return type(parts[0][1]).concatenate([part for _, part in parts]).take(back)

    def head(self, tokens: int) -> tuple[Windows, np.ndarray]:
        """Whole documents from the start of epoch 0, up to ``tokens`` tokens but at least one, and their rows (int64).

        The last window is padded.
        """
        epoch = self._epoch(0)
        whole = max(1, int(np.searchsorted(epoch.ends, tokens, "right")))
        end = int(epoch.ends[whole - 1])
        return self._gather(0, np.arange(0, end, self.length), end), epoch.rows[:whole]

    def _gather(self, number: int, starts: np.ndarray, end: int | None = None) -> Windows:
        epoch = self._epoch(number)
        end = int(epoch.ends[-1]) if end is None else end
        stream = starts[:, None] + np.arange(-self.layout.behind, self.length)
        inside = (stream >= 0) & (stream < end)
        stream = np.where(inside, stream, 0)
        entry = np.searchsorted(epoch.ends, stream, "right")
        row = epoch.rows[entry]
        begin = epoch.ends[entry] - self._sizes[row]
        offset = stream - begin
        visits = np.stack([np.full(len(starts), number), starts // self.length], axis=1).astype(np.int64)
        windows = Windows(
            tokens=self._tokens(entry, row, offset, inside),
            segments=np.where(inside, entry - entry[:, :1], NOTHING).astype(np.int32),
            positions=np.where(inside, stream - np.maximum(begin, stream[:, :1]), 0),
            documents=np.where(inside, row, NOTHING),
            first=(offset == 0) & inside,
            visits=visits,
        )
        if not self.layout.sentences:
            return windows
        return SentenceWindows(**vars(windows), sentences=self._sentences(row, offset, inside))

    def _sentences(self, row: np.ndarray, offset: np.ndarray, inside: np.ndarray) -> np.ndarray:
        """Whether a sentence starts at each place, bool like ``inside``."""
        starts, offset = self.packed.sentence_starts, offset - (self.layout.before is not None)
        place = self.packed.starts[row] + offset
        slot = np.minimum(np.searchsorted(starts, place), len(starts) - 1)
        return inside & (offset >= 0) & (offset < self._stored[row]) & (starts[slot] == place)

    def _tokens(self, entry: np.ndarray, row: np.ndarray, offset: np.ndarray, inside: np.ndarray) -> np.ndarray:
        """Token ids [n, width]: one slice of the memory map for each run of one document, then its frame."""
        tokens = np.zeros(entry.size, np.int64)
        width, where = entry.shape[1], np.flatnonzero(inside)
        if len(where) == 0:
            return tokens.reshape(entry.shape)
        entries, rows, offsets = entry.ravel(), row.ravel(), offset.ravel()
        shift = self.layout.before is not None
        new = (np.diff(entries[where]) != 0) | (np.diff(where) != 1) | (where[1:] % width == 0)
        for run in np.split(where, np.flatnonzero(new) + 1):
            first, document = int(run[0]), rows[run[0]]
            low = max(int(offsets[first]) - shift, 0)
            high = min(int(offsets[run[-1]]) - shift + 1, int(self._stored[document]))
            place = first + low + shift - int(offsets[first])
            start = int(self.packed.starts[document])
            if high > low:
                tokens[place : place + high - low] = self.packed.tokens(start + low, start + high)
        offsets, sizes = offset, self._sizes[row]
        tokens = tokens.reshape(entry.shape)
        if self.layout.before is not None:
            tokens[(offsets == 0) & inside] = self.layout.before
        if self.layout.after is not None:
            tokens[(offsets == sizes - 1) & inside] = self.layout.after
        return tokens
