"""How a fine-tuning changes its base: all weights, some of them, or a few new ones beside frozen ones. Torch-free."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from pipeline.store.recipe_file import Config
from training.recipe.named import OfAKind, named
from training.recipe.run import Share


class Full(OfAKind):
    """All weights are trained."""

    kind: Annotated[Literal["full"], Field(description="all weights are trained")] = "full"


class Features(OfAKind):
    """The base stays frozen; what it makes of each row is computed once, and only the head is trained on that."""

    kind: Annotated[Literal["features"], Field(description="a head on the states of a frozen base")] = "features"


class Partial(OfAKind):
    """The embeddings and the first layers stay frozen."""

    kind: Annotated[Literal["partial"], Field(description="embeddings and first layers stay frozen")] = "partial"
    layers: Annotated[int, Field(ge=0, description="layers that stay frozen, from the first, beside the embeddings")]


class LayerwiseDecay(OfAKind):
    """All weights are trained, lower layers at lower rates.

    `electra` (Clark 2020): a layer has rate x decay^(layers + 2 - depth), where embeddings have depth 0, layers 1, 2,
    ..., the head layers + 2. `sun` (Sun 2019): head and last layer have the rate, each layer `decay` of the one above.
    """

    kind: Annotated[Literal["layerwise_decay"], Field(description="lower layers have lower rates")] = "layerwise_decay"
    convention: Annotated[
        Literal["electra", "sun"], Field(description="which layer has the full rate: `electra` the head alone")
    ] = "electra"
    decay: Annotated[
        float | None,
        Field(gt=0, le=1, description="rate of a layer, of the one above; default: 0.8 in electra, 0.95 in sun"),
    ] = None

    @property
    def share(self) -> float:
        """``decay``, or what the convention's paper takes."""
        return self.decay or {"electra": 0.8, "sun": 0.95}[self.convention]


class GradualUnfreezing(OfAKind):
    """ULMFiT (Howard 2018): the head is trained first, and in each epoch one layer more, from the last one down."""

    kind: Annotated[Literal["gradual_unfreezing"], Field(description="one layer more in each epoch, as in ULMFiT")] = (
        "gradual_unfreezing"
    )
    decay: Annotated[float, Field(gt=0, le=1, description="rate of a layer, of the one above; ULMFiT: 1 / 2.6")] = (
        1 / 2.6
    )


class Lora(OfAKind):
    """LoRA (Hu 2021): low-rank matrices B A are added to frozen ones, times alpha / rank."""

    kind: Annotated[Literal["lora"], Field(description="low-rank matrices beside frozen ones")] = "lora"
    rank: Annotated[int, Field(ge=1, description="rank of the added matrices")] = 8
    alpha: Annotated[float, Field(gt=0, description="what is added is times alpha / rank")] = 16.0
    rslora: Annotated[bool, Field(description="times alpha / sqrt(rank) instead (Kalajdzievski 2023)")] = False
    targets: Annotated[
        list[str] | None,
        Field(description="ends of the names of the layers that get some; default: the queries' and the values'"),
    ] = None
    dropout: Annotated[Share, Field(description="dropout probability of what the added matrices read")] = 0.0
    merge: Annotated[bool, Field(description="publish the whole model with the matrices added in, not they alone")] = (
        True
    )


class Adapters(OfAKind):
    """Houlsby 2019: after each sub-layer a bottleneck is trained, with the layer norms and the head."""

    kind: Annotated[Literal["adapters"], Field(description="bottlenecks after the sub-layers, as in Houlsby 2019")] = (
        "adapters"
    )
    size: Annotated[int, Field(ge=1, description="width of the bottleneck; Houlsby: 8, 64 or 256")] = 64


class Prefix(OfAKind):
    """Prefix tuning (Li 2021): every attention, of encoder and decoder, sees trained keys and values first."""

    kind: Annotated[Literal["prefix"], Field(description="trained keys and values before each attention's own")] = (
        "prefix"
    )
    tokens: Annotated[int, Field(ge=1, description="keys and values that are added to each attention")] = 20
    reparametrised: Annotated[
        bool, Field(description="train them as the output of a small network, which is thrown away at the end")
    ] = False
    hidden: Annotated[int, Field(ge=1, description="inner width of that network; Li: 512 for classification")] = 512


class Prompt(OfAKind):
    """Prompt tuning (Lester 2021): trained embeddings are read with each text."""

    kind: Annotated[Literal["prompt"], Field(description="trained embeddings before each text")] = "prompt"
    tokens: Annotated[int, Field(ge=1, description="embeddings that are read with each text; Lester: up to 100")] = 20


class Bitfit(OfAKind):
    """BitFit (Ben Zaken 2022): the biases and the head are trained."""

    kind: Annotated[Literal["bitfit"], Field(description="the biases and the head are trained")] = "bitfit"


class Grid(Config):
    """Settings that are tried, each with each; the development rows choose. Ranges of Devlin 2019, appendix A.3."""

    learning_rate: Annotated[list[float], Field(min_length=1, description="highest rates after the warm-up")] = [
        2e-5,
        3e-5,
        5e-5,
    ]
    batch_size: Annotated[list[int], Field(min_length=1, description="sequences a step")] = [16, 32]
    epochs: Annotated[list[int], Field(min_length=1, description="passes over the training rows")] = [2, 3, 4]


OneOf = Annotated[
    Full | Features | Partial | LayerwiseDecay | GradualUnfreezing | Lora | Adapters | Prefix | Prompt | Bitfit,
    Field(discriminator="kind"),
]
#: What may be written alone.
Named = Literal[
    "full", "features", "partial", "layerwise_decay", "gradual_unfreezing", "lora", "adapters", "prefix", "prompt",
    "bitfit",
]  # fmt: skip
Strategy = Annotated[OneOf, BeforeValidator(named, json_schema_input_type=OneOf | Named)]
