"""Segment pairs A, B of whole sentences, for next-sentence prediction (BERT) and sentence order (ALBERT).

Each document is cut once into chunks: consecutive sentences that fit a sequence beside [CLS], [SEP] and [SEP]. One
chunk in ten aims at a shorter length, drawn uniformly, so that short inputs are seen (Devlin 2019, BERT's
create_pretraining_data.py). A sentence longer than half of the room is cut into equal parts first, so that a chunk
holds two parts or more wherever its document does. An epoch visits every chunk as often as its document repeats, in an
order drawn from (seed, epoch). At a visit, drawn from (seed, epoch, position), the chunk is split at a sentence into A
and what follows it, and

- ``next``: in half of the visits B is what follows A; in the others it is as many tokens from a random place of another
  document (what followed A is then read in another epoch). A chunk of one sentence always gets a random B.
- ``order``: in half of the visits the two change places (Lan 2020). A chunk of one sentence is left out.

Nothing else, such as the number of workers or where a run was resumed, has a say.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np

from pipeline import MillError
from pipeline.store.packed_tokens import PackedTokens
from pipeline.text.hashing import uniform
from pipeline.text.jit import njit
from training.batches import random_streams
from training.batches.vocabulary import Vocabulary
from training.batches.windows import NOTHING, TooFewTokens, Windows

FRAME = 3  # [CLS] A [SEP] B [SEP]
SHORT_SHARE = 0.1


@dataclass(frozen=True)
class Pairs(Windows):
    """Windows that hold one pair each: [CLS] A [SEP] B [SEP], then padding.

    ``types`` int64 [n, length]: 0 for [CLS] A [SEP], 1 for B [SEP], 0 for padding. ``follows`` bool [n]: B is what
    follows A in their document (``next``), or the two stand in their order (``order``). ``segments`` are 0, or NOTHING
    for padding; ``documents`` tells A's document from B's, NOTHING for the frame and padding.
    """

    types: np.ndarray
    follows: np.ndarray


class _Chunks(NamedTuple):
    """Parts of sentences (``starts``, ``ends`` int64 [parts], token positions) and the chunks made of them.

    Chunk c holds the parts ``bounds[c]`` to ``bounds[c + 1]``; its document is ``rows[c]``, whose chunks are
    ``of_document[row]`` to ``of_document[row + 1]``.
    """

    starts: np.ndarray
    ends: np.ndarray
    bounds: np.ndarray
    rows: np.ndarray
    of_document: np.ndarray


class PairOrder:
    """Pairs in sequences of ``length`` over ``packed``, read like ``order.Order``; ``vocabulary`` frames and pads them.

    Raises TooFewTokens where there is no pair to make, ValueError where the tokenizer lacks a token of the frame.
    """

    def __init__(
        self,
        packed: PackedTokens,
        vocabulary: Vocabulary,
        length: int,
        seed: int,
        task: Literal["next", "order"],
        repeat: bool = True,
    ) -> None:
        separator = vocabulary.eos if vocabulary.sep is None else vocabulary.sep
        if vocabulary.opening is None or separator is None:
            raise MillError("sentence pairs need a tokenizer with cls and sep tokens; add them to its `special_tokens`")
        self.packed, self.length, self.seed, self.task = packed, length, seed, task
        self._opening, self._separator, self._pad = vocabulary.opening, separator, vocabulary.pad or 0
        room = length - FRAME
        self._chunks = _Chunks(
            *_cut(
                packed.sentence_starts,
                packed.sentence_ends,
                packed.sentence_bounds,
                room,
                SHORT_SHARE,
                np.uint64(random_streams.seed("chunks", seed)),
            )
        )
        parts = np.diff(self._chunks.bounds)
        repeats = packed.repeats[self._chunks.rows] if repeat else np.ones(len(parts), np.int64)
        self._entries = np.repeat(
            np.arange(len(parts)), np.where(parts > 1, repeats, 0) if task == "order" else repeats
        )
        self._order = lru_cache(maxsize=2)(self._make_order)
        self.windows_per_epoch = len(self._entries)
        sizes = self._chunks.ends[self._chunks.bounds[1:] - 1] - self._chunks.starts[self._chunks.bounds[:-1]]
        self.tokens_per_epoch = int(sizes[self._entries].sum()) + FRAME * len(self._entries)
        if len(self._entries) == 0 or (task == "next" and self._chunks.rows[0] == self._chunks.rows[-1]):
            need = "two documents" if task == "next" else "a document of two sentences"
            raise TooFewTokens(f"{packed.folder}: sentence pairs need at least {need}; take a larger corpus")

    def _make_order(self, epoch: int) -> np.ndarray:
        keys = random_streams.generator("pair order", self.seed, epoch=epoch).random(len(self._entries))
        return self._entries[np.argsort(keys, kind="stable")]

    def read(self, positions: np.ndarray) -> Pairs:
        """The pairs at ``positions`` (int64 [n]) of the run, in that order."""
        visits = np.stack(np.divmod(positions, self.windows_per_epoch), axis=1)
        chosen = np.array([self._order(int(epoch))[place] for epoch, place in visits], np.int64)
        drawn = random_streams.uniforms(visits, (4,), "pairs", self.seed)
        spans, follows = _choose(self._chunks, chosen, drawn, self.length - FRAME, self.task == "next")
        return self._frame(spans, follows, visits)

    def head(self, tokens: int) -> tuple[Pairs, np.ndarray]:
        """The first pairs of epoch 0, about ``tokens`` tokens but at least one, and the rows of their documents."""
        pairs = self.read(np.arange(min(max(1, tokens // self.length), self.windows_per_epoch)))
        rows = np.unique(pairs.documents)
        return pairs, rows[rows != NOTHING]

    def _frame(self, spans: np.ndarray, follows: np.ndarray, visits: np.ndarray) -> Pairs:
        shape = (len(spans), self.length)
        tokens = np.full(shape, self._pad, np.int64)
        segments, documents = np.full(shape, NOTHING, np.int32), np.full(shape, NOTHING, np.int64)
        positions, types = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        first = np.zeros(shape, bool)
        for row, (a, a_end, b, b_end) in enumerate(spans.tolist()):
            tokens[row, 0] = self._opening
            at = 1
            for start, end in ((a, a_end), (b, b_end)):
                stop = at + end - start
                document = int(np.searchsorted(self.packed.starts, start, "right")) - 1
                tokens[row, at:stop] = self.packed.tokens(start, end)
                tokens[row, stop] = self._separator
                documents[row, at:stop] = document
                first[row, at] = self.packed.starts[document] == start
                at = stop + 1
            middle = 2 + a_end - a
            types[row, middle:at] = 1
            segments[row, :at] = 0
            positions[row, :at] = np.arange(at)
        return Pairs(tokens, segments, positions, documents, first, visits, types, follows)


@njit(cache=True, nogil=True)
def _cut(sentence_starts, sentence_ends, sentence_bounds, room, short_share, key):
    """The fields of _Chunks; the length that a chunk aims at is drawn from the key and the chunk's number."""
    half = max(1, room // 2)
    most = 0
    for k in range(len(sentence_starts)):
        most += -(-(sentence_ends[k] - sentence_starts[k]) // half)
    starts, ends = np.empty(most, np.int64), np.empty(most, np.int64)
    bounds, rows = np.zeros(most + 1, np.int64), np.empty(most, np.int64)
    of_document = np.zeros(len(sentence_bounds), np.int64)
    part, chunk = 0, 0
    for row in range(len(sentence_bounds) - 1):
        opened = part
        for k in range(sentence_bounds[row], sentence_bounds[row + 1]):
            start, size = sentence_starts[k], sentence_ends[k] - sentence_starts[k]
            pieces = -(-size // half)
            for piece in range(pieces):
                starts[part] = start + size * piece // pieces
                ends[part] = start + size * (piece + 1) // pieces
                part += 1
        while opened < part:
            target = room
            if uniform(key, 2 * chunk) < short_share:
                target = 2 + np.int64(uniform(key, 2 * chunk + 1) * max(room - 2, 0))
            stop = opened + 1
            while stop < part:
                size = ends[stop] - starts[opened]
                if size > room or (size > target and stop > opened + 1):
                    break
                stop += 1
            if stop == part - 1 and stop > opened + 2:  # one part would be left alone
                stop -= 1
            rows[chunk] = row
            chunk += 1
            bounds[chunk] = stop
            opened = stop
        of_document[row + 1] = chunk
    return starts[:part], ends[:part], bounds[: chunk + 1], rows[:chunk], of_document


@njit(cache=True, nogil=True)
def _choose(chunks, chosen, drawn, room, is_next):
    """``(spans, follows)``: int64 [n, 4], the tokens of A and of B, and bool [n], for the ``chosen`` chunks.

    ``drawn`` are uniforms [n, 4]: where to split, whether B follows, B's chunk and its part there.
    """
    starts, ends, bounds, rows, of_document = chunks
    spans, follows = np.empty((len(chosen), 4), np.int64), np.empty(len(chosen), np.bool_)
    for i in range(len(chosen)):
        chunk = chosen[i]
        first, last = bounds[chunk], bounds[chunk + 1]
        start, end = starts[first], ends[last - 1]
        split = end
        if last - first > 1:
            split = starts[first + 1 + np.int64(drawn[i, 0] * (last - first - 1))]
        follows[i] = split < end and drawn[i, 1] < 0.5
        b, b_end = split, end
        if is_next and not follows[i]:
            low, high = of_document[rows[chunk]], of_document[rows[chunk] + 1]
            other = np.int64(drawn[i, 2] * (len(rows) - (high - low)))
            if other >= low:
                other += high - low
            part = bounds[other] + np.int64(drawn[i, 3] * (bounds[other + 1] - bounds[other]))
            b = starts[part]
            wanted = end - split if split < end else room - (split - start)
            b_end = min(b + wanted, ends[bounds[of_document[rows[other] + 1]] - 1])
        if not is_next and not follows[i]:
            spans[i] = (split, end, start, split)
        else:
            spans[i] = (start, split, b, b_end)
    return spans, follows
