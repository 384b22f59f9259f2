"""Best-fit packing: windows of whole documents, so that none is cut that fits one (Ding 2024, "Fewer Truncations").

A document longer than a window is cut into windows of its own and a remainder. Documents and remainders, the longest
first, each go to the window in which they leave least room (best-fit decreasing; a tree over the room left finds it in
log(length) steps); what then stays free is padding, well below 1 % on real lengths. Each epoch draws anew which of
equally long pieces goes where, and the order of the windows, from (seed, epoch); their number never changes.

With whole sentences (RoBERTa's FULL-SENTENCES: Liu 2019) a longer document is cut where a sentence starts, as late as
fits, so that every piece, and so every window, begins with a sentence and ends with one; only a sentence that is longer
than a window is cut.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from pipeline.store.packed_tokens import PackedTokens
from pipeline.text.jit import njit
from training.batches import random_streams
from training.batches.windows import NOTHING, Layout, Order, SentenceWindows, TooFewTokens, Windows
from training.recipe.pretraining import PretrainConfig


class _Plan(NamedTuple):
    """Windows of one epoch: window w holds the pieces ``members[bounds[w]:bounds[w + 1]]`` (int64)."""

    members: np.ndarray
    bounds: np.ndarray


class FittedOrder:
    """Windows of ``length`` that hold whole pieces of documents, read like ``order.Order``.

    Each piece is framed as ``layout`` says and opens with ``first``, so that nothing is taken to come before it;
    what a window has ``behind`` it is NOTHING. ``whole_sentences``: longer documents are cut between sentences. Raises
    TooFewTokens where there is no token.
    """

    def __init__(
        self,
        packed: PackedTokens,
        layout: Layout,
        length: int,
        seed: int,
        repeat: bool = True,
        whole_sentences: bool = False,
    ) -> None:
        self.packed, self.layout, self.length, self.seed = packed, layout, length, seed
        self._opens, self._closes = layout.before is not None, layout.after is not None
        framing = self._opens + self._closes
        sentences = packed.sentence_starts if whole_sentences else np.zeros(0, np.int64)
        self._rows, self._lows, self._highs = cut(packed.starts, sentences, length - framing)
        self._sizes = self._highs - self._lows + framing
        self._entries = np.repeat(np.arange(len(self._rows)), packed.repeats[self._rows] if repeat else 1)
        if len(self._entries) == 0:
            raise TooFewTokens(f"{packed.folder}: there is no token to read; take a larger corpus")
        self._plan = lru_cache(maxsize=2)(self._make_plan)
        self.tokens_per_epoch = int(self._sizes[self._entries].sum())
        self.windows_per_epoch = len(self._plan(0).bounds) - 1

    @property
    def padding(self) -> float:
        """Share of the positions of an epoch that hold nothing."""
        return 1 - self.tokens_per_epoch / (self.windows_per_epoch * self.length)

    def _make_plan(self, epoch: int) -> _Plan:
        draw = random_streams.generator("best fit", self.seed, epoch=epoch)
        shuffled = self._entries[np.argsort(draw.random(len(self._entries)), kind="stable")]
        falling = shuffled[np.argsort(-self._sizes[shuffled], kind="stable")]
        window = best_fit(self._sizes[falling], self.length)
        count = int(window.max()) + 1
        rank = np.argsort(np.argsort(draw.random(count), kind="stable"), kind="stable")
        order = np.argsort(rank[window], kind="stable")
        bounds = np.concatenate([[0], np.cumsum(np.bincount(window, minlength=count)[np.argsort(rank)])])
        return _Plan(falling[order], bounds)

    def read(self, positions: np.ndarray) -> Windows:
        """The windows at ``positions`` (int64 [n]) of the run, in that order."""
        visits = np.stack(np.divmod(positions, self.windows_per_epoch), axis=1)
        shape = (len(positions), self.layout.behind + self.length)
        tokens, places = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        segments, documents = np.full(shape, NOTHING, np.int32), np.full(shape, NOTHING, np.int64)
        first, sentences = np.zeros(shape, bool), np.zeros(shape, bool)
        for row, (epoch, window) in enumerate(visits.tolist()):
            plan = self._plan(epoch)
            at = self.layout.behind
            for number, piece in enumerate(plan.members[plan.bounds[window] : plan.bounds[window + 1]].tolist()):
                end = at + int(self._sizes[piece])
                inner = slice(at + self._opens, end - self._closes)
                tokens[row, inner] = self.packed.tokens(int(self._lows[piece]), int(self._highs[piece]))
                if self.layout.before is not None:
                    tokens[row, at] = self.layout.before
                if self.layout.after is not None:
                    tokens[row, end - 1] = self.layout.after
                segments[row, at:end], documents[row, at:end] = number, self._rows[piece]
                places[row, at:end] = np.arange(end - at)
                first[row, at] = True
                if self.layout.sentences:
                    sentences[row, at + self._opens + self._sentences(piece)] = True
                at = end
        windows = Windows(tokens, segments, places, documents, first, visits)
        return SentenceWindows(**vars(windows), sentences=sentences) if self.layout.sentences else windows

    def _sentences(self, piece: int) -> np.ndarray:
        """Where sentences start, int64, counted from the piece's first token."""
        low, high = self._lows[piece], self._highs[piece]
        begin, end = np.searchsorted(self.packed.sentence_starts, (low, high))
        return self.packed.sentence_starts[begin:end] - low

    def head(self, tokens: int) -> tuple[Windows, np.ndarray]:
        """The first windows of epoch 0, about ``tokens`` tokens but at least one window, and the rows of theirs."""
        windows = self.read(np.arange(min(max(1, tokens // self.length), self.windows_per_epoch)))
        rows = np.unique(windows.documents)
        return windows, rows[rows != NOTHING]


def arrange(
    packed: PackedTokens, layout: Layout, config: PretrainConfig, seed: int, repeat: bool, length: int | None = None
) -> Order | FittedOrder:
    """The order that ``config.packing`` names, in windows of ``length`` or else of the sequence length."""
    length = config.sequence_length if length is None else length
    if config.packing == "concatenate":
        return Order(packed, layout, length, seed, repeat)
    return FittedOrder(packed, layout, length, seed, repeat, config.packing == "full_sentences")


@njit(cache=True, nogil=True)
def cut(starts: np.ndarray, sentences: np.ndarray, room: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Documents, bounded by ``starts`` (int64 [documents + 1]), in pieces of up to ``room`` tokens.

    Each is cut at the last of the positions ``sentences`` (int64, ascending) that fits, or else when it is full.
    Returns each piece's document and where it starts and ends, int64 [pieces].
    """
    most = 0
    for row in range(len(starts) - 1):
        most += 2 * ((starts[row + 1] - starts[row]) // room) + 1  # a piece and the next hold more than ``room``
    rows, lows, highs = np.empty(most, np.int64), np.empty(most, np.int64), np.empty(most, np.int64)
    count, sentence = 0, 0
    for row in range(len(starts) - 1):
        low, end = starts[row], starts[row + 1]
        while low < end:
            high = min(low + room, end)
            while sentence < len(sentences) and sentences[sentence] <= high:
                sentence += 1
            if high < end and sentence > 0 and sentences[sentence - 1] > low:
                high = sentences[sentence - 1]
            rows[count], lows[count], highs[count] = row, low, high
            count += 1
            low = high
    return rows[:count], lows[:count], highs[:count]


@njit(cache=True, nogil=True)
def best_fit(sizes: np.ndarray, length: int) -> np.ndarray:
    """int64 [n]: the window, from 0, that each piece goes to, given in this order; ``sizes`` are 1 to ``length``.

    ``tree`` says of ranges of room whether any window has so much left; ``newest`` and ``older`` list those that do.
    """
    leaves = 1
    while leaves <= length:
        leaves *= 2
    tree = np.zeros(2 * leaves, np.bool_)
    newest, older = np.full(length + 1, -1, np.int64), np.empty(len(sizes), np.int64)
    window, count = np.empty(len(sizes), np.int64), 0
    for i in range(len(sizes)):
        size = sizes[i]
        node = leaves + size
        while node > 1 and not tree[node]:  # up to a node with room somewhere to its right, then down to the least
            while node > 1 and (node & 1 or not tree[node + 1]):
                node >>= 1
            if node > 1:
                node += 1
                while node < leaves:
                    node = 2 * node if tree[2 * node] else 2 * node + 1
        if node > 1:
            room = node - leaves
            chosen = newest[room]
            newest[room] = older[chosen]
            if newest[room] < 0:
                _mark(tree, node, False)
        else:
            chosen, room = count, length
            count += 1
        window[i] = chosen
        left = room - size
        older[chosen] = newest[left]
        newest[left] = chosen
        if left > 0:
            _mark(tree, leaves + left, True)
    return window


@njit(cache=True, nogil=True)
def _mark(tree, node, value):
    tree[node] = value
    while node > 1:
        node >>= 1
        tree[node] = tree[2 * node] or tree[2 * node + 1]
