"""Span corruption: spans of tokens are cut out, and the decoder writes them.

Raffel et al. 2020, "T5"; the arithmetic is that of its preprocessors. Of L raw tokens round(0.15 L) are noise, in
round(noise / 3) spans; the lengths of spans and of what lies between are random segmentations, and a window begins with
what stays. In the inputs each span is one sentinel; the targets are each sentinel and its span; both end with the end
token. Sentinels count down from the top of the vocabulary: ``<extra_id_0>`` is its last entry. The raw length is the
largest whose inputs fit ``sequence_length``: 568 for 512, with targets of 114.

A window is filled with documents end to end, and no document sees another: a token, also of the targets, attends
within its document. The sentinel of a span that runs from one document into the next belongs to the first; the next
then begins, in the targets, with what it lacks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, cast

import numpy as np
from torch import Tensor, nn
from transformers import PreTrainedModel

from pipeline import MillError
from pipeline.store.packed_tokens import PackedTokens
from training.batches import random_streams
from training.batches.batch import Batch
from training.batches.best_fit import arrange
from training.batches.vocabulary import padded
from training.batches.windows import IGNORE, NOTHING, Layout, Reader, Windows
from training.models import architectures, seq2seq
from training.objectives.base import Objective, Task

SENTINELS = 100  # at least, as T5 has


class Lengths(NamedTuple):
    """Tokens of a raw text: how many are noise, in how many spans, and how long inputs and targets come out."""

    noise: int
    spans: int
    inputs: int
    targets: int


def lengths(raw: int, density: float, mean: float) -> Lengths:
    """Of ``raw`` tokens. Both what stays and what goes are one token at least, if there are two."""
    noise = min(max(round(raw * density), 1), raw - 1)
    spans = min(max(round(noise / mean), 1), noise, raw - noise)
    return Lengths(noise, spans, raw - noise + spans + 1, noise + spans + 1)


def raw_length(inputs: int, density: float, mean: float) -> int:
    """The most raw tokens whose inputs are not longer than ``inputs``."""
    raw = 2
    while lengths(raw + 1, density, mean).inputs <= inputs:
        raw += 1
    return raw


def order(task: Task, packed: PackedTokens, seed: int, repeat: bool = True) -> Reader:
    """Windows of the raw length. Raises MillError where the tokenizer lacks a token that the objective needs."""
    for role in ("pad", "closing"):
        if getattr(task.vocabulary, role) is None:
            raise MillError(
                f"objective span_corruption needs a tokenizer with pad and eos tokens; it has no {role} token"
            )
    return arrange(packed, Layout(), task.config, seed, repeat, _raw(task))


def _raw(task: Task) -> int:
    options = task.config.span_corruption
    return raw_length(task.config.sequence_length, options.noise, options.mean_length)


def sentinels(task: Task) -> int:
    """How many the vocabulary is extended by."""
    options = task.config.span_corruption
    return max(SENTINELS, lengths(_raw(task), options.noise, options.mean_length).spans)


def added_tokens(task: Task) -> list[str]:
    return [f"<extra_id_{number}>" for number in reversed(range(sentinels(task)))]


def create(task: Task) -> PreTrainedModel:
    vocabulary = task.vocabulary
    size = padded(vocabulary.size + sentinels(task))
    fields = {"vocab_size": size, "decoder_start_token_id": vocabulary.pad}
    config = architectures.configuration(task.config.shape, vocabulary, task.config.sequence_length, **fields)
    return architectures.create("seq2seq", config, task.seed)


def segmentation(drawn: np.ndarray, segments: int) -> np.ndarray:
    """Random lengths, int64 [n, segments], each one at least, that sum to ``items``; every such list is as likely.

    ``drawn`` are uniforms [n, items - 1], one for each gap between items; the smallest become cuts.
    """
    items = drawn.shape[1] + 1
    cuts = np.sort(np.argsort(drawn, axis=1, kind="stable")[:, : segments - 1], axis=1) + 1
    ends = np.full((len(drawn), 1), items)
    return np.diff(np.concatenate([np.zeros_like(ends), cuts, ends], axis=1), axis=1)


def noise_mask(drawn: np.ndarray, of: Lengths) -> np.ndarray:
    """Which of the tokens are noise, bool [n, raw], from uniforms [n, 2, raw]: spans alternate, the first one stays."""
    raw = drawn.shape[2]
    noise = segmentation(drawn[:, 0, : of.noise - 1], of.spans)
    kept = segmentation(drawn[:, 1, : raw - of.noise - 1], of.spans)
    ends = np.cumsum(np.stack([kept, noise], axis=2).reshape(len(drawn), -1), axis=1)
    before = (ends[:, :, None] <= np.arange(raw)).sum(1)  # runs that end before each token
    return before % 2 == 1


def collapse(tokens: np.ndarray, mask: np.ndarray, top: int) -> tuple[np.ndarray, np.ndarray]:
    """Each run of ``mask`` [n, raw] becomes one sentinel, counted down from ``top``.

    Returns the tokens with a sentinel where a run begins, int64 [n, raw], and which of the places are left.
    """
    begins = mask & ~np.concatenate([np.zeros_like(mask[:, :1]), mask[:, :-1]], axis=1)
    return np.where(begins, top + 1 - np.cumsum(begins, axis=1), tokens), ~mask | begins


def examples(task: Task, windows: Windows) -> Batch:
    """The arrays of ``seq2seq``, as wide as a window of the raw length makes them."""
    options, vocabulary = task.config.span_corruption, task.vocabulary
    inside = windows.segments != NOTHING
    full = lengths(inside.shape[1], options.noise, options.mean_length)
    rows = len(inside)
    arrays = {
        "tokens": np.full((rows, full.inputs), vocabulary.pad, np.int64),
        "segments": np.full((rows, full.inputs), NOTHING, np.int64),
        "labels": np.full((rows, full.targets), IGNORE, np.int64),
        "decoder_segments": np.full((rows, full.targets), NOTHING, np.int64),
    }
    drawn = random_streams.uniforms(windows.visits, (2, inside.shape[1]), "span corruption", task.seed)
    top = vocabulary.size + sentinels(task) - 1
    sizes = inside.sum(1)
    for size in np.unique(sizes[sizes > 1]).tolist():
        group = np.flatnonzero(sizes == size)
        of = lengths(size, options.noise, options.mean_length)
        mask = noise_mask(drawn[group, :, :size], of)
        tokens, segments = windows.tokens[group, :size], windows.segments[group, :size].astype(np.int64)
        inputs, kept = collapse(tokens, mask, top)
        targets, shown = collapse(tokens, ~mask, top)
        # a sentinel of the targets stands where what stays begins; it belongs to the span that it announces
        owner = segments[shown].reshape(len(group), -1)
        announces = (~mask)[shown].reshape(owner.shape)
        owner = np.where(announces, np.roll(owner, -1, axis=1), owner)
        end = np.full((len(group), 1), vocabulary.closing)
        last = segments[:, -1:]
        place = np.ix_(group, np.arange(of.inputs))
        arrays["tokens"][place] = np.hstack([inputs[kept].reshape(len(group), -1), end])
        arrays["segments"][place] = np.hstack([segments[kept].reshape(len(group), -1), last])
        place = np.ix_(group, np.arange(of.targets))
        arrays["labels"][place] = np.hstack([targets[shown].reshape(len(group), -1), end])
        arrays["decoder_segments"][place] = np.hstack([owner, last])
    assert vocabulary.pad is not None  # the order's check
    arrays["decoder_tokens"] = seq2seq.shifted(arrays["labels"], arrays["decoder_segments"], vocabulary.pad)
    arrays["labels"] = seq2seq.answerable(arrays["labels"], arrays["decoder_segments"], arrays["segments"])
    return Batch(arrays, {"spans": int((arrays["labels"] != IGNORE).sum())}, int(inside.sum()))


def loss(module: nn.Module, arrays: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {"spans": seq2seq.loss(module, arrays)}


def flops(module: nn.Module, task: Task) -> float:
    options, raw = task.config.span_corruption, _raw(task)
    of = lengths(raw, options.noise, options.mean_length)
    return seq2seq.flops(module, of.inputs, of.targets, task.seen) / raw


OBJECTIVE = Objective(
    name="span_corruption",
    version=1,
    weights=lambda _task: {"spans": 1.0},
    order=order,
    create=create,
    examples=examples,
    loss=loss,
    checkpoint=lambda module: cast(PreTrainedModel, module),
    added_tokens=added_tokens,
    flops=flops,
    per_byte=("span_bits_per_byte", "spans"),
)
