"""Subword regularisation (Kudo 2018): another segmentation of the same text each time, drawn from the Unigram model.

A segmentation x of a text is drawn with probability P(x)^alpha / sum over all segmentations of P^alpha: at alpha 0 all
are equally likely, at 1 they follow the model, towards infinity the best one remains. All segmentations take part (the
paper's l = infinity): weights are summed forwards over the lattice of a word, and pieces drawn from its end backwards.

Each draw is keyed by the seed, the key of its text and the place in it: neither order nor batch changes a result.
"""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
from tokenizers import Tokenizer

from pipeline import MillError
from pipeline.store import files
from pipeline.text.buffers import text_buffers
from pipeline.text.hashing import FNV_OFFSET, document_hash, fnv_step, uniform
from pipeline.text.jit import njit
from pipeline.text.utf8 import continues
from pipeline.tokenization.encoding import spantable
from pipeline.tokenization.encoding.spantable import SpanTable
from pipeline.tokenization.formats.export import BYTE_PIECES

_UNKNOWN = 10.0  # how far an unknown character's score lies below the lowest, as in both engines


class Sampler:
    """A Unigram tokenizer that draws its segmentations; ``path`` is its tokenizer.json. MillError for another kind."""

    def __init__(self, path: str) -> None:
        files.check(path)
        self._tokenizer = Tokenizer.from_file(path)
        model = json.loads(self._tokenizer.to_str())["model"]
        if model.get("type") != "Unigram":
            raise MillError(f"{path}: a {model.get('type')} tokenizer has no probabilities to sample by; use a Unigram")
        pieces = [piece for piece, _ in model["vocab"]]
        reserved = {token.content for token in self._tokenizer.get_added_tokens_decoder().values()}
        never = reserved | set(BYTE_PIECES if model["byte_fallback"] else [])
        usable = [i for i, piece in enumerate(pieces) if piece not in never]
        self._ids = np.array(usable, np.int32)
        self._scores = np.array([model["vocab"][i][1] for i in usable])
        self._unknown = [] if model["unk_id"] is None else [int(model["unk_id"])]
        self._bytes = [pieces.index(piece) for piece in BYTE_PIECES] if model["byte_fallback"] else None
        self._data, bounds = text_buffers(pa.array([pieces[i] for i in usable], pa.large_string()))
        self._table = _index(self._data, bounds)
        self._longest = int(np.diff(bounds).max(initial=0))

    def sample(
        self, texts: pa.StringArray, alpha: float, seed: int, keys: pa.StringArray | None = None
    ) -> list[list[int]]:
        """The ids of one drawn segmentation of each text, without special tokens (which are plain text here).

        ``keys`` are the texts' names (document ids), the texts themselves if absent. MillError unless alpha is a
        number from 0 on.
        """
        if not 0 <= alpha < np.inf:
            raise MillError(f"alpha is {alpha}; it must be a number from 0 (all segmentations alike) on")
        hashes = document_hash(texts if keys is None else keys, seed)
        return [self._draw(text, alpha, key) for text, key in zip(texts.to_pylist(), hashes, strict=True)]

    def _draw(self, text: str, alpha: float, key: np.uint64) -> list[int]:
        normalizer, pre_tokenizer = self._tokenizer.normalizer, self._tokenizer.pre_tokenizer
        text = normalizer.normalize_str(text) if normalizer else text
        words = [word for word, _ in pre_tokenizer.pre_tokenize_str(text)]  # type: ignore[union-attr]
        data, bounds = text_buffers(pa.array(words, pa.large_string()))
        together = np.concatenate((self._data, data))
        drawn, ends = _draw(
            together, self._table, bounds + len(self._data), self._scores * alpha, self._longest, alpha, key
        )
        ids: list[int] = []
        start = len(self._data)
        for piece, end in zip(drawn.tolist(), ends.tolist(), strict=True):
            if piece >= 0:
                ids.append(int(self._ids[piece]))
            elif self._bytes is not None:
                ids += [self._bytes[byte] for byte in together[start:end].tolist()]
            else:
                ids += self._unknown
            start = end
        return ids


@njit(cache=True, nogil=True)
def _index(data: np.ndarray, bounds: np.ndarray) -> SpanTable:
    """A table whose entry i is piece i, ``data[bounds[i]:bounds[i + 1]]``."""
    table = spantable.empty(1 << 12)
    for piece in range(len(bounds) - 1):
        start, length = bounds[piece], bounds[piece + 1] - bounds[piece]
        h = FNV_OFFSET
        for at in range(start, start + length):
            h = fnv_step(h, data[at])
        key = spantable.finish(h)
        _, slot = spantable.find(data, table, key, start, length)
        _, table = spantable.insert(table, slot, key, start, length)
    return table


@njit(cache=True, nogil=True)
def _edges(
    data: np.ndarray, table: SpanTable, start: int, end: int, longest: int, piece: np.ndarray, stop: np.ndarray
) -> int:
    """How many pieces start at ``start``; they and their ends are written to ``piece`` and ``stop``.

    A character that is no piece of its own is -1, an unknown one.
    """
    n, h, at, is_first = 0, FNV_OFFSET, start, True
    last = min(end, start + max(longest, 4))
    while at < last:
        h = fnv_step(h, data[at])
        at += 1
        while at < end and continues(data[at]):
            h = fnv_step(h, data[at])
            at += 1
        token, _ = spantable.find(data, table, spantable.finish(h), start, at - start)
        if token >= 0 or is_first:
            piece[n], stop[n] = token, at
            n += 1
        is_first = False
    return n


@njit(cache=True, nogil=True)
def _draw(
    data: np.ndarray,
    table: SpanTable,
    bounds: np.ndarray,
    weights: np.ndarray,
    longest: int,
    alpha: float,
    key: np.uint64,
) -> tuple[np.ndarray, np.ndarray]:
    """``(pieces, ends)`` of the words ``data[bounds[w]:bounds[w + 1]]``: int32 piece or -1, int64 end of each in data.

    ``weights`` are alpha x log probability. A run of unknown characters in a word is one.
    """
    total = bounds[-1] - bounds[0]
    drawn, ends = np.empty(total, np.int32), np.empty(total, np.int64)
    piece, stop = np.empty(longest + 4, np.int64), np.empty(longest + 4, np.int64)
    unknown = weights.min() - alpha * _UNKNOWN if len(weights) else 0.0
    behind = np.empty(total + 1)  # by byte: log of the summed weights of all segmentations of the rest of the word
    n = 0
    for word in range(len(bounds) - 1):
        first, end = bounds[word], bounds[word + 1]
        behind[end - first] = 0.0
        for at in range(end - 1, first - 1, -1):
            behind[at - first] = -np.inf
            if not continues(data[at]):
                for edge in range(_edges(data, table, at, end, longest, piece, stop)):
                    weight = weights[piece[edge]] if piece[edge] >= 0 else unknown
                    behind[at - first] = np.logaddexp(behind[at - first], weight + behind[stop[edge] - first])
        at, was_unknown = first, False
        while at < end:
            edges = _edges(data, table, at, end, longest, piece, stop)
            left = uniform(key, at - bounds[0] + 1)
            chosen = edges - 1
            for edge in range(edges - 1):
                weight = weights[piece[edge]] if piece[edge] >= 0 else unknown
                left -= np.exp(weight + behind[stop[edge] - first] - behind[at - first])
                if left < 0:
                    chosen = edge
                    break
            at = stop[chosen]
            is_unknown = piece[chosen] < 0
            n -= is_unknown and was_unknown
            drawn[n], ends[n] = piece[chosen], at
            was_unknown = is_unknown
            n += 1
    return drawn[:n], ends[:n]
