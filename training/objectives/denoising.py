"""Denoising: a document is spoilt, and the decoder writes it as it was.

Lewis et al. 2020, "BART". First its sentences change places; then 30 % of its tokens go: by text infilling, in spans
whose lengths follow a Poisson law of mean 3, each span replaced by one [MASK], one of no tokens inserting one; or by
token masking or token deletion; then it may be rotated to begin at a random token. The published recipe is infilling
and permutation. The decoder's labels are every token of the document. [CLS] and [SEP] around it are never touched.

A window is filled with documents end to end; each piece of one is spoilt by itself, sees itself only, and its positions
count from 0, so that it is to the model what it would be alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from typing import cast

import numpy as np
from torch import Tensor, nn
from transformers import PreTrainedModel

from pipeline.store.packed_tokens import PackedTokens
from training.batches import random_streams
from training.batches.batch import Batch
from training.batches.best_fit import arrange
from training.batches.windows import IGNORE, NOTHING, Reader, SentenceWindows, Windows
from training.models import architectures, seq2seq
from training.objectives import masking, noise_spans
from training.objectives.base import Objective, Task
from training.recipe.objectives import DenoisingConfig


def order(task: Task, packed: PackedTokens, seed: int, repeat: bool = True) -> Reader:
    """Raises MillError where the tokenizer lacks a token that the objective needs."""
    layout = replace(masking.layout("denoising", task.vocabulary), sentences=True)
    return arrange(packed, layout, task.config, seed, repeat)


def create(task: Task) -> PreTrainedModel:
    start = {"decoder_start_token_id": task.vocabulary.closing, "forced_eos_token_id": task.vocabulary.closing}
    config = architectures.configuration(task.config.shape, task.vocabulary, task.config.sequence_length, **start)
    return architectures.create("seq2seq", config, task.seed)


def examples(task: Task, windows: Windows) -> Batch:
    """The arrays of ``seq2seq``, all as wide as the window."""
    vocabulary, options = task.vocabulary, task.config.denoising
    opening, closing, mask = vocabulary.opening, vocabulary.closing, vocabulary.mask
    assert opening is not None
    assert closing is not None
    assert mask is not None  # the layout's checks
    tokens, segments = masking.close_pieces(vocabulary, windows), windows.segments.astype(np.int64)
    starts = cast(SentenceWindows, windows).sentences
    drawn = random_streams.uniforms(windows.visits, (7, tokens.shape[1]), "denoising", task.seed)
    source = np.full(tokens.shape, vocabulary.pad or 0, np.int64)
    owner = np.full(tokens.shape, NOTHING, np.int64)
    framing = np.isin(tokens, (opening, closing))
    for row in range(len(tokens)):
        at = 0
        for first, stop in pieces(segments[row]):
            low, high = first + framing[row, first], stop - framing[row, stop - 1]
            body = slice(low, max(low, high))
            spoilt = spoil(tokens[row, body], starts[row, body], drawn[row, :, body], options, mask)
            whole = np.concatenate([tokens[row, first:low], spoilt, tokens[row, body.stop : stop]])
            source[row, at : at + len(whole)] = whole
            owner[row, at : at + len(whole)] = segments[row, first]
            at += len(whole)
    inside = segments != NOTHING
    labels = np.where(inside, tokens, IGNORE)
    arrays = {
        "tokens": source,
        "segments": owner,
        "positions": seq2seq.restarted(owner),
        "decoder_tokens": seq2seq.shifted(labels, segments, closing),
        "decoder_segments": segments,
        "decoder_positions": seq2seq.restarted(segments),
        "labels": seq2seq.answerable(labels, segments, owner),
    }
    return Batch(arrays, {"denoising": int((arrays["labels"] != IGNORE).sum())}, int(inside.sum()))


def pieces(segments: np.ndarray) -> list[tuple[int, int]]:
    """Where each piece of a document in ``segments`` [length] starts and stops."""
    edges = np.flatnonzero(np.diff(segments, prepend=NOTHING - 1, append=NOTHING - 1)).tolist()
    return [(first, stop) for first, stop in pairwise(edges) if segments[first] != NOTHING]


def spoil(tokens: np.ndarray, starts: np.ndarray, drawn: np.ndarray, how: DenoisingConfig, mask: int) -> np.ndarray:
    """``tokens`` [n] of one document with noise, int64 [n or fewer].

    ``starts`` bool [n] says where a sentence starts; ``drawn`` are uniforms [7, n].
    """
    if len(tokens) == 0:
        return tokens
    spoilt = permute(tokens, starts, drawn[:2], how.permute)
    if how.noise == "infilling":
        spoilt = infill(spoilt, drawn[2:5], how.share, how.mean_length, mask)
    elif how.noise != "none":
        hidden = np.argsort(drawn[2], kind="stable")[: round(len(tokens) * how.share)]
        if how.noise == "masking":
            spoilt = spoilt.copy()
            spoilt[hidden] = mask
        else:
            spoilt = np.delete(spoilt, hidden)
    if drawn[5, 0] < how.rotate:
        spoilt = np.roll(spoilt, -int(drawn[6, 0] * len(spoilt)))
    return spoilt


def permute(tokens: np.ndarray, starts: np.ndarray, drawn: np.ndarray, share: float) -> np.ndarray:
    """A ``share`` of the sentences, each with its tokens in order, change places among themselves at random.

    ``drawn`` are uniforms [2, n]: those of a sentence's first token choose it, and where it goes.
    """
    begins = np.flatnonzero(starts | (np.arange(len(tokens)) == 0))
    chosen = np.sort(np.argsort(drawn[0, begins], kind="stable")[: round(len(begins) * share)])
    order = np.arange(len(begins))
    order[chosen] = chosen[np.argsort(drawn[1, begins[chosen]], kind="stable")]
    sentences = np.split(tokens, begins[1:])
    return np.concatenate([sentences[number] for number in order])


def poisson(drawn: np.ndarray, mean: float) -> np.ndarray:
    """Poisson numbers, int64, by inversion of uniforms [n]."""
    most = int(mean + 12 * mean**0.5 + 12)
    shares = np.exp(np.cumsum(np.concatenate([[-mean], np.log(mean) - np.log(np.arange(1, most))])))
    return np.searchsorted(np.cumsum(shares), drawn, "right").astype(np.int64)


def infill(tokens: np.ndarray, drawn: np.ndarray, share: float, mean: float, mask: int) -> np.ndarray:
    """Text infilling of ``tokens`` [n] by uniforms [3, n]: the spans' lengths, their order, and their places."""
    lengths = noise_spans.cut_to(poisson(drawn[0], mean), round(len(tokens) * share))
    # no input is longer than its text: of a few tokens, all spans might be insertions
    insertions = np.flatnonzero(lengths == 0)
    room = int(lengths.sum()) - (len(lengths) - len(insertions))
    lengths = np.delete(lengths, insertions[room:])
    starts, lengths = noise_spans.lay_out(lengths, len(tokens), drawn[1:])
    ends = starts + lengths
    # +1 where a span starts and -1 where it ends: inside, the sum is 1
    edges = np.bincount(starts, minlength=len(tokens) + 1) - np.bincount(ends, minlength=len(tokens) + 1)
    kept = tokens[np.cumsum(edges)[:-1] == 0]
    return np.insert(kept, starts - (np.cumsum(lengths) - lengths), mask)


def loss(module: nn.Module, arrays: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {"denoising": seq2seq.loss(module, arrays)}


def flops(module: nn.Module, task: Task) -> float:
    """As if inputs were as long as labels; what infilling spares is not counted."""
    length = task.config.sequence_length
    return seq2seq.flops(module, length, length, task.seen) / length


OBJECTIVE = Objective(
    name="denoising",
    version=2,
    weights=lambda _task: {"denoising": 1.0},
    order=order,
    create=create,
    examples=examples,
    loss=loss,
    checkpoint=lambda module: cast(PreTrainedModel, module),
    flops=flops,
    per_byte=("denoised_bits_per_byte", "denoising"),
)
