"""How a run is carried out, for pretraining and fine-tuning alike: optimiser, batch, precision, seed."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from pipeline import MillError
from pipeline.store.recipe_file import Config

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$")]
Share = Annotated[float, Field(ge=0, lt=1)]


Rate = Annotated[float, Field(gt=0, description="highest rate, after the warm-up")]
Schedule = Annotated[
    Literal["linear", "cosine", "constant", "wsd"], Field(description="how the rate changes after the warm-up")
]
Warmup = Annotated[Share, Field(description="share of the steps over which the rate rises from 0")]
WeightDecay = Annotated[float, Field(ge=0, description="AdamW's decoupled decay of weights")]
Beta2 = Annotated[Share, Field(description="AdamW's decay of the squared gradient's mean; RoBERTa: 0.98")]
Epsilon = Annotated[float, Field(gt=0, description="AdamW's addend to the denominator; RoBERTa: 1e-6")]
Clip = Annotated[float, Field(gt=0, description="largest norm of the gradient")]


class OptimiserConfig(Config):
    """AdamW, or Muon and AdamW, clipped, with linear warm-up and then linear, cosine or late decay, or none.

    A run that is given more steps goes on from its last checkpoint if its rates so far are the same: that is so for
    `constant`, and for `wsd` (warm-up, stable, decay: Hu 2024) from where its decay began, both with `warmup_steps`.
    A kind of run with other defaults has a class of its own, so that a field that is not set keeps them.
    """

    algorithm: Annotated[
        Literal["adamw", "muon"],
        Field(
            description="muon: the matrices between hidden states by Muon (Jordan 2024), its steps scaled so that"
            " AdamW's rate and decay fit (Liu 2025); all else by AdamW",
            exclude_if=lambda algorithm: algorithm == "adamw",  # came later: runs before it keep their fingerprints
        ),
    ] = "adamw"
    learning_rate: Rate = 1e-3
    schedule: Schedule = "cosine"
    warmup: Warmup = 0.05
    warmup_steps: Annotated[int | None, Field(ge=0, description="steps of the warm-up, instead of a share")] = None
    decay: Annotated[float, Field(gt=0, le=1, description="share of the steps, the last, in which `wsd` decays")] = 0.2
    floor: Annotated[Share, Field(description="the last rate, as a share of learning_rate")] = 0.0
    weight_decay: WeightDecay = 0.1
    beta1: Annotated[Share, Field(description="AdamW's decay of the gradient's mean")] = 0.9
    beta2: Beta2 = 0.95
    epsilon: Epsilon = 1e-8
    clip: Clip = 1.0


class FinetuneOptimiser(OptimiserConfig):
    """AdamW as fine-tuning starts out with it; fields that are not set keep these values."""

    learning_rate: Rate = 2e-4
    schedule: Schedule = "linear"
    warmup: Warmup = 0.1
    weight_decay: WeightDecay = 0.01
    beta2: Beta2 = 0.999


class AdaptOptimiser(OptimiserConfig):
    """AdamW as an adaptation to a domain starts out with it; fields that are not set keep these values."""

    learning_rate: Rate = 1e-4
    schedule: Schedule = "linear"
    warmup: Warmup = 0.06
    weight_decay: WeightDecay = 0.01
    beta2: Beta2 = 0.98
    epsilon: Epsilon = 1e-6


class ElmoOptimiser(OptimiserConfig):
    """AdamW as ELMo starts out with it; fields that are not set keep these values."""

    algorithm: Annotated[Literal["adamw"], Field(description="always AdamW for ELMo", exclude=True)] = "adamw"
    learning_rate: Rate = 2e-3
    weight_decay: WeightDecay = 0.0
    beta2: Beta2 = 0.999
    clip: Clip = 10.0


class LadderOptimiser(OptimiserConfig):
    """AdamW as a ladder starts out with it; fields that are not set keep these values."""

    learning_rate: Rate = 3e-3


class AblationOptimiser(OptimiserConfig):
    """AdamW as an ablation starts out with it; fields that are not set keep these values."""

    learning_rate: Rate = 2e-3


#: Fields that say how a run is carried out, not what comes of it: equal weights but for rounding and dropout's draws.
CARRIED_OUT = frozenset(
    {
        "micro_batch",
        "compile",
        "recompute",
        "log_every",
        "eval_every",
        "checkpoint_every",
        "keep_last",
        "cost_ladder_minutes",
    }
)
#: Fields that say how long a run is, or how it is measured: its weights so far do not depend on them.
LENGTH = frozenset({"steps", "tokens", "epochs", "eval_tokens", "baselines", "held_out", "costs"})
#: Fields that came later: at their default they are no part of a fingerprint, so that earlier runs stay current.
LATER = frozenset({"initial_embeddings", "long_text", "held_out", "adapt", "costs"})
#: Fields that ask for more to be said of the finished model: they are no part of a fingerprint.
SAID_OF_IT = frozenset({"understand"})
#: Fields that the learning rate of a step comes of.
RATES = frozenset({"learning_rate", "schedule", "warmup", "warmup_steps", "decay", "floor"})


class RunConfig(Config):
    """The fields that every kind of run has."""

    batch_size: Annotated[int, Field(ge=1, description="sequences a step")] = 32
    micro_batch: Annotated[int | None, Field(ge=1, description="sequences a forward pass; all if absent")] = None
    precision: Annotated[
        Literal["fp32", "bf16", "auto"], Field(description="auto: bf16 where the hardware multiplies it")
    ] = "auto"
    compile: Annotated[
        bool, Field(description="compile the model with torch.compile: a slow start, then faster steps")
    ] = False
    seed: Annotated[int | None, Field(ge=0, lt=2**32, description="the recipe's seed if absent")] = None

    @model_validator(mode="after")
    def _micro_batches_fill_the_batch(self) -> RunConfig:
        if self.micro_batch is not None and self.batch_size % self.micro_batch:
            raise MillError(f"batch_size ({self.batch_size}) must be divisible by micro_batch ({self.micro_batch})")
        return self

    def of_result(self) -> dict[str, Any]:
        """The fields that decide what comes of the run, for its fingerprint."""
        fields = type(self).model_fields
        defaults = {name for name in LATER & fields.keys() if getattr(self, name) == fields[name].default}
        return self.model_dump(mode="json", exclude={*CARRIED_OUT, *SAID_OF_IT, *defaults})

    def of_weights(self) -> dict[str, Any]:
        """Those of ``of_result`` that weights depend on at every step, whatever the run's length and rates."""
        kept = {name: value for name, value in self.of_result().items() if name not in LENGTH}
        optimiser = {name: value for name, value in kept["optimiser"].items() if name not in RATES}
        return {**kept, "optimiser": optimiser}
