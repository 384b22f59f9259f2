"""The rungs on a pretrained encoder whose sentence vector a logistic head reads: frozen, or brought closer by pairs.

The vector of a text is the mean of the last layer over its tokens. Pairs as in SetFit (Tunstall et al. 2022): texts of
one class are pulled together and of two classes pushed apart, (cos - same)^2, for one pass; then the head is fitted.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import AutoModel

from training.batches import random_streams
from training.finetuning import bases, deadline
from training.finetuning.encoded import Encoded, Reader, encoded
from training.finetuning.forward import inputs
from training.finetuning.rungs import head
from training.finetuning.rungs.base import Examples, Fit, Fitted, sides

_BATCH = 32
#: SetFit's defaults: pairs of each kind for an example, texts in a batch of each side, and the learning rate at BERT's
#: width of 768; narrower models take larger steps.
PAIRS, PAIR_BATCH, RATE, WIDTH = 20, 16, 2e-5, 768
#: Pairs at most, however many examples there are.
MOST_PAIRS = 4_000
_TIMED = 4  # batches that are timed to estimate the rest


class Encoder:
    """The encoder in the folder ``base``, reading up to ``length`` tokens of a text, or of both of a pair together."""

    def __init__(self, base: str, length: int, work: str, paired: bool = False) -> None:
        bases.check(base)
        self.reader: Reader = bases.reader(base, bases.tokenizer_folder(base, work), length)
        model: Any = bases.load(AutoModel, base, {}, 0.0, 0)
        self.model: nn.Module = model.get_encoder() if model.config.is_encoder_decoder else model
        self.model.eval()
        self.paired = paired
        self._known: dict[str, np.ndarray] = {}

    def tuned(self) -> Encoder:
        """Another with the same weights, to train."""
        twin = copy.copy(self)
        twin.model, twin._known = copy.deepcopy(self.model), {}
        return twin

    def read(self, texts: list[str]) -> Encoded:
        return encoded(self.reader.read(*sides(texts, self.paired)), self.reader.pad, {})

    def vectors(self, arrays: dict[str, np.ndarray]) -> Tensor:
        """Mean of the last layer over the tokens of each text: float32 [n, width]."""
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        states = self.model(**inputs(self.model, tensors)).last_hidden_state.float()
        mask = tensors["mask"][..., None].float()
        return (states * mask).sum(1) / mask.sum(1).clamp(min=1)

    @torch.no_grad()
    def features(self, texts: list[str]) -> np.ndarray:
        """``vectors`` of ``texts``, float32 [n, width]; each text is computed once and kept."""
        new = {text for text in texts if text not in self._known}
        self._known.update(self._computed(sorted(new, key=lambda text: (len(text), text))))
        return np.stack([self._known[text] for text in texts])

    def _computed(self, texts: list[str]) -> Iterator[tuple[str, np.ndarray]]:
        for start in range(0, len(texts), _BATCH):
            deadline.check()
            part = texts[start : start + _BATCH]
            vectors = self.vectors(self.read(part).arrays(np.arange(len(part)))).numpy()
            yield from zip(part, vectors, strict=True)

    @torch.no_grad()
    def seconds(self, texts: list[str]) -> float:
        """An estimate of the time that ``features`` takes of ``texts`` that it does not know, by some of them."""
        some = texts[:: max(1, len(texts) // (_TIMED * _BATCH))][: _TIMED * _BATCH]
        started = time.perf_counter()
        list(self._computed(some))
        return (time.perf_counter() - started) * len(texts) / max(1, len(some))


@dataclass(frozen=True)
class OnVectors:
    """A head on the vectors of ``encoder``, which are shifted and scaled to mean 0 and deviation 1."""

    encoder: Encoder
    centre: np.ndarray
    spread: np.ndarray
    head: head.Head

    def features(self, texts: list[str]) -> np.ndarray:
        return (self.encoder.features(texts) - self.centre) / self.spread

    def predict_proba(self, texts: list[str]) -> np.ndarray:
        return self.head.predict_proba(self.features(texts))

    def save(self, folder: str) -> None:
        state = {name: tensor.contiguous().clone() for name, tensor in self.encoder.model.state_dict().items()}
        save_file(state, Path(folder) / "encoder.safetensors")
        self.head.save(Path(folder) / "head.safetensors", centre=self.centre, spread=self.spread)


def frozen(encoder: Encoder) -> Fit:
    """A logistic head on the vectors of ``encoder`` as it is."""

    def fit(train: Examples, dev: Examples, classes: int) -> OnVectors:
        known = encoder.features(train.texts)
        centre, spread = known.mean(0), known.std(0) + 1e-6
        unseen = (encoder.features(dev.texts) - centre) / spread
        fitted = head.fit((known - centre) / spread, train.labels, unseen, dev.labels, classes)
        return OnVectors(encoder, centre, spread, fitted)

    return fit


def contrastive(encoder: Encoder) -> Fit:
    """The same after ``encoder`` has been trained on pairs of the training rows."""

    def fit(train: Examples, dev: Examples, classes: int) -> Fitted:
        tuned = encoder.tuned()
        for batch in _batches(tuned, train):
            deadline.check()
            batch()
        tuned.model.eval()
        return frozen(tuned)(train, dev, classes)

    return fit


def contrastive_seconds(encoder: Encoder, train: Examples) -> float:
    """An estimate of the time that the pairs take, by the first of them."""
    steps = _batches(encoder.tuned(), train)
    timed = steps[:_TIMED]
    started = time.perf_counter()
    for step in deadline.paced(timed):
        step()
    return (time.perf_counter() - started) * len(steps) / max(1, len(timed))


def pairs_of(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of pairs, int64 [pairs] each, and whether both are of one class: PAIRS alike and PAIRS unlike for each row.

    Drawn once, in random order, MOST_PAIRS at most. A row that is the only one of its class has no pair that is alike.
    """
    draw = random_streams.generator("pairs", len(labels))
    each = min(PAIRS, max(1, MOST_PAIRS // (2 * len(labels))))
    first, second = [], []
    for row in draw.permutation(len(labels))[: MOST_PAIRS // (2 * each)].tolist():
        alike = np.flatnonzero((labels == labels[row]) & (np.arange(len(labels)) != row))
        for others in (alike, np.flatnonzero(labels != labels[row])):
            if len(others):
                first += [row] * each
                second += draw.choice(others, each).tolist()
    order = draw.permutation(len(first))
    one, two = np.array(first, np.int64)[order], np.array(second, np.int64)[order]
    return one, two, labels[one] == labels[two]


def _batches(tuned: Encoder, train: Examples) -> list:
    """The steps of one pass over the pairs, to be taken in order."""
    one, two, same = pairs_of(train.labels)
    read = tuned.read(train.texts)
    config: Any = tuned.model.config
    optimiser = torch.optim.AdamW(tuned.model.parameters(), lr=RATE * WIDTH / config.hidden_size)
    starts = range(0, len(one), PAIR_BATCH)

    def step(start: int) -> None:
        rows = slice(start, start + PAIR_BATCH)
        left, right = (tuned.vectors(read.arrays(side[rows])) for side in (one, two))
        wanted = torch.from_numpy(same[rows].astype(np.float32))
        loss = F.mse_loss(F.cosine_similarity(left, right), wanted)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    return [lambda start=start: step(start) for start in starts]
