"""A linear classifier on the mean vector of a text's words: what `embeddings` of the recipe know without fine-tuning.

Of static vectors each word counts by its inverse document frequency in the training texts. Of ELMo's layers the
classifier learns its own mix (Peters et al. 2018, equation 1). The vectors stay as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

from pipeline import MillError
from pipeline.store import files
from training.embeddings import elmo, words
from training.embeddings.embed import load_vectors, load_words
from training.finetuning.rungs import head
from training.finetuning.rungs.base import Examples, Fit, Fitted, development_loss

_BATCH = 32


def fit(folder: str) -> Fit:
    """The rung of the embeddings in ``folder``. Raises MillError where there are none."""
    path = files.join(folder, "summary.json")
    method = files.read_json(path).get("method") if files.exists(path) else None
    if method is None:
        raise MillError(
            f"{folder!r} is not the folder of `embeddings` that a build made (summary.json); correct the path"
        )
    return partial(_fit_elmo if method == "elmo" else _fit_static, folder)


@dataclass(frozen=True)
class Static:
    """``idf`` float64 [words]; features are shifted and scaled to mean 0 and deviation 1 over the training texts."""

    vectors: np.ndarray
    words: pa.StringArray
    lowercase: bool
    idf: np.ndarray
    centre: np.ndarray
    spread: np.ndarray
    head: head.Head

    def features(self, texts: list[str]) -> np.ndarray:
        """Float64 [n, dimensions]."""
        return (_means(self.vectors, self.idf, *_known(texts, self.words, self.lowercase)) - self.centre) / self.spread

    def predict_proba(self, texts: list[str]) -> np.ndarray:
        return self.head.predict_proba(self.features(texts))

    def save(self, folder: str) -> None:
        files.write_json(files.join(folder, "vocabulary.json"), self.words.to_pylist())
        beside = {"vectors": self.vectors, "idf": self.idf, "centre": self.centre, "spread": self.spread}
        as_stored = {name: array.astype(np.float32) for name, array in beside.items()}
        self.head.save(Path(folder) / "model.safetensors", **as_stored)


def _fit_static(folder: str, train: Examples, dev: Examples, classes: int) -> Static:
    lowercase = files.read_json(files.join(folder, "summary.json"))["lowercase"]
    vectors, vocabulary = load_vectors(folder), pa.array(load_words(folder), pa.string())
    places, owner, count = _known(train.texts, vocabulary, lowercase)
    documents = np.bincount(np.unique(owner * len(vectors) + places) % len(vectors), minlength=len(vectors))
    idf = np.log((1 + count) / (1 + documents)) + 1
    means = _means(vectors, idf, places, owner, count)
    centre, spread = means.mean(0), means.std(0) + 1e-6
    unseen = (_means(vectors, idf, *_known(dev.texts, vocabulary, lowercase)) - centre) / spread
    fitted = head.fit((means - centre) / spread, train.labels, unseen, dev.labels, classes)
    return Static(vectors, vocabulary, lowercase, idf, centre, spread, fitted)


def _known(texts: list[str], vocabulary: pa.StringArray, lowercase: bool) -> tuple[np.ndarray, np.ndarray, int]:
    """Of each word that is known its row and its text, int64 [found] each; and how many texts there are."""
    tokens, bounds = words.cut(pa.array(texts, pa.string()), lowercase)
    places = pc.index_in(tokens, value_set=vocabulary)  # type: ignore[attr-defined]
    known = places.is_valid().to_numpy(zero_copy_only=False)
    owner = np.repeat(np.arange(len(texts)), np.diff(bounds))[known]
    return places.drop_null().to_numpy().astype(np.int64), owner, len(texts)


def _means(vectors: np.ndarray, idf: np.ndarray, places: np.ndarray, owner: np.ndarray, count: int) -> np.ndarray:
    """Mean vectors of the known words of each text, weighted by ``idf``: float64 [count, dimensions]; else zero."""
    sums = np.zeros((count, vectors.shape[1]))
    weights = idf[places]
    np.add.at(sums, owner, vectors[places].astype(np.float64) * weights[:, None])
    whole = np.bincount(owner, weights, minlength=count)
    return sums / np.where(whole > 0, whole, 1)[:, None]


@dataclass(frozen=True)
class Layers:
    """A head on ELMo's layers, [layers, dimensions] a text, and how they are mixed."""

    folder: str
    centre: np.ndarray
    spread: np.ndarray
    mix: nn.Sequential

    def predict_proba(self, texts: list[str]) -> np.ndarray:
        return _shares(self.mix, (_elmo_means(self.folder, texts) - self.centre) / self.spread)

    def save(self, folder: str) -> None:
        vectors = elmo.ElmoModel.from_pretrained(files.local(self.folder), use_safetensors=True)
        state = {**vectors.state_dict(), **self.mix.state_dict()}
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, Path(folder) / "model.safetensors")


def _fit_elmo(folder: str, train: Examples, dev: Examples, classes: int) -> Fitted:
    known, unseen = _elmo_means(folder, train.texts), _elmo_means(folder, dev.texts)
    centre, spread = known.mean(0), known.std(0) + 1e-6
    known, unseen = ((part - centre) / spread for part in (known, unseen))
    mixes = [_mixed(known, train.labels, classes, 1 / strength) for strength in head.STRENGTHS]
    losses = [development_loss(_shares(mix, unseen), dev.labels) for mix in mixes]
    return Layers(folder, centre, spread, mixes[int(np.argmin(losses))])


@torch.no_grad()
def _elmo_means(folder: str, texts: list[str]) -> np.ndarray:
    """Mean vectors of the words of each text by layer: float64 [n, layers, dimensions]."""
    lowercase = files.read_json(files.join(folder, "summary.json"))["lowercase"]
    cut, bounds = words.cut(pa.array(texts, pa.string()), lowercase)
    spelled = cut.to_pylist()
    files.check_folder(folder)
    model = elmo.ElmoModel.from_pretrained(files.local(folder), use_safetensors=True).eval()
    means = []
    for start in range(0, len(bounds) - 1, _BATCH):
        spans = list(zip(bounds[start : start + _BATCH + 1], bounds[start + 1 : start + _BATCH + 1], strict=False))
        rows = [(spelled[low:high], np.zeros(high - low, np.int64)) for low, high in spans]
        length = max(1, max(len(places) for _, places in rows))
        arrays = elmo.examples(rows, length, model.config.max_characters)
        lengths = torch.from_numpy(arrays["lengths"])
        layers = torch.stack(model(torch.from_numpy(arrays["characters"]), lengths).hidden_states)
        place = torch.arange(length + 2)
        inside = ((place > 0) & (place < lengths[:, None] - 1)).to(layers.dtype)
        sums = torch.einsum("lntd,nt->nld", layers, inside)
        means.append((sums / inside.sum(1).clamp(min=1)[:, None, None]).double().numpy())
    return np.concatenate(means)


def _mixed(features: np.ndarray, labels: np.ndarray, classes: int, penalty: float) -> nn.Sequential:
    torch.manual_seed(0)
    count, layers, dimensions = features.shape
    linear = nn.Linear(dimensions, classes)
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    model = nn.Sequential(elmo.ScalarMix(layers), linear).double()
    inputs, wanted = torch.from_numpy(features).transpose(0, 1), torch.from_numpy(labels)
    optimiser = torch.optim.LBFGS(list(model.parameters()), max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        loss = F.cross_entropy(model(inputs), wanted) + 0.5 * penalty / count * linear.weight.square().sum()
        loss.backward()
        return loss

    optimiser.step(closure)  # type: ignore[arg-type]
    return model


@torch.no_grad()
def _shares(model: nn.Sequential, features: np.ndarray) -> np.ndarray:
    return torch.softmax(model(torch.from_numpy(features).transpose(0, 1)), 1).numpy()
