"""A linear classifier on the mean vector of a text's words: what embeddings know without fine-tuning.

Static vectors are one layer; of ELMo's layers the classifier learns its own mix (Peters et al. 2018, equation 1). The
vectors stay as they are. Fitted by L-BFGS; its penalty is chosen on a tenth of the training texts.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import torch
import torch.nn.functional as F
from torch import nn

from pipeline.store import files
from training.embeddings import elmo, words
from training.embeddings.embed import load_vectors, load_words
from training.finetuning.baselines import PENALTIES

_BATCH = 32


def predict(folder: str, train: list[str], labels: np.ndarray, classes: int, test: list[str]) -> np.ndarray:
    """The label of each text of ``test``, int64 [len(test)], by the embeddings in ``folder``. Deterministic."""
    known, unseen = means(folder, train), means(folder, test)
    centre, spread = known.mean(0), known.std(0) + 1e-6
    known, unseen = ((part - centre) / spread for part in (known, unseen))
    held = np.arange(len(train)) % 10 == 0

    def accuracy(penalty: float) -> float:
        fitted = _fit(known[~held], labels[~held], classes, penalty)
        return float((_labels(fitted, known[held]) == labels[held]).mean())

    return _labels(_fit(known, labels, classes, max(PENALTIES, key=accuracy)), unseen)


def means(folder: str, texts: list[str]) -> np.ndarray:
    """Mean vectors of the words of each text: float64 [n, layers, dimensions]; zero where no word is known."""
    summary = files.read_json(files.join(folder, "summary.json"))
    found, bounds = words.cut(pa.array(texts, pa.string()), summary["lowercase"])
    if summary["method"] == "elmo":
        return _elmo_means(folder, found.to_pylist(), bounds)
    vectors = load_vectors(folder).astype(np.float64)
    places = pa.compute.index_in(found, value_set=pa.array(load_words(folder), pa.string()))  # type: ignore[attr-defined]
    known = places.is_valid().to_numpy(zero_copy_only=False)
    owner = np.repeat(np.arange(len(texts)), np.diff(bounds))[known]
    sums = np.zeros((len(texts), vectors.shape[1]))
    np.add.at(sums, owner, vectors[places.drop_null().to_numpy()])
    counts = np.bincount(owner, minlength=len(texts))
    return (sums / np.maximum(counts, 1)[:, None])[:, None]


@torch.no_grad()
def _elmo_means(folder: str, spelled: list[str], bounds: np.ndarray) -> np.ndarray:
    files.check_folder(folder)
    model = elmo.ElmoModel.from_pretrained(files.local(folder)).eval()
    found = []
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
        found.append((sums / inside.sum(1).clamp(min=1)[:, None, None]).double().numpy())
    return np.concatenate(found)


def _fit(features: np.ndarray, labels: np.ndarray, classes: int, penalty: float) -> nn.Sequential:
    torch.manual_seed(0)
    count, layers, dimensions = features.shape
    head = nn.Linear(dimensions, classes)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    model = nn.Sequential(elmo.ScalarMix(layers), head).double()
    inputs, wanted = torch.from_numpy(features).transpose(0, 1), torch.from_numpy(labels)
    trained = list(model.parameters()) if layers > 1 else list(head.parameters())
    optimiser = torch.optim.LBFGS(trained, max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        loss = F.cross_entropy(model(inputs), wanted) + 0.5 * penalty / count * head.weight.square().sum()
        loss.backward()
        return loss

    optimiser.step(closure)  # type: ignore[arg-type]
    return model


@torch.no_grad()
def _labels(model: nn.Sequential, features: np.ndarray) -> np.ndarray:
    return model(torch.from_numpy(features).transpose(0, 1)).argmax(1).numpy()
