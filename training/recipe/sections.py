"""The training sections of a recipe. Torch-free, so that a wrong recipe is refused at once."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from pipeline import MillError
from pipeline.build.build import Build
from pipeline.build.plugins import Plugin
from pipeline.curation import plugins
from pipeline.curation.recipe import Recipe, require_unique
from pipeline.sources import Source
from pipeline.store import files
from pipeline.store.recipe_file import Config, Misfit
from training.recipe import base_folder, gpu_peaks, model_shapes, objectives, tasks
from training.recipe.finetuning import FinetuneConfig, finetune_config
from training.recipe.pretraining import PretrainConfig, pretrain_config
from training.recipe.run import AblationOptimiser, ElmoOptimiser, LadderOptimiser, Name, RunConfig


class EmbeddingConfig(Config):
    """Word vectors of the corpus: word2vec (cbow, skipgram), GloVe, or ELMo, for fine-tuning to be compared with."""

    name: Annotated[Name, Field(description="name of the vectors, and of their folder")]
    method: Annotated[
        Literal["cbow", "skipgram", "glove", "elmo"],
        Field(description="method: word2vec's CBOW or skip-gram, GloVe, or ELMo"),
    ]
    dimensions: Annotated[int, Field(ge=2, multiple_of=2, description="of a vector; ELMo: half for each direction")] = (
        100
    )
    lowercase: Annotated[bool, Field(description="write all letters in lower case")] = True
    min_count: Annotated[int, Field(ge=1, description="rarer words are unknown")] = 5
    vocabulary: Annotated[int, Field(ge=1, description="maximum number of words, the most frequent ones")] = 100_000
    window: Annotated[int, Field(ge=1, description="words to each side; cbow, skipgram, glove")] = 5
    epochs: Annotated[int, Field(ge=1, description="passes over the training text")] = 5
    learning_rate: Annotated[float, Field(gt=0, description="cbow, skipgram, glove")] = 0.05
    negatives: Annotated[int, Field(ge=1, description="noise words for each word; cbow, skipgram")] = 5
    thinning: Annotated[float, Field(gt=0, description="words above this share of the text are thinned out")] = 1e-4
    seed: Annotated[int | None, Field(ge=0, lt=2**32, description="the recipe's seed if absent")] = None
    sequence_length: Annotated[int, Field(ge=2, description="words in a sequence; elmo only")] = 64
    batch_size: Annotated[int, Field(ge=1, description="sequences a step; elmo")] = 32
    cell_size: Annotated[int, Field(ge=1, description="of an LSTM before its projection; elmo")] = 512
    filters: Annotated[list[tuple[int, int]], Field(min_length=1, description="width and number of each; elmo")] = [
        (1, 32), (2, 32), (3, 64), (4, 128)
    ]  # fmt: skip
    optimiser: Annotated[ElmoOptimiser, Field(description="optimiser and learning-rate schedule; elmo only")] = (
        ElmoOptimiser()
    )


class LadderConfig(RunConfig):
    """Small causal models trained at several computes (`mill ladder`), to fit scaling laws of one's own corpus."""

    tokenizer: Annotated[str, Field(description="name of a tokenizer of this recipe")]
    family: Annotated[Literal["gpt2", "llama"], Field(description="architecture of the models")] = "llama"
    compute: Annotated[
        list[Annotated[float, Field(gt=0)]],
        Field(min_length=1, description="floating-point operations of a run; a run of every width for each"),
    ] = [1e12, 3e12, 1e13]
    widths: Annotated[
        list[Annotated[int, Field(ge=32, multiple_of=32)]],
        Field(min_length=3, description="hidden sizes of the models, multiples of 32"),
    ] = [32, 64, 96, 128, 192, 256]
    layer_width: Annotated[
        int, Field(ge=1, description="hidden size per layer: a model has width / layer_width layers")
    ] = 64
    parameters: Annotated[
        Literal["total", "non_embedding", "matrices_and_head"], Field(description="the N that the laws are fitted to")
    ] = "total"
    sequence_length: Annotated[int, Field(ge=8, description="tokens in a sequence")] = 128
    batch_size: Annotated[int, Field(ge=1, description="sequences a step")] = 16
    optimiser: Annotated[LadderOptimiser, Field(description="optimiser and learning-rate schedule")] = LadderOptimiser()
    base_width: Annotated[
        int, Field(ge=1, description="width that learning_rate is for; others get it x sqrt(base_width / width)")
    ] = 128
    min_steps: Annotated[int, Field(ge=1, description="runs with fewer steps are left out")] = 50
    max_epochs: Annotated[float, Field(gt=0, description="runs that repeat the corpus more often are left out")] = 4.0
    eval_tokens: Annotated[int, Field(ge=1, description="held-out tokens that a run is judged by")] = 100_000
    bootstrap: Annotated[int, Field(ge=20, description="resamples behind each interval")] = 400
    predict: Annotated[
        list[Annotated[float, Field(gt=0)]], Field(description="multiples of the largest compute to predict")
    ] = [10.0, 100.0]


class AblationConfig(RunConfig):
    """Equal small causal models trained on raw and curated text and with one stage left out (`mill ablate`)."""

    tokenizer: Annotated[str, Field(description="name of a tokenizer of this recipe")]
    model: Annotated[str | dict[str, Any], Field(description="a causal preset, or a preset with fields changed")] = (
        "gpt2-demo"
    )
    tokens: Annotated[int, Field(ge=1, description="tokens that every model reads")]
    leave_out: Annotated[
        list[str] | None, Field(description="stages to leave out one by one; absent: all of the recipe's but balance")
    ] = None
    neutral: Annotated[
        list[Source], Field(description="sources of held-out text that neither corpus has a claim to")
    ] = []
    seeds: Annotated[int, Field(ge=2, description="models of each variant; intervals are over them")] = 3
    sequence_length: Annotated[int, Field(ge=8, description="tokens in a sequence")] = 128
    batch_size: Annotated[int, Field(ge=1, description="sequences a step")] = 16
    optimiser: Annotated[AblationOptimiser, Field(description="optimiser and learning-rate schedule")] = (
        AblationOptimiser()
    )
    eval_tokens: Annotated[int, Field(ge=1, description="held-out tokens of each kind that a model is judged by")] = (
        100_000
    )

    @field_validator("model")
    @classmethod
    def _model_is_causal(cls, model: str | dict[str, Any]) -> str | dict[str, Any]:
        if model_shapes.shape_of(model)["type"] not in objectives.OBJECTIVES["causal"]:
            raise MillError(f"ablation trains causal models: {', '.join(objectives.OBJECTIVES['causal'])}")
        return model


class BudgetConfig(Config):
    """What the token budget compares this build with."""

    parameters: Annotated[int, Field(ge=1, description="size of the model one would like to train")] = 124_000_000
    tokens_per_parameter: Annotated[
        float, Field(gt=0, description="training tokens per parameter; 20 is Chinchilla's (Hoffmann 2022)")
    ] = 20.0
    gpu: Annotated[str, Field(description="name of the GPU as its vendor gives it")] = "H100"
    utilisation: Annotated[float, Field(gt=0, le=1, description="share of the GPU's peak")] = 0.4
    price_per_hour: Annotated[float | None, Field(ge=0, description="price of one GPU per hour, in your currency")] = (
        None
    )

    @field_validator("gpu")
    @classmethod
    def _gpu_is_known(cls, gpu: str) -> str:
        if gpu_peaks.peak_flops(gpu) is None:
            raise MillError(f"no peak is known for {gpu!r}; known: {', '.join(gpu_peaks.PEAKS)}")
        return gpu


class BuildRecipe(Recipe):
    """A build from raw text to models."""

    pretrain: Annotated[list[PretrainConfig], Field(description="models to pretrain on the packed tokens")] = []
    finetune: Annotated[
        list[FinetuneConfig], Field(description="classifiers to fine-tune from pretrained encoders")
    ] = []
    embeddings: Annotated[list[EmbeddingConfig], Field(description="word vectors to train on the corpus")] = []
    ladder: Annotated[
        LadderConfig | None, Field(description="small models to fit scaling laws with (`mill ladder`)")
    ] = None
    ablation: Annotated[
        AblationConfig | None, Field(description="small models to compare raw and curated text with (`mill ablate`)")
    ] = None
    budget: Annotated[
        BudgetConfig, Field(description="model and GPU that the token budget compares this build with")
    ] = BudgetConfig()

    @classmethod
    def announced(cls, values: Mapping[str, Any]) -> Iterator[tuple[str, str, *tuple[str | int, ...]]]:
        yield from super().announced(values)
        for section, field, kind, known in (
            ("pretrain", "objective", "objectives", {*objectives.OBJECTIVES, *pretrain_config(cls.loaded).added}),
            ("finetune", "task", "tasks", {*tasks.TASKS, *finetune_config(cls.loaded).added}),
        ):
            runs = values.get(section)
            for at, run in enumerate(runs if isinstance(runs, list) else ()):
                name = run.get(field) if isinstance(run, dict) else None
                if isinstance(name, str) and name not in known:
                    yield kind, name, section, at, field

    @classmethod
    def added_fields(cls, loaded: tuple[Plugin, ...]) -> dict[str, Any]:
        fields = super().added_fields(loaded)
        for name, plain, run in (
            ("pretrain", PretrainConfig, pretrain_config(loaded)),
            ("finetune", FinetuneConfig, finetune_config(loaded)),
        ):
            if run is not plain:
                fields[name] = list[run], Field(default=[], description=cls.model_fields[name].description)
        return fields

    @model_validator(mode="after")
    def _references_exist(self) -> BuildRecipe:
        require_unique("pretrain", [run.name for run in self.pretrain])
        require_unique("finetune", [run.name for run in self.finetune])
        require_unique("embeddings", [*(run.name for run in self.embeddings), *(run.name for run in self.pretrain)])
        tokenizers = [tokenizer.name for tokenizer in self.tokenizers]
        roles = {tokenizer.name: tuple(tokenizer.special) for tokenizer in self.tokenizers}
        for at, run in enumerate(self.pretrain):
            _require(run.tokenizer, tokenizers, "pretrain", at, "tokenizer")
            _can(roles, run.tokenizer, run.like, run.shape["type"], "pretrain", at, "tokenizer")
            self._teacher_is_there(run)
        if self.ladder is not None:
            _require(self.ladder.tokenizer, tokenizers, "ladder", "tokenizer")
            _can(roles, self.ladder.tokenizer, "causal", self.ladder.family, "ladder", "tokenizer")
        if self.ablation is not None:
            _require(self.ablation.tokenizer, tokenizers, "ablation", "tokenizer")
            kind = model_shapes.shape_of(self.ablation.model)["type"]
            _can(roles, self.ablation.tokenizer, "causal", kind, "ablation", "tokenizer")
        for at, run in enumerate(self.finetune):
            self._base_is_an_encoder(at, run)
            for place, baseline in enumerate(run.baselines):
                _require(baseline, [entry.name for entry in self.embeddings], "finetune", at, "baselines", place)
            if run.name in {other.name for other in self.pretrain}:
                raise Misfit(
                    f"a pretrain run is called {run.name!r} too; models need their own names", "finetune", at, "name"
                )
        return self

    def _base_is_an_encoder(self, at: int, run: FinetuneConfig) -> None:
        """And takes sequences as long as the run's. Of a folder that is known only where the folder is."""
        if base_folder.is_folder(run.base):
            return
        names = [base.name for base in self.pretrain]
        if run.base not in names:
            raise Misfit(
                f"{run.base!r} is not in this recipe; there is {', '.join(names) or 'none'}. The path of a model's"
                f" folder has a slash: {'./' + run.base!r}",
                *("finetune", at, "base"),
            )
        base = next(base for base in self.pretrain if base.name == run.base)
        writes = run.like == "text2text"
        wanted = objectives.WRITERS if writes else objectives.ENCODERS
        if base.like not in wanted:
            fitting = ", ".join(other.name for other in self.pretrain if other.like in wanted)
            needs = "text2text needs an encoder-decoder" if writes else "a classifier needs an encoder"
            raise Misfit(
                f"base {run.base!r} is trained by {base.objective!r}, and {needs}"
                f" ({', '.join(wanted)}); take {fitting or 'a run of one of these objectives'}",
                *("finetune", at, "base"),
            )
        if run.sequence_length > base.sequence_length:
            raise Misfit(
                f"sequence_length {run.sequence_length} is more than the {base.sequence_length} that its base"
                f" {run.base!r} has positions for; lower it, or raise the base's",
                *("finetune", at, "sequence_length"),
            )

    def _teacher_is_there(self, student: PretrainConfig) -> None:
        """A teacher of this recipe comes before its student and shares its tokenizer."""
        names = [run.name for run in self.pretrain]
        if student.distillation is None or student.distillation.teacher not in names:
            return
        at, place = names.index(student.distillation.teacher), names.index(student.name)
        field = ("pretrain", place, "distillation", "teacher")
        teacher = self.pretrain[at]
        if at >= place:
            raise Misfit(f"the teacher {teacher.name!r} must be listed before its student", *field)
        if teacher.tokenizer != student.tokenizer:
            raise Misfit(f"must be the tokenizer of its teacher, {teacher.tokenizer!r}", "pretrain", place, "tokenizer")
        if teacher.like not in ("mlm", "mlm_nsp", "distillation"):
            raise Misfit(f"the teacher {teacher.name!r} predicts no masked tokens; take a run of mlm", *field)
        _student_fits(student, teacher, "pretrain", place)


def _student_fits(student: PretrainConfig, teacher: PretrainConfig, *field: str | int) -> None:
    """A student starts from layers of its teacher: as wide, no more of them, for sequences no longer."""
    kinds = teacher.shape["type"], student.shape["type"]
    if kinds[0] != kinds[1] and kinds != ("bert", "distilbert"):
        raise Misfit(f"a {kinds[1]} student has no {kinds[0]} teacher; take a teacher of bert", *field, "model")
    layers, *sizes = model_shapes.size_of(student.shape)
    taught, *wanted = model_shapes.size_of(teacher.shape)
    if sizes != wanted or layers > taught or student.sequence_length > teacher.sequence_length:
        raise Misfit(
            f"width, heads, inner width {sizes}, {layers} layers and sequence_length {student.sequence_length} must be"
            f" {wanted}, at most {taught} layers and at most {teacher.sequence_length}, as its teacher"
            f" {teacher.name!r} has them",
            *field,
            "model",
        )


def _can(roles: Mapping[str, Collection[str]], tokenizer: str, objective: str, kind: str, *field: str | int) -> None:
    """Raise Misfit, which names ``field``, where ``tokenizer`` lacks a special token that ``objective`` needs."""
    if lacking := objectives.lacking(objective, kind, roles[tokenizer]):
        raise Misfit(
            f"objective {objective!r} of a {kind} model needs a tokenizer with a {' or '.join(lacking)} token, and"
            f" {tokenizer!r} has {', '.join(roles[tokenizer]) or 'none'}; add it to its `special_tokens`, or name"
            " another tokenizer",
            *field,
        )


def stored(root: str | Path) -> BuildRecipe:
    """The recipe that the build in the folder ``root`` ran; raises MillError where it cannot be read, or a plug-in is
    not as it was.
    """
    path = files.join(str(root), "recipe.json")
    values, model = plugins.resolve(files.read_json(path), BuildRecipe, root)
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "recipe"
        raise MillError(
            f"{path}: this version of corpusmill cannot read it ({place}: {first['msg']}); run `mill build` on the"
            " recipe again"
        ) from error


def finished_build(root: str) -> Build[BuildRecipe]:
    """The build in the folder ``root`` with the recipe it ran. Raises MillError unless it is finished."""
    folder = files.here(root)
    if not all(files.exists(files.join(folder, name)) for name in ("recipe.json", "funnel.json")):
        raise MillError(f"{root}: no finished build here; run `mill build` first")
    return Build(folder, stored(folder))


def _require(value: str, known: list[str], *field: str | int) -> None:
    """Raise Misfit, which names ``field``, where ``value`` is not among the names of this recipe."""
    if value not in known:
        raise Misfit(f"{value!r} is not in this recipe; there is {', '.join(known) or 'none'}", *field)
