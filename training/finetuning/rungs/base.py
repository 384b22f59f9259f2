"""What a rung of the cost ladder is: one way to learn a label from texts, from the cheapest to the dearest.

A rung is a function ``fit(train, dev, classes) -> Fitted``: it learns from the training rows, and chooses its settings
by the development rows. The test is not its business. Where a deadline is set and passes, a rung that takes long stops
with OutOfTime.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pyarrow as pa

from training.finetuning.confidence import temperature

LEAST_PROBABILITY = 1e-12


@dataclass(frozen=True)
class Examples:
    """Texts with the numbers of their labels, int64 [n], and the group that each belongs to."""

    texts: list[str]
    labels: np.ndarray
    groups: list[str]

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, rows: np.ndarray) -> Examples:
        """The examples of ``rows`` (int64), in that order."""
        return Examples([self.texts[row] for row in rows], self.labels[rows], [self.groups[row] for row in rows])


class Fitted(Protocol):
    """A classifier that has learned."""

    def predict_proba(self, texts: list[str]) -> np.ndarray:
        """Probabilities float64 [n, classes]; each row adds up to 1."""
        ...

    def save(self, folder: str) -> None:
        """Write all that a prediction needs into the local ``folder``, which is there."""
        ...


Fit = Callable[[Examples, Examples, int], Fitted]


def examples(table: pa.Table, labels: list[str]) -> Examples:
    """The rows of a ``Labelled`` table of task ``classify``; a pair's second text follows the first on a new line."""
    texts = table["text"].to_pylist()
    if "pair" in table.column_names:
        texts = [joined(text, pair) for text, pair in zip(texts, table["pair"].to_pylist(), strict=True)]
    number = {label: at for at, label in enumerate(labels)}
    numbers = np.array([number[label] for label in table["label"].to_pylist()], np.int64)
    return Examples(texts, numbers, table["group"].to_pylist())


def joined(text: str, pair: str) -> str:
    """Both texts of a pair as one, of which the second is the last line."""
    return f"{text}\n{pair.replace(chr(10), ' ')}"


def parted(text: str) -> tuple[str, str]:
    """The two texts that ``joined`` joined."""
    first, _, second = text.rpartition("\n")
    return first, second


def sides(texts: list[str], paired: bool) -> tuple[list[str], list[str] | None]:
    """What a model reads of ``texts`` as its first and its second text; of what is ``paired`` both, else no second."""
    if not paired:
        return texts, None
    both = [parted(text) for text in texts]
    return [first for first, _ in both], [second for _, second in both]


def logits(probabilities: np.ndarray) -> np.ndarray:
    """Logarithms of probabilities, finite: what temperature scaling divides."""
    return np.log(np.maximum(probabilities, LEAST_PROBABILITY))


def development_loss(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """By which settings are chosen: negative log likelihood in nats at the best temperature.

    Accuracy on some hundred rows is too coarse to choose by, and without the temperature a setting would be chosen for
    how sure it is, which is put right afterwards.
    """
    scores = logits(probabilities)
    return temperature.negative_log_likelihood(scores / temperature.fit(scores, labels), labels)
