"""ARPA files read back, and the probabilities that they give: the format's definition, without our code."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple


class Arpa(NamedTuple):
    """``grams``: (log10 probability, log10 backoff) by n-gram; ``counts``: what the header says."""

    grams: dict[tuple[str, ...], tuple[float, float]]
    counts: list[int]

    def log10(self, history: tuple[str, ...], word: str) -> float:
        """log10 p(word | history), by backing off."""
        history = history[-(len(self.counts) - 1) :] if len(self.counts) > 1 else ()
        weight = 0.0
        while (*history, word) not in self.grams:
            if not history:
                return weight + self.grams[("<unk>",)][0]
            weight += self.grams.get(history, (0.0, 0.0))[1]
            history = history[1:]
        return weight + self.grams[*history, word][0]

    def sentence(self, words: Iterable[str]) -> float:
        """log10 of the probability of a sentence and its end."""
        known = ["<s>", *(word if (word,) in self.grams else "<unk>" for word in words), "</s>"]
        return sum(self.log10(tuple(known[:i]), known[i]) for i in range(1, len(known)))


def read(path: Path) -> Arpa:
    grams, counts = {}, []
    order = 0
    for line in path.read_text("utf-8").split("\n"):
        if line.startswith("ngram "):
            counts.append(int(line.split("=")[1]))
        elif line.endswith("-grams:"):
            order = int(line[1:].removesuffix("-grams:"))
        elif "\t" in line:
            probability, words, *backoff = line.split("\t")
            assert len(words.split(" ")) == order
            grams[tuple(words.split(" "))] = float(probability), float(backoff[0]) if backoff else 0.0
    return Arpa(grams, counts)
