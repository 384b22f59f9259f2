"""What a model says of a row, by its task. ``fields`` are the columns that a file of predictions has of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Label:
    """One label: the likeliest, or that of the least expected cost where the model knows what errors cost.

    ``scores`` are the probabilities of all, calibrated where the model's temperature is known.

    ``set`` holds the true label with the stated probability (conformal prediction), where that was measured; it may be
    empty.
    """

    label: str
    scores: dict[str, float]
    set: list[str] | None = None

    def fields(self) -> dict[str, Any]:
        more = {} if self.set is None else {"set": self.set}
        return {"label": self.label, "scores": self.scores, **more}


@dataclass(frozen=True)
class Labels:
    """Those labels whose probability is at least their threshold."""

    labels: list[str]
    scores: dict[str, float]

    def fields(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Score:
    """A number on the scale of the training rows."""

    score: float

    def fields(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Span:
    """``text`` is the row's from character ``start`` up to ``end``; ``score`` is a probability from 0 to 1."""

    label: str
    text: str
    start: int
    end: int
    score: float


@dataclass(frozen=True)
class Tags:
    """The spans that the tags of its words mark, and a tag for each word."""

    spans: list[Span]
    tags: list[str]

    def fields(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Answer:
    """``answer`` is the context's from character ``start`` up to ``end``; empty, and None, where there is none.

    ``score`` is its probability among the best spans and no answer.
    """

    answer: str
    start: int | None
    end: int | None
    score: float

    def fields(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Text:
    """The text that the model writes."""

    output: str

    def fields(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Vector:
    """Of a text alone its ``vector`` of length 1; of two texts the ``cosine`` of theirs."""

    vector: list[float] | None = None
    cosine: float | None = None

    def fields(self) -> dict[str, Any]:
        return {"vector": self.vector} if self.cosine is None else {"cosine": self.cosine}


Prediction = Label | Labels | Score | Tags | Answer | Text | Vector
