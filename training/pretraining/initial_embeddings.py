"""Token embeddings to start from, of which tokens stand near which: half of what a small model learns first.

Levy and Goldberg 2014, "Neural word embedding as implicit matrix factorization": the positive pointwise mutual
information of tokens up to _WINDOW apart, the context's share to the power of 0.75, is factorised by a truncated SVD;
a token's vector is its row of U times the square roots of the singular values (Levy 2015).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import torch
from scipy.sparse import csr_matrix
from sklearn.utils.extmath import randomized_svd
from torch import nn
from transformers import PreTrainedModel

from pipeline.store.packed_tokens import PackedTokens
from training.batches import cooccurrences

_WINDOW, _SMOOTHING = 5, 0.75
_MOST_TOKENS = 10_000_000  # of documents all over the corpus: more changes the vectors little
_BLOCK = 1 << 20
#: Of the vectors' values beside what the model would draw: with as much as that, positions drown out the tokens.
_SPREAD = 2.5


def set_in(model: PreTrainedModel, packed: PackedTokens, seed: int) -> None:
    """Give the input embeddings of ``model`` the vectors of the tokens in ``packed``.

    A token that stands near none there, as special ones do, keeps what was drawn for it.
    """
    weights = cast(nn.Embedding, model.get_input_embeddings()).weight.detach()
    vectors = of_tokens(packed, weights.shape[1], seed)
    known = torch.from_numpy(vectors.any(1))
    scaled = torch.from_numpy(vectors * (_SPREAD * float(weights.std()) / max(vectors[known.numpy()].std(), 1e-12)))
    weights[: len(vectors)][known] = scaled[known].to(weights.dtype)


def of_tokens(packed: PackedTokens, width: int, seed: int) -> np.ndarray:
    """float32 [vocabulary, width]; columns beyond the rank, and rows of tokens without company, are 0."""
    size = packed.vocab_size
    i, j, x = cooccurrences.count(_documents(packed), size, _WINDOW)
    counts = np.bincount(i, x, minlength=size)
    contexts = counts**_SMOOTHING
    shares, context_shares = counts / max(counts.sum(), 1e-12), contexts / max(contexts.sum(), 1e-12)
    information = np.log(x / counts.sum() / (shares[i] * context_shares[j]))
    kept = information > 0
    table = csr_matrix((information[kept], (i[kept], j[kept])), shape=(size, size))
    rank = min(width, size - 1)
    factors: Any = randomized_svd(cast(Any, table), rank, n_iter=cast(Any, 4), random_state=seed % (1 << 32))
    left, values, _ = factors
    made = np.zeros((size, width), np.float32)
    made[:, :rank] = left * np.sqrt(values)
    made[np.diff(table.indptr) == 0] = 0
    return made


def _documents(packed: PackedTokens) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Blocks of whole documents: ids (-1 for special ones) and bounds; every n-th document of a large corpus."""
    stride = max(1, -(-len(packed) // _MOST_TOKENS))
    special = list(packed.special_ids.values())
    starts = packed.starts
    chosen = np.arange(0, len(starts) - 1, stride)
    for block in np.split(chosen, np.flatnonzero(np.diff(starts[chosen] // _BLOCK)) + 1):
        parts = [packed.tokens(int(starts[at]), int(starts[at + 1])).astype(np.int32) for at in block]
        ids = np.concatenate(parts) if parts else np.zeros(0, np.int32)
        ids[np.isin(ids, special)] = -1
        yield ids, np.cumsum([0, *(len(part) for part in parts)])
