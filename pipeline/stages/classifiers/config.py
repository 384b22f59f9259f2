"""What a recipe says of a classifier: a fastText model that the user brings, or texts to train one on."""

from __future__ import annotations

from typing import Annotated

from pydantic import ByteSize, Field, model_validator

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


class Classifier(recipe_file.Config):
    """``model``: the path of a fastText model, and ``label`` the one (without ``__label__``) whose probability counts;
    or ``train``: one trained in the build.

    A document longer than ``max_bytes`` is judged by an excerpt of so many; null reads all of it.
    """

    model: Annotated[str | None, Field(description="path of a fastText model (.bin or .ftz)")] = None
    label: Annotated[str | None, Field(description="label whose probability is the score, without `__label__`")] = None
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
        return self


def require_language(field: str, bound: Bound, recipe: Recipe) -> None:
    """Raise MillError where ``bound`` is given by language and the recipe identifies none."""
    if isinstance(bound, dict) and recipe.section("language") is None:
        raise MillError(f"`{field}` is given by language: add a `language` section, or give one number")
