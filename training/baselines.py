"""What a fine-tuned model must beat: the most frequent label, and a bag of words.

The bag of words is TF-IDF over words and word pairs (sublinear counts, unit length) with a multinomial logistic
regression, fitted to convergence by L-BFGS; its penalty is chosen on a tenth of the training documents.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter

import numpy as np
import torch
import torch.nn.functional as F

PENALTIES = (1.0, 0.1, 0.01)  # on half the squared weights, beside the loss summed over all documents
MOST_FEATURES = 50_000
_WORD = re.compile(r"\w+")


def majority(train_labels: np.ndarray, count: int) -> np.ndarray:
    """The most frequent training label, ``count`` times: int64 [count]."""
    return np.full(count, np.bincount(train_labels).argmax())


def bag_of_words(train: list[str], labels: np.ndarray, classes: int, test: list[str]) -> np.ndarray:
    """Predicted label of each text of ``test``: int64 [len(test)]. Deterministic."""
    bags = [_features(text) for text in train]
    seen = Counter(feature for bag in bags for feature in bag)
    frequent = sorted((f for f, n in seen.items() if n > 1), key=lambda f: (-seen[f], f))[:MOST_FEATURES]
    vocabulary = {feature: number for number, feature in enumerate(frequent)}
    weights = np.array([np.log((1 + len(train)) / (1 + seen[feature])) + 1 for feature in frequent])
    fitted = _Matrix(bags, vocabulary, weights)
    target = torch.from_numpy(labels)
    rows = np.arange(len(train))
    held, kept = rows[rows % 10 == 0], rows[rows % 10 != 0]
    best = max(PENALTIES, key=lambda p: _accuracy(fitted, target, held, _fit(fitted, target, kept, classes, p)))
    coefficients = _fit(fitted, target, rows, classes, best)
    unseen = _Matrix([_features(text) for text in test], vocabulary, weights)
    return unseen.times(coefficients, np.arange(len(test))).argmax(1).numpy()


def _features(text: str) -> Counter[str]:
    words = _WORD.findall(text.lower())
    return Counter(words) + Counter(f"{a} {b}" for a, b in itertools.pairwise(words))


class _Matrix:
    """Sparse TF-IDF rows of unit length, and a last column of ones for the intercept."""

    def __init__(self, bags: list[Counter[str]], vocabulary: dict[str, int], idf: np.ndarray) -> None:
        self.columns = len(vocabulary) + 1
        self.indices: list[np.ndarray] = []
        self.values: list[np.ndarray] = []
        for bag in bags:
            index = np.array([vocabulary[f] for f in bag if f in vocabulary], np.int64)
            counts = np.array([n for f, n in bag.items() if f in vocabulary], np.float64)
            value = (1 + np.log(counts)) * idf[index]
            length = np.linalg.norm(value)
            self.indices.append(np.append(index, len(vocabulary)))
            self.values.append(np.append(value / length if length else value, 1.0))

    def times(self, matrix: torch.Tensor, rows: np.ndarray) -> torch.Tensor:
        """Product of the chosen rows with ``matrix`` [columns, classes]: [rows, classes]."""
        return self.select(rows)(matrix)

    def select(self, rows: np.ndarray):
        sizes = [len(self.indices[row]) for row in rows]
        offsets = torch.from_numpy(np.cumsum([0, *sizes[:-1]]))
        index = torch.from_numpy(np.concatenate([self.indices[row] for row in rows]))
        value = torch.from_numpy(np.concatenate([self.values[row] for row in rows]).astype(np.float32))
        return lambda matrix: F.embedding_bag(index, matrix, offsets, mode="sum", per_sample_weights=value)


def _fit(data: _Matrix, target: torch.Tensor, rows: np.ndarray, classes: int, penalty: float) -> torch.Tensor:
    product, wanted = data.select(rows), target[rows]
    coefficients = torch.zeros(data.columns, classes, requires_grad=True)
    optimiser = torch.optim.LBFGS([coefficients], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        fit = F.cross_entropy(product(coefficients), wanted)
        loss = fit + 0.5 * penalty / len(rows) * coefficients[:-1].square().sum()
        loss.backward()
        return loss

    optimiser.step(closure)
    return coefficients.detach()


def _accuracy(data: _Matrix, target: torch.Tensor, rows: np.ndarray, coefficients: torch.Tensor) -> float:
    return float((data.times(coefficients, rows).argmax(1) == target[rows]).float().mean())
