"""The `pretrain` section of a recipe. It needs neither torch nor what curation needs."""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, create_model, field_validator, model_validator

from pipeline import MillError
from pipeline.build.plugins import Plugin
from pipeline.store.recipe_file import Config
from training.recipe import model_shapes, objectives
from training.recipe.run import Name, OptimiserConfig, RunConfig


class PhaseConfig(Config):
    """Steps of a run before its last part, with sequences or batches of their own."""

    steps: Annotated[int, Field(ge=1, description="steps of this phase")]
    sequence_length: Annotated[
        int | None, Field(ge=8, description="tokens in a sequence; that of the run if absent. BERT: 128, then 512")
    ] = None
    batch_size: Annotated[int | None, Field(ge=1, description="sequences a step; that of the run if absent")] = None


class PretrainConfig(RunConfig, objectives.ObjectiveConfig):
    """One model, pretrained on the packed tokens of one tokenizer. Say how long by one of steps, tokens, epochs."""

    loaded: ClassVar[tuple[Plugin, ...]] = ()

    name: Annotated[Name, Field(description="name of the model, and of its folder")]
    tokenizer: Annotated[str, Field(description="name of a tokenizer of this recipe")]
    model: Annotated[str | dict[str, Any], Field(description="a preset, or a preset with fields changed")]
    base: Annotated[
        str | None,
        Field(
            description="folder of a model, or its address in an object store, whose weights the run starts from: in"
            " safetensors, of the shape of `model`, with the tokens of `tokenizer`; drawn if absent",
            exclude_if=lambda base: base is None,
        ),
    ] = None
    sequence_length: Annotated[int, Field(ge=8, description="tokens in a sequence")] = 256
    first: Annotated[
        list[PhaseConfig],
        Field(
            description="phases before the last, which has the run's own sequence_length and batch_size: shorter"
            " sequences (BERT reads 128 tokens for nine tenths of its steps, then 512), or smaller batches",
            exclude_if=lambda phases: not phases,
        ),
    ] = []
    initial_embeddings: Annotated[
        Literal["random", "cooccurrence"],
        Field(
            description="token embeddings to start from: drawn, or of which tokens stand near which in the corpus,"
            " which takes seconds and helps small models"
        ),
    ] = "random"
    packing: Annotated[
        Literal["concatenate", "best_fit", "full_sentences"],
        Field(
            description="documents end to end and cut; or best-fit: whole ones and under 1 % of padding; or best-fit"
            " with longer ones cut between sentences (RoBERTa)"
        ),
    ] = "concatenate"
    steps: Annotated[int | None, Field(ge=1, description="length of the run in optimiser steps")] = None
    tokens: Annotated[int | None, Field(ge=1, description="length of the run in tokens read")] = None
    epochs: Annotated[float | None, Field(gt=0, description="length of the run in passes over the training tokens")] = (
        None
    )
    optimiser: Annotated[OptimiserConfig, Field(description="optimiser and learning-rate schedule")] = OptimiserConfig()
    recompute: Annotated[
        bool,
        Field(
            description="keep one state a layer, and compute the rest again on the way back (Chen 2016): less memory,"
            " a third more time",
            exclude_if=lambda recompute: not recompute,
        ),
    ] = False
    log_every: Annotated[int, Field(ge=1, description="steps between two lines of the log")] = 10
    eval_every: Annotated[int | None, Field(ge=1, description="steps; only at the end if absent")] = None
    eval_tokens: Annotated[int, Field(ge=1, description="held-out tokens that an evaluation reads")] = 100_000
    checkpoint_every: Annotated[int, Field(ge=1, description="steps between two checkpoints")] = 100
    keep_last: Annotated[int, Field(ge=1, description="checkpoints to keep, the latest ones")] = 2

    @field_validator("model")
    @classmethod
    def _model_is_known(cls, model: str | dict[str, Any]) -> str | dict[str, Any]:
        model_shapes.shape_of(model)
        return model

    @model_validator(mode="after")
    def _a_student_has_its_teachers_embeddings(self) -> PretrainConfig:
        if self.objective == "distillation" and self.initial_embeddings != "random":
            raise MillError(
                f"pretrain {self.name!r}: a student starts from its teacher; leave out `initial_embeddings`"
            )
        return self

    @model_validator(mode="after")
    def _a_base_is_one_whole_model(self) -> PretrainConfig:
        if self.base is None:
            return self
        if self.like in ("distillation", "electra"):
            own = "a student starts from its teacher" if self.like == "distillation" else "ELECTRA trains two models"
            raise MillError(f"pretrain {self.name!r}: {own}; leave out `base`")
        if self.initial_embeddings != "random":
            raise MillError(f"pretrain {self.name!r}: the base has embeddings; leave out `initial_embeddings`")
        return self

    @model_validator(mode="after")
    def _phases_fit_the_model(self) -> PretrainConfig:
        longest = max((phase.sequence_length or 0 for phase in self.first), default=0)
        if longest > self.sequence_length:
            raise MillError(
                f"pretrain {self.name!r}: a phase in `first` has sequences of {longest} tokens, and the model has"
                f" positions for {self.sequence_length}; lower it, or raise `sequence_length`"
            )
        before = sum(phase.steps for phase in self.first)
        if self.steps is not None and before >= self.steps:
            raise MillError(
                f"pretrain {self.name!r}: the phases in `first` have {before} steps and the run {self.steps}; raise"
                " `steps`, which counts them too"
            )
        return self

    @model_validator(mode="after")
    def _layers_can_be_computed_again(self) -> PretrainConfig:
        if self.recompute and self.shape["type"] == "albert":
            raise MillError(f"pretrain {self.name!r}: `recompute` has no effect on albert; leave it out")
        return self

    @model_validator(mode="after")
    def _length_is_said_once(self) -> PretrainConfig:
        if sum(value is not None for value in (self.steps, self.tokens, self.epochs)) != 1:
            raise MillError(f"pretrain {self.name!r}: set exactly one of `steps`, `tokens`, `epochs`")
        return self

    @model_validator(mode="after")
    def _objective_fits_model(self) -> PretrainConfig:
        objectives.check(self, self.name, self.shape)
        return self

    @property
    def shape(self) -> model_shapes.Shape:
        return model_shapes.shape_of(self.model)

    def __reduce__(self) -> tuple[Any, ...]:
        """Travels as its plug-ins and its state, as a recipe does."""
        return _empty, (self.loaded,), self.__getstate__()


@cache
def pretrain_config(loaded: tuple[Plugin, ...]) -> type[PretrainConfig]:
    """PretrainConfig with the objectives that plug-ins add. Raises MillError for one that does not fit."""
    added = objectives.declared(loaded)
    if not added:
        return PretrainConfig
    field = PretrainConfig.model_fields["objective"]
    names = Literal[(*objectives.OBJECTIVES, *added)]  # type: ignore[valid-type]
    fields: Any = {"objective": (names, Field(description=field.description))}
    made = create_model("PretrainConfig", __base__=PretrainConfig, __module__=__name__, **fields)
    made.added, made.loaded = added, loaded
    return made


def _empty(loaded: tuple[Plugin, ...]) -> PretrainConfig:
    known = pretrain_config(loaded)
    return known.__new__(known)
