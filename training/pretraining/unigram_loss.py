"""What held-out text costs a model that knows only how often each token is: the loss below which learning begins.

A masked encoder whose learning rate is too high falls back on token frequencies and stays there; its loss looks like
that of a small model, and only this figure beside it shows what happened.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from pipeline.store.packed_tokens import PackedTokens

#: A loss above this share of the frequencies' is not clearly below it.
CLEARLY_BELOW = 0.95
#: Training tokens that are counted: of a larger corpus, blocks at equal distances.
_COUNTED, _BLOCK = 1 << 27, 1 << 20


def loss(train: PackedTokens, heldout: PackedTokens, rows: np.ndarray, left_out: Collection[int]) -> float:
    """Cross-entropy in nats a token of the held-out documents ``rows`` under the token frequencies of ``train``.

    Frequencies are smoothed by one occurrence of each entry. Ids ``left_out`` are not counted: a masked model is never
    asked for special tokens. Raises ValueError where no token is left.
    """
    counts = np.zeros(train.vocab_size, np.int64)
    blocks = range(0, len(train), _BLOCK)
    for start in blocks[:: max(1, len(train) // _COUNTED)]:
        counts += np.bincount(train.tokens(start, min(start + _BLOCK, len(train))), minlength=train.vocab_size)
    wanted = np.zeros(train.vocab_size, np.int64)
    for row in rows:
        tokens = heldout.tokens(int(heldout.starts[row]), int(heldout.starts[row + 1]))
        wanted += np.bincount(tokens, minlength=train.vocab_size)
    kept = np.ones(train.vocab_size, bool)
    kept[list(left_out)] = False
    counts, wanted = counts[kept] + 1, wanted[kept]
    if not wanted.sum():
        raise ValueError("there is no held-out token to measure on")
    return float(-(wanted * np.log(counts / counts.sum())).sum() / wanted.sum())


def warning(summary: dict[str, Any]) -> str | None:
    """What to say of a run whose loss on held-out text is not clearly below ``unigram_loss``; None if it is."""
    bar, part = summary["unigram_loss"], summary["unigram_part"]
    loss = summary["evaluation"].get(part, summary["evaluation"]["loss"])
    if loss < CLEARLY_BELOW * bar:
        return None
    return (
        f"{summary['name']}: its held-out loss ({loss:.3f} nats a token) is not clearly below that of token"
        f" frequencies alone ({bar:.3f}), so it has learned little else: lower `learning_rate`, raise `warmup`,"
        " or train longer"
    )
