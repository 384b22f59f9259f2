"""Bytes per token for every smaller vocabulary of a byte-level BPE at once, and the size that costs a model least.

The merges that BPE applies to a word have rising ranks, for a pair cannot be learned before its halves. So the first k
merges alone make of a text as many tokens as it has bytes, less the merges of rank below k that the whole vocabulary
applies to it: one pass over the distinct pre-tokens gives the curve, exactly.

A larger vocabulary makes fewer tokens of a text and costs more parameters in the embedding: the multiplications for a
byte of text go with (parameters of the layers + size x width) / (bytes per token). The size at which that is least is
recommended, for models of several widths.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.text.buffers import text_buffers
from pipeline.tokenization.encoding import segment

#: Models for which a size is recommended: width, layers (12 x layers x width^2 parameters; Kaplan 2020).
MODELS = ((256, 4), (768, 12), (1600, 48))
_POINTS = 24


def sizes(counts: pa.Table, model: segment.Model, reserved: int) -> tuple[np.ndarray, np.ndarray]:
    """``(sizes, bytes_per_token)`` from no merge to all: entries int64 [merges + 1], float64 [merges + 1].

    ``counts`` has columns word and count: the pre-tokens of a text; ``reserved`` entries are no bytes and no merges.
    """
    data, offsets = text_buffers(counts["word"].combine_chunks())
    total, uses = segment.merge_uses(data, offsets, counts["count"].to_numpy(), model)
    tokens = total - np.concatenate([[0], np.cumsum(uses)])
    return reserved + 256 + np.arange(len(tokens)), total / np.maximum(tokens, 1)


def recommend(entries: np.ndarray, bytes_per_token: np.ndarray, width: int, layers: int) -> dict[str, Any]:
    """The size of least cost for a model of ``width`` and ``layers``; ``largest``: it is the largest size there is."""
    cost = (12 * layers * width**2 + entries * width) / bytes_per_token
    best = int(np.argmin(cost))
    return {
        "width": width,
        "layers": layers,
        "size": int(entries[best]),
        "embedding": int(entries[best]) * width,
        "bytes_per_token": float(bytes_per_token[best]),
        "largest": best == len(entries) - 1,
    }


def summary(name: str, entries: np.ndarray, bytes_per_token: np.ndarray) -> dict[str, Any]:
    """What the report says of a curve: some of its points, evenly apart on a logarithmic scale, and the advice."""
    places = np.unique(np.geomspace(1, len(entries), _POINTS).astype(np.int64) - 1)
    return {
        "tokenizer": name,
        "points": [[int(entries[at]), float(bytes_per_token[at])] for at in places],
        "recommended": [recommend(entries, bytes_per_token, width, layers) for width, layers in MODELS],
    }
