"""Masked tokens: which a window picks, what stands in their place, and the hidden states there.

Shared by the objectives that predict masked tokens. A pick is two arrays of fixed width, ``picked`` (places in the
window) and ``labels`` (what stood there), so that the output head is computed at those places only.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from pipeline import MillError
from training.batches.vocabulary import Vocabulary
from training.batches.windows import IGNORE, NOTHING, Layout, Windows
from training.objectives import noise_spans


def layout(objective: str, vocabulary: Vocabulary) -> Layout:
    """Every document between [CLS] and [SEP].

    Raises MillError where the tokenizer lacks a token that ``objective`` needs.
    """
    for role in ("opening", "closing", "mask"):
        if getattr(vocabulary, role) is None:
            raise MillError(
                f"objective {objective} needs a tokenizer with cls, sep and mask tokens; it has no {role} token"
            )
    return Layout(before=vocabulary.opening, after=vocabulary.sep if vocabulary.eos is None else None)


def close_pieces(vocabulary: Vocabulary, windows: Windows) -> np.ndarray:
    """The windows' tokens, int64 [n, length]; a document cut by a window is opened and closed there too."""
    tokens = windows.tokens.copy()
    tokens[:, 0] = vocabulary.opening
    tokens[windows.segments[:, -1] != NOTHING, -1] = vocabulary.closing
    return tokens


def slots(length: int, share: float) -> int:
    """The most positions that a window of ``length`` picks."""
    return max(1, round(length * share))


def wanted(candidates: np.ndarray, share: float) -> np.ndarray:
    """How many of each row's ``candidates`` (boolean [n, length]) are picked, int64 [n]: at least one of any."""
    eligible = candidates.sum(1)
    return np.minimum(np.maximum(1, np.rint(eligible * share)), eligible).astype(np.int64)


def pick(
    tokens: np.ndarray, candidates: np.ndarray, drawn: np.ndarray, share: float, odds: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Places and original tokens, int64 [n, slots], of ``share`` of each row's ``candidates`` (boolean [n, length]).

    ``drawn`` are uniforms [n, length]: the candidates with the smallest are picked. With ``odds`` (float64
    [vocabulary]) one after another is picked with a probability in proportion to its token's odds among those left
    (exponential clocks: Efraimidis 2006). Where a row has fewer than ``slots``, the rest is place 0 with label IGNORE.
    """
    keys = drawn if odds is None else -np.log1p(-drawn) / odds[tokens]
    places = np.argsort(np.where(candidates, keys, np.inf), axis=1, kind="stable")[:, : slots(tokens.shape[1], share)]
    used = np.arange(places.shape[1]) < wanted(candidates, share)[:, None]
    labels = np.where(used, np.take_along_axis(tokens, places, axis=1), IGNORE)
    return np.where(used, places, 0), labels


def pick_runs(
    tokens: np.ndarray,
    candidates: np.ndarray,
    drawn: np.ndarray,
    share: float,
    longest: int,
    continuing: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """As ``pick``, by runs of 1 to ``longest`` whole words; a run of n is drawn with odds of 1/n (Lan 2020).

    ``continuing`` (bool [vocabulary]) says which tokens go on with the word before them; None: each is a word. As many
    words are drawn as hold ``share`` of the tokens on average; of a draw with more, words are left out until it fits.
    ``drawn`` are uniforms [n, 4, length]: lengths, their order, their places, and which words to leave out.
    """
    odds = 1 / np.arange(1, longest + 1)
    reached = np.cumsum(odds) / odds.sum()
    picked = np.zeros((len(tokens), slots(tokens.shape[1], share)), np.int64)
    labels = np.full(picked.shape, IGNORE)
    for row, budget in enumerate(wanted(candidates, share).tolist()):
        places = np.flatnonzero(candidates[row])
        bounds = words(tokens[row, places], places, continuing)
        count = len(bounds) - 1
        drawn_words = max(1, round(budget * count / len(places))) if budget else 0
        lengths = noise_spans.cut_to(np.searchsorted(reached, drawn[row, 0], "right") + 1, drawn_words)
        starts, lengths = noise_spans.lay_out(lengths, count, drawn[row, 1:3])
        chosen = np.repeat(starts - (np.cumsum(lengths) - lengths), lengths) + np.arange(drawn_words)
        chosen = chosen[np.argsort(drawn[row, 3, :drawn_words], kind="stable")]
        spent = np.cumsum(np.diff(bounds)[chosen])
        kept = chosen[spent <= picked.shape[1]] if len(chosen) and spent[0] <= picked.shape[1] else chosen[:1]
        masked = np.zeros(count, bool)
        masked[kept] = True
        inside = np.flatnonzero(np.repeat(masked, np.diff(bounds)))
        inside = inside[: picked.shape[1]]  # a word longer than all that may be masked is cut
        picked[row, : len(inside)] = places[inside]
        labels[row, : len(inside)] = tokens[row, places[inside]]
    return picked, labels


def words(tokens: np.ndarray, places: np.ndarray, continuing: np.ndarray | None) -> np.ndarray:
    """Where words start among ``tokens`` [n] at ascending ``places`` [n] of a row, and n: int64 [words + 1]."""
    begins = np.ones(len(tokens) + 1, bool)
    if continuing is not None and len(tokens):
        begins[1:-1] = ~continuing[tokens[1:]] | (np.diff(places) != 1)
    return np.flatnonzero(begins)


def corrupt(
    tokens: np.ndarray,
    picked: np.ndarray,
    labels: np.ndarray,
    action: np.ndarray,
    replacement: np.ndarray,
    vocabulary: Vocabulary,
    masked: float,
    random: float,
) -> np.ndarray:
    """``tokens`` [n, length] with a share ``masked`` of the picked places masked, a share ``random`` replaced.

    The rest stays. ``action`` and ``replacement`` are uniforms [n, length].
    """
    assert vocabulary.mask is not None  # the layout's check
    other = (replacement * vocabulary.size).astype(np.int64)
    instead = np.where(action < masked, vocabulary.mask, np.where(action < masked + random, other, tokens))
    chosen = np.zeros(tokens.shape, bool)
    rows, columns = np.nonzero(labels != IGNORE)
    chosen[rows, picked[rows, columns]] = True
    return np.where(chosen, instead, tokens)


def hidden_at(hidden: Tensor, picked: Tensor) -> Tensor:
    """Hidden states [n * slots, width] at the places ``picked`` [n, slots] of ``hidden`` [n, length, width]."""
    index = picked[:, :, None].expand(-1, -1, hidden.shape[-1])
    return torch.gather(hidden, 1, index).flatten(0, 1)


def right(logits: Tensor, labels: Tensor) -> Tensor:
    """How many of ``labels`` [n] are the most likely of their ``logits`` [n, classes]; IGNORE is none."""
    return (logits.detach().argmax(-1) == labels).float().sum()
