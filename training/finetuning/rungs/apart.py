"""The rung of pairs on a frozen encoder that reads both texts by themselves, under a logistic head.

A small encoder does not learn to look up a word of one text in the other, so what is alike in both is computed of its
vectors. Of the tokens, in each layer and from either text: the largest cosine of each to a token of the other text, on
average weighted by inverse document frequency (MaxSim of Khattab and Zaharia 2020, "ColBERT"; Zhang et al. 2020,
"BERTScore"). Of the mean vectors u and v: u, v, |u - v|, u * v (Conneau et al. 2017, "InferSent"; Reimers and Gurevych
2019). These are many for a few thousand pairs, so they take part only where the development rows are the less
surprising for it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from training.finetuning import deadline
from training.finetuning.encoded import encoded, filled
from training.finetuning.forward import inputs
from training.finetuning.rungs import head
from training.finetuning.rungs.base import Examples, Fit, development_loss, parted
from training.finetuning.rungs.encoder import Encoder

_BATCH, _TIMED = 32, 4


def combined(first: Tensor, second: Tensor) -> Tensor:
    """(u, v, |u - v|, u * v) of vectors u and v [..., width]: [..., 4 width]."""
    return torch.cat([first, second, (first - second).abs(), first * second], -1)


def largest_cosines(first: Tensor, second: Tensor, read: Tensor, other: Tensor) -> Tensor:
    """Of each token of ``first`` [..., length, width] the largest cosine to one of ``second``: [..., length].

    ``read`` and ``other``, bool [..., length], are true for the tokens of the texts; what is no token of a text, or
    has none to be compared with, gets 0.
    """
    cosines = F.normalize(first, dim=-1) @ F.normalize(second, dim=-1).mT
    compared = read[..., :, None] & other[..., None, :]
    return cosines.masked_fill(~compared, -torch.inf).amax(-1).masked_fill(~compared.any(-1), 0)


@dataclass(frozen=True)
class Side:
    """The tokens of one text: ``ids`` int64 [n], and their ``largest_cosines`` in each layer, float32 [layers, n]."""

    ids: np.ndarray
    cosines: np.ndarray

    def similarity(self, idf: np.ndarray) -> np.ndarray:
        """The mean of the cosines by ``idf`` [vocabulary], float64 [layers]; 0 of a text without tokens."""
        weights = idf[self.ids]
        return self.cosines @ weights / max(float(weights.sum()), 1e-12)


@dataclass(frozen=True)
class Compared:
    """What is known of a pair whatever the other pairs are: ``combined`` mean vectors float32, and both sides."""

    vector: np.ndarray
    first: Side
    second: Side

    @property
    def layers(self) -> int:
        """Layers whose similarities are known, the embeddings being one."""
        return len(self.first.cosines)


class Reading:
    """Pairs as ``encoder`` reads them; each is computed once and kept."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder
        self._known: dict[str, Compared] = {}

    def compared(self, texts: list[str]) -> list[Compared]:
        """Of pairs whose two texts are joined."""
        new = sorted(set(texts) - self._known.keys(), key=lambda text: (len(text), text))
        self._known.update(self._computed(new))
        return [self._known[text] for text in texts]

    def seconds(self, texts: list[str]) -> float:
        """An estimate of the time that ``compared`` takes of ``texts``, by some of them."""
        some = texts[:: max(1, len(texts) // (_TIMED * _BATCH))][: _TIMED * _BATCH]
        started = time.perf_counter()
        list(self._computed(some))
        return (time.perf_counter() - started) * len(texts) / max(1, len(some))

    @torch.no_grad()
    def _computed(self, texts: list[str]) -> Iterator[tuple[str, Compared]]:
        for start in range(0, len(texts), _BATCH):
            deadline.check()
            part = texts[start : start + _BATCH]
            both = [parted(text) for text in part]
            one, first, read = self._read([text for text, _ in both])
            two, second, other = self._read([text for _, text in both])
            vectors = combined(_mean(first[-1], read), _mean(second[-1], other)).numpy()
            forth = largest_cosines(first, second, read, other).numpy()
            back = largest_cosines(second, first, other, read).numpy()
            for at, text in enumerate(part):
                sides = (
                    Side(ids[at][kept[at]], cosines[:, at, kept[at]])
                    for ids, cosines, kept in ((one, forth, read.numpy()), (two, back, other.numpy()))
                )
                yield text, Compared(vectors[at], *sides)

    def _read(self, texts: list[str]) -> tuple[np.ndarray, Tensor, Tensor]:
        """Ids int64 [n, length], states float32 [layers, n, length, width], and bool [n, length], which of the tokens
        are the texts' own."""
        reader, model = self.encoder.reader, self.encoder.model
        encodings = reader.read(texts)
        arrays = encoded(encodings, reader.pad, {}).arrays(np.arange(len(texts)))
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        states = torch.stack(model(**inputs(model, tensors), output_hidden_states=True).hidden_states).float()
        special = filled([np.array(each.special_tokens_mask, np.int64) for each in encodings], 1)
        return arrays["tokens"], states, torch.from_numpy(special == 0)


def _mean(states: Tensor, read: Tensor) -> Tensor:
    """The mean [n, width] of ``states`` [n, length, width] over the tokens that are ``read``; 0 of none."""
    return (states * read[..., None]).sum(1) / read.sum(1, keepdim=True).clamp(min=1)


@dataclass(frozen=True)
class Apart:
    """``idf`` float64 [vocabulary] is of the training texts; features have mean 0 and deviation 1 in training.

    The first ``used`` of them take part: the similarities alone, or all.
    """

    reading: Reading
    idf: np.ndarray
    centre: np.ndarray
    spread: np.ndarray
    used: int
    head: head.Head

    def features(self, texts: list[str]) -> np.ndarray:
        """Float64 [n, used]."""
        return ((_features(self.reading.compared(texts), self.idf) - self.centre) / self.spread)[:, : self.used]

    def predict_proba(self, texts: list[str]) -> np.ndarray:
        return self.head.predict_proba(self.features(texts))

    def save(self, folder: str) -> None:
        state = {name: of.contiguous().clone() for name, of in self.reading.encoder.model.state_dict().items()}
        save_file(state, Path(folder) / "encoder.safetensors")
        self.head.save(Path(folder) / "head.safetensors", idf=self.idf, centre=self.centre, spread=self.spread)


def fit(reading: Reading) -> Fit:
    """A logistic head on what ``reading`` makes of pairs."""

    def fit(train: Examples, dev: Examples, classes: int) -> Apart:
        known = reading.compared(train.texts)
        idf = inverse_document_frequency(known, len(reading.encoder.reader.tokenizer.get_vocab()))
        features = _features(known, idf)
        centre, spread = features.mean(0), features.std(0) + 1e-6
        ready, unseen = ((of - centre) / spread for of in (features, _features(reading.compared(dev.texts), idf)))
        heads = {
            used: head.fit(ready[:, :used], train.labels, unseen[:, :used], dev.labels, classes)
            for used in (2 * known[0].layers, features.shape[1])
        }
        losses = {used: development_loss(of.predict_proba(unseen[:, :used]), dev.labels) for used, of in heads.items()}
        used = min(losses, key=losses.__getitem__)
        return Apart(reading, idf, centre, spread, used, heads[used])

    return fit


def inverse_document_frequency(pairs: list[Compared], vocabulary: int) -> np.ndarray:
    """ln((1 + texts) / (1 + texts with the token)) + 1 of each token, over all texts of ``pairs``."""
    texts = [side.ids for pair in pairs for side in (pair.first, pair.second)]
    counts = np.bincount(np.concatenate([np.unique(ids) for ids in texts]), minlength=vocabulary)
    return np.log((1 + len(texts)) / (1 + counts)) + 1


def _features(pairs: list[Compared], idf: np.ndarray) -> np.ndarray:
    """Similarities from the first and from the second text in each layer, then the vectors: float64 [n, features]."""
    return np.stack([np.concatenate([p.first.similarity(idf), p.second.similarity(idf), p.vector]) for p in pairs])
