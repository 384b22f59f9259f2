"""What a fine-tuned model must beat: the most frequent label, and a bag of words.

The bag of words is TF-IDF over words and word pairs (sublinear counts, unit length) with a multinomial logistic
regression, fitted to convergence by L-BFGS; its penalty is chosen on a tenth of the training documents.
"""

from __future__ import annotations

import itertools
import re
import warnings
from collections import Counter

import numpy as np
import torch
import torch.nn.functional as F

PENALTIES = (1.0, 0.1, 0.01)  # on half the squared weights, beside the loss summed over all documents
MOST_FEATURES = 50_000
_WORD = re.compile(r"\w+")
_Vector = tuple[np.ndarray, np.ndarray]  # columns int64, values float64


def majority(train_labels: np.ndarray, count: int) -> np.ndarray:
    """The most frequent training label, ``count`` times: int64 [count]."""
    return np.full(count, np.bincount(train_labels).argmax())


def bag_of_words(train: list[str], labels: np.ndarray, classes: int, test: list[str]) -> np.ndarray:
    """Predicted label of each text of ``test``: int64 [len(test)]. Deterministic."""
    bags = [_features(text) for text in train]
    seen = Counter(feature for bag in bags for feature in bag)
    frequent = sorted((f for f, n in seen.items() if n > 1), key=lambda f: (-seen[f], f))[:MOST_FEATURES]
    vocabulary = {feature: number for number, feature in enumerate(frequent)}
    idf = np.array([np.log((1 + len(train)) / (1 + seen[feature])) + 1 for feature in frequent])
    vectors = [_vector(bag, vocabulary, idf) for bag in bags]
    rows = np.arange(len(train))
    held, kept = rows[rows % 10 == 0], rows[rows % 10 != 0]

    def accuracy(penalty: float) -> float:
        fitted = _fit([vectors[row] for row in kept], labels[kept], len(frequent) + 1, classes, penalty)
        return float((_predict([vectors[row] for row in held], fitted) == labels[held]).mean())

    fitted = _fit(vectors, labels, len(frequent) + 1, classes, max(PENALTIES, key=accuracy))
    return _predict([_vector(_features(text), vocabulary, idf) for text in test], fitted)


def _features(text: str) -> Counter[str]:
    words = _WORD.findall(text.lower())
    return Counter(words) + Counter(f"{a} {b}" for a, b in itertools.pairwise(words))


def _vector(bag: Counter[str], vocabulary: dict[str, int], idf: np.ndarray) -> _Vector:
    """Columns and values of a text's TF-IDF of unit length, and a last column of one for the intercept."""
    counts = {vocabulary[feature]: n for feature, n in bag.items() if feature in vocabulary}
    columns = np.array(sorted(counts), np.int64)
    values = (1 + np.log([counts[column] for column in columns])) * idf[columns]
    length = np.linalg.norm(values)
    return np.append(columns, len(vocabulary)), np.append(values / length if length else values, 1.0)


def _fit(vectors: list[_Vector], labels: np.ndarray, columns: int, classes: int, penalty: float) -> torch.Tensor:
    """Coefficients [columns, classes]; the intercept is not penalised."""
    matrix, transposed = _sparse(vectors, columns), _sparse(_transpose(vectors, columns), len(vectors))
    wanted = F.one_hot(torch.from_numpy(labels), classes).double()
    shrink = torch.full((columns, 1), penalty / len(vectors), dtype=torch.float64)
    shrink[-1] = 0
    coefficients = torch.zeros(columns, classes, dtype=torch.float64)
    optimiser = torch.optim.LBFGS(
        [coefficients], max_iter=100, history_size=8, tolerance_change=1e-6, line_search_fn="strong_wolfe"
    )

    def closure() -> float:
        log_shares = torch.log_softmax(matrix @ coefficients, 1)
        coefficients.grad = transposed @ (log_shares.exp() - wanted) / len(vectors) + shrink * coefficients
        fit = -(log_shares * wanted).sum() / len(vectors)
        return float(fit + 0.5 * (shrink * coefficients.square()).sum())

    optimiser.step(closure)
    return coefficients


def _predict(vectors: list[_Vector], coefficients: torch.Tensor) -> np.ndarray:
    return (_sparse(vectors, len(coefficients)) @ coefficients).argmax(1).numpy()


def _transpose(vectors: list[_Vector], columns: int) -> list[_Vector]:
    rows = np.repeat(np.arange(len(vectors)), [len(columns_of) for columns_of, _ in vectors])
    column, value = (np.concatenate([vector[part] for vector in vectors]) for part in (0, 1))
    order = np.argsort(column, kind="stable")
    bounds = np.searchsorted(column[order], np.arange(1, columns))
    return list(zip(np.split(rows[order], bounds), np.split(value[order], bounds), strict=True))


def _sparse(vectors: list[_Vector], columns: int) -> torch.Tensor:
    bounds = np.cumsum([0, *(len(columns_of) for columns_of, _ in vectors)])
    column, value = (np.concatenate([vector[part] for vector in vectors]) for part in (0, 1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that its interface may change
        return torch.sparse_csr_tensor(
            torch.from_numpy(bounds),
            torch.from_numpy(column),
            torch.from_numpy(value),
            (len(vectors), columns),
            check_invariants=False,
        )
