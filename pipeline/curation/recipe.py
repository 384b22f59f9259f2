"""The recipe: one YAML file that describes a build, checked before any work.

``load`` refuses a wrong recipe with the line, the field and the remedy of every mistake in it at once.
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar, Union, get_args

import pyarrow as pa
import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ByteSize,
    Field,
    ValidationError,
    create_model,
    model_validator,
)

from pipeline import MillError
from pipeline.build.plugins import Plugin, added
from pipeline.build.stage import Stage
from pipeline.curation import canaries as planted
from pipeline.curation import plugins, repair
from pipeline.curation.write_corpus import Config as CorpusConfig
from pipeline.sources import READERS, Source
from pipeline.stages import registry
from pipeline.store import files, recipe_file
from pipeline.store.recipe_file import Config
from pipeline.store.recipe_file import WrongRecipe as WrongRecipe
from pipeline.tokenization.config import PackConfig, ReferenceConfig, TokenizerConfig

#: The largest text a shard may hold: its offsets are 32-bit.
MAX_SHARD_BYTES = 1 << 30


def _within_shard(size: ByteSize) -> ByteSize:
    if not 1 << 10 <= size <= MAX_SHARD_BYTES:
        raise MillError("a shard holds between 1 KiB and 1 GiB of text")
    return size


class _Documents(Config):
    """What comes before the stages: the documents."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$", description="the build's folder and its runs' name")]
    seed: Annotated[
        int, Field(ge=0, lt=2**32, description="seed of everything random in the build, unless a section has its own")
    ] = 0
    plugins: Annotated[
        list[str],
        Field(
            description="Python files, from the recipe's folder, that add stages, sources and objectives; they are run"
            " (docs/plugins.md)"
        ),
    ] = []
    sources: Annotated[
        list[Source], Field(min_length=1, description="texts to read: one or more files, datasets or archives")
    ]
    shard_bytes: Annotated[
        ByteSize,
        AfterValidator(_within_shard),
        Field(
            description="most bytes of text in a shard, the unit of work and of memory; a file of a quarter of this"
            " or more has shards of its own"
        ),
    ] = ByteSize(64 << 20)
    error_budget: Annotated[
        float, Field(ge=0, le=1, description="share of bad records above which a source fails the build")
    ] = 0.01
    normalise: Annotated[
        repair.Config | None,
        Field(description="repair and tidy each text before it is stored; absent: texts stay as they are"),
    ] = None


class _Index(Config):
    """What deduplication keeps for later builds, and reads of earlier ones."""

    index: Annotated[bool, Field(description="keep an index, so that later builds can be deduplicated against it")] = (
        False
    )
    against: Annotated[
        list[files.Address], Field(description="`index` folders of earlier builds to deduplicate against")
    ] = []


#: Fields that stand between the sections of stages, by the stage that they follow.
_AFTER = {"substring": _Index}


#: Names that stand for something else than a stage beside the stages' own: in funnels, and as folders of a build.
_RESERVED = frozenset({"documents", "ingest", "quarantine"})


def _section(stage: Stage) -> Any:
    """The field of a recipe that runs ``stage``."""
    return Annotated[stage.config | None, Field(description=stage.about)], None


def _with_stages(base: type[Config], stages: Sequence[Stage]) -> Any:
    """``base`` with a section for each of ``stages``, in order."""
    fields: dict[str, Any] = {}
    for stage in stages:
        fields[stage.name] = _section(stage)
        for name, field in _AFTER[stage.name].model_fields.items() if stage.name in _AFTER else ():
            fields[name] = field.annotation, field
    return create_model("Sections", __base__=base, **fields)


class Recipe(_with_stages(_Documents, registry.STAGES)):
    """A build from raw text to packed tokens. A stage runs if its section is there; ``{}`` takes its defaults.

    With plug-ins a recipe is of a subclass that ``curation.plugins`` makes: their sections are fields like others.
    """

    registered: ClassVar[tuple[Stage, ...]] = registry.STAGES
    readers: ClassVar[Mapping[str, Any]] = READERS
    loaded: ClassVar[tuple[Plugin, ...]] = ()

    canaries: Annotated[
        planted.Config | None,
        BeforeValidator(
            lambda value: None if value is False or value in ("no", "off") else value,
            json_schema_input_type=planted.Config | Literal[False, "no", "off"] | None,
        ),
        Field(
            description="plant known duplicates, personal data and so on, and tell each stage's recall; `false`: none"
        ),
    ] = planted.Config()
    corpus: Annotated[CorpusConfig, Field(description="formats in which the curated corpus is written")] = (
        CorpusConfig()
    )
    tokenizers: Annotated[list[TokenizerConfig], Field(description="tokenizers to train on the curated corpus")] = []
    references: Annotated[list[ReferenceConfig], Field(description="published tokenizers to compare these with")] = []
    pack: Annotated[
        PackConfig, Field(description="split into training and held-out documents, for tokenizers and models alike")
    ] = PackConfig()

    @classmethod
    def announced(cls, values: Mapping[str, Any]) -> Iterator[tuple[str, str, *tuple[str | int, ...]]]:
        """What ``values`` names that is not known here, and a package may announce: its kind, its name, the field."""
        yield from (("stages", name, name) for name in values if name not in cls.model_fields)
        listed = values.get("sources")
        for at, source in enumerate(listed if isinstance(listed, list) else ()):
            kind = source.get("kind") if isinstance(source, dict) else None
            if isinstance(kind, str) and kind not in cls.readers:
                yield "sources", kind, "sources", at, "kind"

    @classmethod
    def added_fields(cls, loaded: tuple[Plugin, ...]) -> dict[str, Any]:
        """Fields that the plug-ins ``loaded`` add or change. Raises MillError where two parts have one name."""
        stages = added(loaded, Stage, registry.STAGES)
        for stage in stages:
            if hasattr(cls, stage.name) or stage.name in {*cls.model_fields, *_RESERVED}:
                raise MillError(f"{stage.plugin}: the name {stage.name!r} is taken; give the stage another name")
        fields = {stage.name: _section(stage) for stage in stages}
        if readers := plugins.readers(loaded):
            sources = cls.model_fields["sources"]
            kinds = Union[(*get_args(get_args(Source)[0]), *(reader.config for reader in readers))]
            listed = list[Annotated[kinds, Field(discriminator="kind")]]
            fields["sources"] = listed, Field(min_length=1, description=sources.description)
        return fields

    def __reduce__(self) -> tuple[Any, ...]:
        """Travels as its plug-ins and its state: so they are loaded before the sections that need them."""
        loaded = type(self).loaded
        plain = type(self).__base__ if loaded else type(self)
        return plugins.empty, (plain, loaded), self.__getstate__()

    def section(self, name: str) -> Any:
        """The section ``name``; None where there is none."""
        return self.__dict__.get(name)  # asked thousands of times a build: `dict(self)` takes a hundred times as long

    def stages_before(self, stage: str | None) -> tuple[str, ...]:
        """Names of the stages that this recipe runs before ``stage``, in order; of all for None."""
        known = registry.before(self.registered, stage)
        return tuple(entry.name for entry in known if self.section(entry.name) is not None)

    def signals_before(self, stage: str) -> dict[str, pa.DataType]:
        """Names and types of the signals that the stages of this recipe measure before ``stage``."""
        types: dict[str, pa.DataType] = {}
        for name in self.stages_before(stage):
            known, config = registry.named(self.registered, name), self.section(name)
            measured = known.signals if known.measured is None else known.measured(config)
            types |= {signal: known.signals[signal] for signal in measured}
        return types

    @model_validator(mode="after")
    def _plugins_are_loaded(self) -> Recipe:
        if self.plugins != [plugin.stored() for plugin in self.loaded]:
            raise MillError("`plugins` are loaded by `load`, `parse` and `checked` alone")
        return self

    @model_validator(mode="after")
    def _names_are_unique(self) -> Recipe:
        require_unique("sources", [source.name for source in self.sources])
        require_unique("tokenizers", [entry.name for entry in [*self.tokenizers, *self.references]])
        return self

    @model_validator(mode="after")
    def _an_index_is_of_something(self) -> Recipe:
        if (self.index or self.against) and self.exact is None and self.minhash is None:
            raise MillError("`index` and `against` are for deduplication: add an `exact` or a `minhash` section")
        return self

    @model_validator(mode="after")
    def _sections_fit(self) -> Recipe:
        for name in self.stages_before(None):
            registry.named(self.registered, name).check(self.section(name), self)
        return self


def require_unique(section: str, names: list[str]) -> None:
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise MillError(f"`{section}` holds the name {repeated[0]!r} more than once; give each entry its own")


R = TypeVar("R", bound=BaseModel)


def load(path: str | Path, model: type[R]) -> R:
    """The recipe in ``path`` checked as ``model``; raises WrongRecipe, or MillError if it is absent.

    Plug-ins that it names are run.
    """
    path = Path(path)
    if not path.is_file():
        near = sorted(str(p) for p in Path("data/recipes").glob("*.yaml"))
        hint = f" The recipes here: {', '.join(near)}." if near else ""
        raise MillError(f"{path}: no such recipe.{hint}")
    return parse(recipe_file.read_file(path), model, str(path), path.parent)


def parse(text: str, model: type[R], name: str = "recipe", folder: str | Path = ".") -> R:
    """Like ``load`` for the text of a recipe in ``folder``; ``name`` stands for the file in messages, "" for none."""
    node, values = recipe_file.read(text, name)
    if not isinstance(values, dict):
        raise WrongRecipe(f"{name}: a recipe is a mapping of sections; see data/recipes/demo.yaml")
    return checked(values, model, name, node, folder)


def checked(
    values: dict[str, Any],
    model: type[R],
    name: str = "",
    node: yaml.Node | None = None,
    folder: str | Path = ".",
) -> R:
    """``values`` as ``model``; raises WrongRecipe with every mistake, each with its line where ``node`` is given.

    The plug-ins of a recipe in ``folder`` are loaded.
    """
    known: Any = model
    if issubclass(model, Recipe):
        try:
            values, known = plugins.resolve(values, model, folder)
        except recipe_file.Misfit as error:
            line, field = _locate(node, list(error.field))
            place = f"{name}, line {line}: " if name and node is not None else f"{name}: " if name else ""
            raise WrongRecipe(f"{place}{field or 'recipe'}: {error}") from error
    try:
        return known.model_validate(values)
    except ValidationError as error:
        mistakes = [_explain(name, node, known, dict(item)) for item in error.errors()]
        raise WrongRecipe("\n".join(dict.fromkeys(mistakes))) from error


#: What is expected, by the kind of pydantic's error.
_EXPECTED = {
    "string_type": "must be a text",
    "dict_type": "must be a mapping, as in `{a: b}`",
    "model_type": "must be a mapping of fields, as in `{field: value}`",
    "model_attributes_type": "must be a mapping of fields, as in `{field: value}`",
    "list_type": "must be a list, as in `[a, b]`",
    "union_tag_not_found": "this field is required",
    "missing": "this field is required",
}


def _explain(name: str, node: yaml.Node | None, model: type[BaseModel], error: dict[str, Any]) -> str:
    loc, context = list(error["loc"]), error.get("ctx", {})
    if isinstance(context.get("error"), recipe_file.Misfit):
        loc += context["error"].field
    if "discriminator" in context:
        loc.append(context["discriminator"].strip("'"))
    line, field = _locate(node, loc)
    message = error["msg"].removeprefix("Value error, ").replace("Input should be", "must be", 1)
    if not loc and (named := re.match(r"`([\w.]+)`", message)):  # fields that do not go together: the first one's line
        line, _ = _locate(node, named[1].split("."))
    choices = re.findall("'([^']*)'", context.get("expected_tags") or context.get("expected") or "")
    value = context.get("tag", error["input"])
    if error["type"] == "extra_forbidden":
        message = f"unknown field; {_known(str(loc[-1]), _known_fields(model, loc[:-1]))}"
    elif error["type"] in _EXPECTED:
        message = _EXPECTED[error["type"]]
    elif choices:
        message = f"{str(value)[:40]!r} is not known; {_known(str(value), choices)}"
    elif not isinstance(value, dict | list) and loc and "error" not in context:
        written = repr(value)
        message = f"{message} (found {written if len(written) < 80 else f'{written[:60]}...'})"
    place = f"{name}, line {line}: " if name and node is not None else f"{name}: " if name else ""
    return f"{place}{field or 'recipe'}: {message}"


def _known(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean `{near[0]}`?" if near else f"known here: {', '.join(sorted(known))}"


def _locate(node: yaml.Node | None, loc: list[Any]) -> tuple[int, str]:
    """Line (from 1) and dotted name of the field at ``loc``; parts that name a union's branch are passed over."""
    if node is None:
        return 1, ".".join(map(str, loc))
    line, names = node.start_mark.line + 1, ""
    for part in loc:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if key.value == str(part):
                    line, node = key.start_mark.line + 1, value
                    names += f".{part}" if names else str(part)
                    break
            else:
                if part == loc[-1]:
                    names += f".{part}" if names else str(part)
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            inner: yaml.Node = node.value[part]
            line, node = inner.start_mark.line + 1, inner
            names += f"[{part}]"
    return line, names


def _known_fields(model: type[BaseModel], loc: list[Any]) -> list[str]:
    """Field names of the part of ``model`` that ``loc`` leads to."""

    def models(annotation: Any) -> list[type[BaseModel]]:
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            return [annotation]
        return [field_model for argument in get_args(annotation) for field_model in models(argument)]

    current = [model]
    for part in loc:
        fields = [m.model_fields[part] for m in current if isinstance(part, str) and part in m.model_fields]
        if fields:
            current = [field_model for field in fields for field_model in models(field.annotation)]
        else:  # an index, or the tag of a union's branch
            tagged = [
                m
                for m in current
                if any(f.default == part or part in get_args(f.annotation) for f in m.model_fields.values())
            ]
            current = tagged or current
    return sorted({name for m in current for name in m.model_fields})
