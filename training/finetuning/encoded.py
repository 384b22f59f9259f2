"""Labelled rows as token ids, the order that they are read in, and batches of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from tokenizers import Encoding, Tokenizer

from training.batches import random_streams

#: What a target is padded with: cross-entropy passes it over.
IGNORED = -100
#: Most batches whose examples are sorted by length together, and the least number of such lots in an epoch: lengths can
#: give labels away, and batches of one label teach nothing.
_POOL, _LOTS = 50, 4


@dataclass(frozen=True)
class Reader:
    """How a base reads text: its tokenizer, the tokens of a sequence, and the ids that fill it up and end it."""

    tokenizer: Tokenizer
    length: int
    pad: int
    end: int | None = None

    def read(self, texts: list[str], pairs: list[str] | None = None, length: int | None = None) -> list[Encoding]:
        """Each text (and its second one) with special tokens, cut to ``length`` tokens; by default the reader's."""
        self.tokenizer.enable_truncation(self.length if length is None else length)
        inputs = texts if pairs is None else list(zip(texts, pairs, strict=True))
        return self.tokenizer.encode_batch(inputs)

    def windows(self, texts: list[str], pairs: list[str], overlap: int) -> list[Encoding]:
        """Each text with the first part of its second one that fits; the next parts are its ``overflowing``.

        Each part begins with the last ``overlap`` tokens of the one before.
        """
        self.tokenizer.enable_truncation(self.length, stride=overlap, strategy="only_second")
        return self.tokenizer.encode_batch(list(zip(texts, pairs, strict=True)))


@dataclass(frozen=True)
class Encoded:
    """Examples: a row of the table each, or a part of one that is longer than the model reads.

    ``tokens`` and ``types`` (token types) are int64 [length] each; ``row`` int64 [n] is the row that an example is of;
    ``targets`` holds by name an array for each example. ``places`` says of each token where in its row it comes from,
    int64 [length, ...], for tasks that predict places. ``unread`` counts by kind what of the rows no example holds.
    """

    tokens: list[np.ndarray]
    types: list[np.ndarray]
    row: np.ndarray
    targets: dict[str, list[np.ndarray]]
    pad: int
    places: list[np.ndarray] = field(default_factory=list)
    unread: dict[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def lengths(self) -> np.ndarray:
        return np.array([len(tokens) for tokens in self.tokens], np.int64)

    def arrays(self, chosen: np.ndarray) -> dict[str, np.ndarray]:
        """``tokens``, ``types`` and ``mask`` int64 [chosen, longest], and each target, filled up to its longest."""
        made = {
            "tokens": filled([self.tokens[at] for at in chosen], self.pad),
            "types": filled([self.types[at] for at in chosen], 0),
            "mask": filled([np.ones_like(self.tokens[at]) for at in chosen], 0),
        }
        return made | {name: filled([target[at] for at in chosen], IGNORED) for name, target in self.targets.items()}


def encoded(encodings: list[Encoding], pad: int, targets: dict[str, list[np.ndarray]], row: np.ndarray | None = None):
    """``Encoded`` of what a tokenizer made; each is a row of its own unless ``row`` says otherwise."""
    return Encoded(
        [np.array(encoding.ids, np.int64) for encoding in encodings],
        [np.array(encoding.type_ids, np.int64) for encoding in encodings],
        np.arange(len(encodings)) if row is None else row,
        targets,
        pad,
    )


def filled(parts: list[np.ndarray], filler: int) -> np.ndarray:
    """``parts`` as rows of one array, filled up with ``filler`` to the longest; numbers alone stay numbers."""
    if parts[0].ndim == 0:
        return np.stack(parts)
    whole = np.full((len(parts), max(len(part) for part in parts), *parts[0].shape[1:]), filler, parts[0].dtype)
    for row, part in zip(whole, parts, strict=True):
        row[: len(part)] = part
    return whole


class Order:
    """Which examples a step reads: each once an epoch, those of a batch about as long as each other.

    A pure function of (seed, step). The examples are shuffled, sorted by length within lots, cut into batches, and the
    batches shuffled. Lengths within a tenth of each other count as equal.
    """

    def __init__(self, lengths: np.ndarray, batch_size: int, seed: int) -> None:
        self.lengths, self.batch_size, self.seed = lengths, batch_size, seed
        self.steps_per_epoch = -(-len(lengths) // batch_size)
        self._epoch = lru_cache(2)(self._drawn)

    def rows(self, step: int) -> np.ndarray:
        """The examples that ``step`` reads: int64 [batch_size], fewer in one batch of an epoch."""
        epoch, batch = divmod(step, self.steps_per_epoch)
        return self._epoch(epoch)[batch]

    def _drawn(self, epoch: int) -> list[np.ndarray]:
        draw = random_streams.generator("examples", self.seed, epoch=epoch)
        order = np.argsort(draw.random(len(self.lengths)), kind="stable")
        pool = self.batch_size * min(_POOL, max(1, self.steps_per_epoch // _LOTS))
        classes = np.ceil(8 * np.log2(np.maximum(1, self.lengths)))
        for start in range(0, len(order), pool):
            part = order[start : start + pool]
            order[start : start + pool] = part[np.argsort(classes[part], kind="stable")]
        batches = [order[start : start + self.batch_size] for start in range(0, len(order), self.batch_size)]
        return [batches[at] for at in np.argsort(draw.random(len(batches)), kind="stable")]
