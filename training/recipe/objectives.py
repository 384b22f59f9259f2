"""What a recipe may say about each objective, and which architectures it trains. Torch-free."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from pipeline import MillError
from pipeline.build.plugins import Part, Plugin, added
from pipeline.store.recipe_file import Config

Positive = Annotated[float, Field(gt=0)]
Weight = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]

ObjectiveName = Literal[
    "causal", "mlm", "mlm_nsp", "mlm_sop", "distillation", "electra", "span_corruption", "denoising"
]

#: Which architectures each objective trains.
OBJECTIVES: dict[str, tuple[str, ...]] = {
    "causal": ("gpt2", "llama", "qwen3"),
    "mlm": ("bert", "roberta", "albert", "distilbert", "modernbert"),
    "mlm_nsp": ("bert",),
    "mlm_sop": ("albert",),
    "distillation": ("distilbert", "bert", "roberta"),
    "electra": ("electra",),
    "span_corruption": ("t5",),
    "denoising": ("bart",),
}
#: Objectives that read one pair of segments a sequence.
PAIRED = ("mlm_nsp", "mlm_sop")
#: Objectives whose model is an encoder that a classifier may be put upon.
ENCODERS = ("mlm", "mlm_nsp", "mlm_sop", "distillation", "electra")
#: Objectives whose model is an encoder-decoder that writes a text for a text.
WRITERS = ("span_corruption", "denoising")

_OPENING, _CLOSING, _MASK, _PAD = ("cls", "bos", "eos"), ("sep", "eos"), ("mask",), ("pad",)
_MASKED = (_OPENING, _CLOSING, _MASK)
#: Special tokens that an objective needs of its tokenizer: one role of each group.
ROLES: dict[str, tuple[tuple[str, ...], ...]] = {
    **dict.fromkeys(("mlm", "mlm_nsp", "mlm_sop", "distillation", "electra", "denoising"), _MASKED),
    "causal": (_OPENING,),
    "span_corruption": (_PAD, _CLOSING),
}


@dataclass(frozen=True)
class Declared(Part):
    """As much of an objective as a recipe must know. ``like``, for a plug-in's: which of OBJECTIVES trains the same
    architectures, needs the same special tokens and has the same options.
    """

    like: str = field(default="", kw_only=True)


class NgramConfig(Config):
    """ALBERT (Lan 2020): runs of words are masked together; a run of n has a probability in proportion to 1/n."""

    longest: Annotated[int, Field(ge=1, description="words of the longest run; 1 masks single words")] = 3


class DistillationConfig(Config):
    """DistilBERT (Sanh 2019): a smaller model learns from the predictions of a trained one."""

    teacher: Annotated[
        str, Field(description="a `pretrain` run of this recipe, or a folder that transformers opens; same tokenizer")
    ]
    temperature: Annotated[
        Positive, Field(description="softmax temperature of both distributions; 2 as in DistilBERT")
    ] = 2.0
    soft: Annotated[Weight, Field(description="weight of the divergence from the teacher's distribution")] = 5.0
    mlm: Annotated[Weight, Field(description="weight of the masked tokens' cross-entropy")] = 2.0
    cosine: Annotated[Weight, Field(description="weight of the angle between last hidden states")] = 1.0
    only_masked: Annotated[
        bool, Field(description="compare distributions at masked tokens only, not at all; saves time and memory")
    ] = False
    rare_word_power: Annotated[
        Weight, Field(description="tokens are masked with odds of count ** -power, rare ones more often; 0: all alike")
    ] = 0.7
    freeze_positions: Annotated[bool, Field(description="keep the teacher's position embeddings")] = True


class ElectraConfig(Config):
    """ELECTRA (Clark 2020): tell tokens that a small generator has replaced from original ones."""

    generator: Annotated[
        float, Field(gt=0, le=1, description="its width as a share of the discriminator's: small 1/4, base 1/3")
    ] = 0.25
    weight: Annotated[Weight, Field(description="of the discriminator's loss beside the generator's")] = 50.0


class SpanCorruptionConfig(Config):
    """T5 (Raffel 2020): spans are cut out, and the decoder writes them."""

    noise: Annotated[float, Field(gt=0, lt=1, description="share of the tokens that are cut out")] = 0.15
    mean_length: Annotated[float, Field(ge=1, description="tokens of a span, on average")] = 3.0


class DenoisingConfig(Config):
    """BART (Lewis 2020): a document is spoilt in one or more ways, and the decoder writes it as it was."""

    noise: Annotated[
        Literal["infilling", "masking", "deletion", "none"],
        Field(description="what happens to `share` of the tokens: each span becomes one mask, each token one, or none"),
    ] = "infilling"
    share: Annotated[Share, Field(description="share of the tokens that are noised; 0.3 as in BART")] = 0.3
    mean_length: Annotated[Positive, Field(description="lambda of the Poisson law of a span's length")] = 3.0
    permute: Annotated[Share, Field(description="share of a document's sentences that change places")] = 1.0
    rotate: Annotated[Share, Field(description="share of documents that begin at a random token instead")] = 0.0


#: The field of a `pretrain` section that holds an objective's options.
SECTIONS: dict[str, str] = {
    "mlm_sop": "ngrams",
    "distillation": "distillation",
    "electra": "electra",
    "span_corruption": "span_corruption",
    "denoising": "denoising",
}


class ObjectiveConfig(Config):
    """The objective of a run and its options."""

    added: ClassVar[Mapping[str, Declared]] = {}  # by name, the objectives of plug-ins

    objective: Annotated[ObjectiveName, Field(description="what the model is trained to predict")]
    mask_share: Annotated[
        float, Field(gt=0, lt=1, description="tokens that objectives with a mask pick; ELECTRA-large: 0.25")
    ] = 0.15
    ngrams: Annotated[NgramConfig, Field(description="lengths of the runs that mlm_sop masks (ALBERT)")] = NgramConfig()
    distillation: Annotated[
        DistillationConfig | None, Field(description="teacher and losses of objective distillation (DistilBERT)")
    ] = None
    electra: Annotated[ElectraConfig, Field(description="generator and loss of objective electra")] = ElectraConfig()
    span_corruption: Annotated[SpanCorruptionConfig, Field(description="spans of objective span_corruption (T5)")] = (
        SpanCorruptionConfig()
    )
    denoising: Annotated[DenoisingConfig, Field(description="noise of objective denoising (BART)")] = DenoisingConfig()

    @property
    def like(self) -> str:
        """The one of OBJECTIVES that the run's is, or is like."""
        return self.added[self.objective].like if self.objective in self.added else self.objective


def declared(loaded: Iterable[Plugin]) -> dict[str, Declared]:
    """The objectives that plug-ins add, by name. Raises MillError for one that does not fit."""
    parts = [part for part in added(loaded, Declared, ()) if not _is_ours(part)]
    for part in parts:
        if part.name in OBJECTIVES:
            raise MillError(f"{part.plugin}: the name {part.name!r} is taken; give the objective another name")
        if part.like not in OBJECTIVES:
            raise MillError(f"{part.plugin}: objective {part.name!r} needs `like`, one of {', '.join(OBJECTIVES)}")
    return {part.name: part for part in parts}


def _is_ours(part: Declared) -> bool:
    """Whether a plug-in imported it, to change it, from the program: all its functions are from there."""
    functions = [value for value in vars(part).values() if callable(value)]
    own = part.name in OBJECTIVES and not part.like
    return own and all(function.__module__.startswith("training.") for function in functions)


def check(run: ObjectiveConfig, name: str, shape: dict[str, Any]) -> None:
    """Raise MillError, with the remedy, where options and architecture do not fit the objective of run ``name``."""
    fitting = OBJECTIVES[run.like]
    if shape["type"] not in fitting:
        raise MillError(
            f"pretrain {name!r}: objective {run.objective!r} trains {', '.join(fitting)}, not {shape['type']!r}"
        )
    others = set(SECTIONS.values()) - {SECTIONS.get(run.like)}
    # a recipe that a build has written names every option: those left at their defaults are not the user's
    foreign = [name for name in others if getattr(run, name) != ObjectiveConfig.model_fields[name].default]
    if foreign:
        raise MillError(f"pretrain {name!r}: {sorted(foreign)[0]!r} has no effect on objective {run.objective!r}")
    if run.like in PAIRED and getattr(run, "packing", "concatenate") != "concatenate":
        raise MillError(f"pretrain {name!r}: `packing` has no effect on pairs of segments; leave it out")
    if run.like == "distillation" and run.distillation is None:
        raise MillError(f"pretrain {name!r}: objective {run.objective!r} needs `distillation: {{teacher: ...}}`")
    if run.like == "electra":
        generator_sizes(name, shape, run.electra.generator)


def generator_sizes(name: str, shape: dict[str, Any], share: float) -> dict[str, int]:
    """Sizes of ELECTRA's generator, ``share`` of those of the discriminator's ``shape``; its heads are as wide.

    Raises MillError where they do not divide its width.
    """
    fields = ("hidden_size", "intermediate_size", "num_attention_heads")
    smaller = {field: max(1, round(shape[field] * share)) for field in fields}
    width, heads = smaller["hidden_size"], smaller["num_attention_heads"]
    if width % heads:
        raise MillError(
            f"pretrain {name!r}: electra.generator {share:g} makes a width of {width}, which {heads} attention heads do"
            " not divide; choose another share"
        )
    return smaller


def lacking(objective: str, kind: str, roles: Collection[str]) -> tuple[str, ...]:
    """Roles of special tokens of which ``objective`` on a model of type ``kind`` needs one and ``roles`` have none."""
    needed = (*ROLES[objective], *([_PAD] if kind == "roberta" else []))
    return next((group for group in needed if not set(group) & set(roles)), ())
