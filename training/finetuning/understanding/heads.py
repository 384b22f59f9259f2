"""What each attention head of a base looks at, on average over held-out texts.

As Clark et al. 2019 ("What Does BERT Look At?") sum it up: the weight on the next token, the one before, the token
itself, the first one, separators and punctuation, and the entropy of the weights. Means are over all tokens of all
texts, specials included, padding left out.
"""

from __future__ import annotations

import unicodedata
from typing import Any

import numpy as np
import torch
from tokenizers import Encoding
from torch import Tensor

from training.finetuning.encoded import encoded
from training.finetuning.job import Job
from training.finetuning.tasks.base import inputs
from training.finetuning.understanding.states import Base, base_of, sampled
from training.labelled import rows

#: Texts at most, and how many are computed together.
MOST, _BATCH = 200, 8
#: What is measured: weights from 0 to 1, and the entropy in nats.
PATTERNS = ("next", "previous", "same", "first", "separator", "punctuation", "entropy")


def run(job: Job) -> dict[str, Any]:
    """Each pattern of each head of the base, as lists [layers][heads], and what even weights would give."""
    base = base_of(job, "eager")
    texts, seconds = rows.texts(sampled(job.rows.test, MOST))
    if job.config.task == "similarity":
        seconds = None  # its texts are read one by one
    return {**summary(base, base.reader.read(texts, seconds), texts, seconds), "texts": len(texts)}


@torch.no_grad()
def summary(
    base: Base, encodings: list[Encoding], texts: list[str], seconds: list[str] | None = None
) -> dict[str, Any]:
    """``run`` on texts as they were ``encodings`` by the base's tokenizer. Its attention must be eager."""
    data = encoded(encodings, base.reader.pad, {})
    kinds = [
        _kinds(each, (text, seconds[at] if seconds else ""))
        for at, (each, text) in enumerate(zip(encodings, texts, strict=True))
    ]
    sums: Tensor | None = None
    even: Tensor | None = None
    counts = torch.zeros(len(PATTERNS), dtype=torch.float64)
    device = next(base.model.parameters()).device
    order = np.argsort(data.lengths, kind="stable")
    for start in range(0, len(order), _BATCH):
        chosen = order[start : start + _BATCH]
        tensors = {name: torch.from_numpy(part).to(device) for name, part in data.arrays(chosen).items()}
        mask = tensors["mask"]
        marked = torch.zeros(*mask.shape, 2, dtype=torch.float64, device=device)
        for at, row in enumerate(chosen):
            marked[at, : len(kinds[row])] = torch.from_numpy(kinds[row]).to(device)
        layers = base.model(**inputs(base.model, tensors), output_attentions=True).attentions
        measured = torch.stack([pattern_sums(weights.double(), mask, marked) for weights in layers])
        uniform = (mask[:, None, None] / mask.sum(1)[:, None, None, None]).double().expand(-1, 1, mask.shape[1], -1)
        evenly = pattern_sums(uniform, mask, marked)[0]
        sums = measured if sums is None else sums + measured
        even = evenly if even is None else even + evenly
        counts += pattern_counts(mask)
    assert sums is not None
    assert even is not None
    means = (sums.cpu() / counts.clamp(min=1)).numpy()
    evens = (even.cpu() / counts.clamp(min=1)).tolist()
    return {
        "patterns": {name: means[..., at].tolist() for at, name in enumerate(PATTERNS)},
        "even": None if base.decoder else dict(zip(PATTERNS, evens, strict=True)),
        "tokens": int(data.lengths.sum()),
    }


def pattern_sums(weights: Tensor, mask: Tensor, marked: Tensor) -> Tensor:
    """What the heads' ``weights`` [n, heads, length, length] add up to, over all queries: [heads, patterns].

    ``mask`` [n, length] is 1 for tokens, 0 for padding at the end; ``marked`` [n, length, 2] is 1 for separators, and
    for punctuation.
    """
    real = mask[:, None].to(weights.dtype)  # [n, 1, length]
    later = real[..., 1:]
    marks = marked.to(weights.dtype)
    parts = [
        weights.diagonal(1, 2, 3) * later,
        weights.diagonal(-1, 2, 3) * later,
        weights.diagonal(0, 2, 3) * real,
        weights[..., 0] * real,
        torch.einsum("nhqk,nk->nhq", weights, marks[..., 0]) * real,
        torch.einsum("nhqk,nk->nhq", weights, marks[..., 1]) * real,
        -torch.xlogy(weights, weights).sum(-1) * real,
    ]
    return torch.stack([part.sum((0, 2)) for part in parts], dim=-1)


def pattern_counts(mask: Tensor) -> Tensor:
    """Queries that each pattern is a mean over: all, or those that have a next or a previous token; float64."""
    every = float(mask.sum())
    pairs = every - len(mask)
    return torch.tensor([pairs, pairs, *[every] * (len(PATTERNS) - 2)], dtype=torch.float64)


def _kinds(encoding: Encoding, texts: tuple[str, str]) -> np.ndarray:
    """Which tokens are separators (special, behind the first), and which punctuation: float64 [length, 2]."""
    made = np.zeros((len(encoding.ids), 2))
    read = zip(encoding.special_tokens_mask, encoding.sequence_ids, encoding.offsets, strict=True)
    for at, (special, of, (start, end)) in enumerate(read):
        if special:
            made[at, 0] = at > 0
        elif of is not None:
            written = texts[of][start:end].strip()
            made[at, 1] = bool(written) and all(unicodedata.category(each)[0] == "P" for each in written)
    return made
