"""What a recipe says of a classifier: a model that the user brings (fastText's or a fine-tuned one), or texts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, ByteSize, Field, model_validator

from pipeline import MillError
from pipeline.build.stage import Recipe
from pipeline.sources import Source
from pipeline.store import recipe_file
from pipeline.text.excerpts import SMALLEST

Probability = Annotated[float, Field(ge=0, le=1)]
#: For all documents, or for those of each language.
Bound = Probability | dict[str, Probability]


class Training(recipe_file.Config):
    """``positive`` and ``negative``: sources as in ``sources``, of texts that have and that lack what is asked for.

    Texts are folded (lower-cased, marks apart, digits as 0) and each is learned from once; of each side about
    ``max_bytes`` at most, chosen by hash, of long texts excerpts. A share ``heldout`` is kept to measure the model on.
    """

    positive: Annotated[list[Source], Field(min_length=1, description="sources of texts that have the property")]
    negative: Annotated[list[Source], Field(min_length=1, description="sources of texts that lack the property")]
    heldout: Annotated[float, Field(ge=0, lt=1, description="share of the texts kept to measure the classifier on")] = (
        0.1
    )
    epochs: Annotated[int, Field(ge=1, le=1000, description="passes over the training texts")] = 10
    learning_rate: Annotated[
        float, Field(gt=0, description="learning rate at the first step, falling linearly to 0")
    ] = 0.5
    dimensions: Annotated[int, Field(ge=1, le=1000, description="length of the word vectors")] = 32
    min_count: Annotated[int, Field(ge=1, description="occurrences below which a word has no vector of its own")] = 2
    word_ngrams: Annotated[int, Field(ge=1, le=5, description="longest run of words with a vector, in words")] = 2
    character_ngrams: Annotated[
        tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(le=10)]] | None,
        Field(description="shortest and longest character n-gram with a vector, in characters; default: none"),
    ] = None
    buckets: Annotated[int, Field(ge=1, le=1 << 24, description="hash buckets shared by all n-grams")] = 1 << 18
    max_bytes: Annotated[
        ByteSize, Field(ge=1 << 10, le=1 << 28, description="bytes of text to train on, of each side; chosen by hash")
    ] = ByteSize(64 << 20)

    @model_validator(mode="after")
    def _lengths_are_in_order(self) -> Training:
        if self.character_ngrams is not None and self.character_ngrams[0] > self.character_ngrams[1]:
            raise ValueError("character_ngrams: the shortest and the longest, such as [3, 5]")
        return self


class Distillation(recipe_file.Config):
    """How a fastText model is made of a fine-tuned classifier: it learns the probabilities that this gives to
    documents of the build (Hinton, Vinyals and Dean 2015), and is compared with it on others.
    """

    texts: Annotated[
        int, Field(ge=100, le=200_000, description="documents that the fine-tuned classifier scores; chosen by hash")
    ] = 20_000
    heldout: Annotated[
        float, Field(gt=0, lt=1, description="share of these documents that the two models are compared on")
    ] = 0.2
    minimum_agreement: Annotated[
        float,
        Field(
            ge=0,
            le=1,
            description="share of held-out documents that both models must keep or drop alike, or the build stops",
        ),
    ] = 0.9
    epochs: Annotated[int, Field(ge=1, le=1000, description="passes over the training texts")] = 20
    dimensions: Annotated[int, Field(ge=1, le=1000, description="length of the word vectors")] = 32


def _of_switch(value: object) -> object:
    return {} if value is True else value


class Classifier(recipe_file.Config):
    """``model`` and ``label``: a classifier that is there, and the label (or the labels) whose probability counts.
    It is the path of a fastText model, whose labels are named without ``__label__``; or the folder of a fine-tuned
    classifier, which ``distilled`` turns into a fastText model of its own, or, with ``distilled: false``, scores every
    document itself. Or ``train``: one trained in the build.

    A document longer than ``max_bytes`` is judged by an excerpt of so many; null reads all of it.
    """

    model: Annotated[
        str | None,
        Field(description="path of a fastText model (.bin or .ftz), or folder of a fine-tuned classifier"),
    ] = None
    label: Annotated[
        str | Annotated[list[str], Field(min_length=1)] | None,
        Field(
            description="label whose probability is the score, without `__label__`; of several labels their sum,"
            " or the highest where a text may have several"
        ),
    ] = None
    distilled: Annotated[
        Distillation | Literal[False],
        BeforeValidator(_of_switch),
        Field(
            description="learn a fastText model of the fine-tuned classifier's scores, and judge by that; false: the"
            " classifier scores every document",
            exclude_if=lambda value: value == Distillation(),
        ),
    ] = Distillation()
    train: Annotated[Training | None, Field(description="train the classifier in the build, in place of `model`")] = (
        None
    )
    max_bytes: Annotated[
        Annotated[int, Field(ge=SMALLEST)] | None,
        Field(description="bytes of a longer document that the classifier reads, as excerpts; null: all of it"),
    ] = 10_000

    @model_validator(mode="after")
    def _one_model(self) -> Classifier:
        if (self.model is None) == (self.train is None):
            raise ValueError("give either `model`, the path of a fastText model, or `train`, texts to train one on")
        if self.model is not None and self.label is None:
            raise ValueError("`label` is missing: which label's probability is the score?")
        if self.train is not None and self.label is not None:
            raise ValueError("`label` is for a `model` of your own; what is trained here has positive and negative")
        if self.train is not None and self.distilled != Distillation():
            raise ValueError("`distilled` is for a `model` that was fine-tuned; leave it out beside `train`")
        return self

    @property
    def labels(self) -> list[str]:
        return [self.label] if isinstance(self.label, str) else self.label or []

    @property
    def fine_tuned(self) -> str | None:
        """The folder of the fine-tuned classifier, where ``model`` is one."""
        return self.model if self.model is not None and Path(self.model).is_dir() else None

    @property
    def made_here(self) -> bool:
        """Whether the build makes the fastText model that judges: it is trained, or distilled."""
        return self.model is None or (self.fine_tuned is not None and self.distilled is not False)

    @property
    def direct(self) -> bool:
        """Whether the fine-tuned classifier scores every document itself."""
        return self.distilled is False and self.fine_tuned is not None


def require_language(field: str, bound: Bound, recipe: Recipe) -> None:
    """Raise MillError where ``bound`` is given by language and the recipe identifies none."""
    if isinstance(bound, dict) and recipe.section("language") is None:
        raise MillError(f"`{field}` is given by language: add a `language` section, or give one number")
