"""What a fine-tuning reads of a text that is longer than a sequence: a part of it, or all of it in chunks. Torch-free.

Sun et al. 2019, "How to Fine-Tune BERT for Text Classification?", section 5.3.1: head, tail, head and tail, chunks.
Pappagari et al. 2019, "Hierarchical Transformers for Long Document Classification".
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from training.recipe.named import OfAKind, named


class Head(OfAKind):
    """The first tokens, as many as fit."""

    kind: Annotated[Literal["head"], Field(description="the first tokens are read")] = "head"


class Tail(OfAKind):
    """The last tokens, as many as fit."""

    kind: Annotated[Literal["tail"], Field(description="the last tokens are read")] = "tail"


class HeadTail(OfAKind):
    """Some of the first tokens and, for the rest of the sequence, the last ones."""

    kind: Annotated[Literal["head_tail"], Field(description="the first and the last tokens are read")] = "head_tail"
    head: Annotated[
        int | None,
        Field(
            ge=1,
            description="tokens from the beginning; the rest of the sequence is from the end; default: 128 of the 510"
            " that 512 leave beside special tokens (Sun 2019), of another `sequence_length` the same share, rounded",
        ),
    ] = None


class _Windows(OfAKind):
    most: Annotated[
        int, Field(ge=1, description="chunks that are read of a text; the tokens after the last one are cut")
    ] = 32


class Chunks(_Windows):
    """All of the text in chunks that overlap by half; what the model says of each is pooled before its head."""

    kind: Annotated[Literal["chunks"], Field(description="overlapping chunks, pooled before the head")] = "chunks"
    pooling: Annotated[
        Literal["max", "mean", "attention"],
        Field(description="how the chunks' vectors become one; attention: a learned weight of each (Yang 2016)"),
    ] = "mean"


class Hierarchical(_Windows):
    """The same chunks, whose vectors a small Transformer reads before their mean is taken."""

    kind: Annotated[Literal["hierarchical"], Field(description="a small Transformer over the chunks' vectors")] = (
        "hierarchical"
    )
    layers: Annotated[int, Field(ge=1, description="layers of the small Transformer; Pappagari: 2")] = 2


OneOf = Annotated[Head | Tail | HeadTail | Chunks | Hierarchical, Field(discriminator="kind")]
#: What may be written alone.
Name = Literal["head", "tail", "head_tail", "chunks", "hierarchical"]
LongText = Annotated[OneOf, BeforeValidator(named, json_schema_input_type=OneOf | Name)]


def reach(config: LongText, length: int, special: int) -> int:
    """The most tokens, ``special`` ones counted, of a text of which sequences of ``length`` tokens hold all."""
    if isinstance(config, Chunks | Hierarchical):
        return length + (config.most - 1) * 2 * ((length - special) // 4)
    return length
