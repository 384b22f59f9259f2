"""The rung of pairs of texts: how many of the words of one the other has, under a logistic head.

Whether a text entails another can be said for more than half by that alone (Jijkoun and de Rijke 2005, "Recognizing
Textual Entailment Using Lexical Similarity"), and a model that reads the words of both as one bag cannot see it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import log
from pathlib import Path

import numpy as np

from pipeline.store import files
from training.finetuning.rungs import head
from training.finetuning.rungs.base import Examples, parted

_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Overlap:
    """``idf`` is that of the words of the training texts, ``unseen`` of all others.

    Features are shifted and scaled to mean 0 and deviation 1 over the training pairs.
    """

    idf: Mapping[str, float]
    unseen: float
    centre: np.ndarray
    spread: np.ndarray
    head: head.Head

    def features(self, texts: list[str]) -> np.ndarray:
        """Float64 [n, 8]."""
        return (_features(texts, self.idf, self.unseen) - self.centre) / self.spread

    def predict_proba(self, texts: list[str]) -> np.ndarray:
        return self.head.predict_proba(self.features(texts))

    def save(self, folder: str) -> None:
        files.write_json(files.join(folder, "idf.json"), {"words": dict(self.idf), "unseen": self.unseen})
        self.head.save(Path(folder) / "model.safetensors", centre=self.centre, spread=self.spread)


def fit(train: Examples, dev: Examples, classes: int) -> Overlap:
    """Of the words that both texts of a pair have: their share of the first's, of the second's and of all words.

    The first two also by inverse document frequency; beside them the second's pairs of neighbouring words that the
    first has, and both lengths. A word is a run of letters, digits and _, lower-cased.
    """
    texts = [words for text in train.texts for words in map(_words, parted(text))]
    counts = Counter(word for words in texts for word in set(words))
    idf = {word: log((1 + len(texts)) / (1 + count)) + 1 for word, count in counts.items()}
    unseen = log(1 + len(texts)) + 1
    known = _features(train.texts, idf, unseen)
    centre, spread = known.mean(0), known.std(0) + 1e-6
    asked = (_features(dev.texts, idf, unseen) - centre) / spread
    fitted = head.fit((known - centre) / spread, train.labels, asked, dev.labels, classes)
    return Overlap(idf, unseen, centre, spread, fitted)


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _features(texts: list[str], idf: Mapping[str, float], unseen: float) -> np.ndarray:
    return np.array([_row(text, idf, unseen) for text in texts]).reshape(len(texts), 8)


def _row(text: str, idf: Mapping[str, float], unseen: float) -> list[float]:
    one, two = map(_words, parted(text))
    first, second = set(one), set(two)
    both = first & second
    weight, *of = (sum(idf.get(word, unseen) for word in sorted(words)) for words in (both, first, second))
    twos = set(pairwise(two))
    follow = twos & set(pairwise(one))
    return [
        len(both) / max(1, len(first)),
        len(both) / max(1, len(second)),
        len(both) / max(1, len(first | second)),
        weight / max(1, of[0]),
        weight / max(1, of[1]),
        len(follow) / max(1, len(twos)),
        log(1 + len(one)),
        log(1 + len(two)),
    ]
