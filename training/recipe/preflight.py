"""What can be known of models before any work. Without torch, which takes seconds to load."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.build.build import Build
from pipeline.curation import preflight
from pipeline.sources import READERS, Csv, Jsonl, Source, Text
from pipeline.sources.base import RecordConfig
from pipeline.sources.reading import COMPRESSED
from pipeline.store import files
from training.recipe import base_folder, pretrain_base
from training.recipe.sections import BuildRecipe, FinetuneConfig


def problems(build: Build[BuildRecipe], remote: bool = True) -> list[str]:
    """Every problem that keeps the build from its end, with its field and remedy. Without ``remote`` no other machine
    is asked.
    """
    messages = [
        *preflight.problems(build, remote),
        *_teachers(build, remote),
        *_pretrain_bases(build, remote),
        *_bases(build, remote),
        *_neutral(build, remote),
    ]
    return messages or [*_labels(build)]  # which lists the files of sources


def _teachers(build: Build[BuildRecipe], remote: bool) -> list[str]:
    names = {run.name for run in build.recipe.pretrain}
    return [
        f"pretrain[{at}].distillation.teacher: {run.distillation.teacher!r} is no run of this recipe and no folder"
        " with config.json; correct it"
        for at, run in enumerate(build.recipe.pretrain)
        if run.distillation is not None
        and run.distillation.teacher not in names
        and (remote or files.is_local(run.distillation.teacher))
        and not files.exists(files.join(run.distillation.teacher, "config.json"))
    ]


def _pretrain_bases(build: Build[BuildRecipe], remote: bool) -> Iterator[str]:
    for at, run in enumerate(build.recipe.pretrain):
        here = run.base is not None and (remote or files.is_local(run.base))
        if here and (problem := pretrain_base.problem(run, build.path("tokenizers", run.tokenizer))):
            yield f"pretrain[{at}].base: {problem}"


def _bases(build: Build[BuildRecipe], remote: bool) -> Iterator[str]:
    for at, run in enumerate(build.recipe.finetune):
        here = base_folder.is_folder(run.base) and (remote or files.is_local(run.base))
        if here and (problem := base_folder.problem(run.base, run.sequence_length)):
            yield f"finetune[{at}].base: {problem}"


def _neutral(build: Build[BuildRecipe], remote: bool) -> list[str]:
    """What is wrong with the neutral text that ablations are judged by."""
    config = build.recipe.ablation
    if config is None or not config.neutral or not (remote or all(map(preflight.is_here, config.neutral))):
        return []
    sources = [(f"ablation.neutral[{at}]", source) for at, source in enumerate(config.neutral)]
    messages = preflight.of_sources(sources, build.recipe.error_budget)
    if not messages and (size := _most_tokens(config.neutral)) is not None and size < config.sequence_length:
        messages.append(
            f"ablation.neutral: this text gives at most {size} tokens, fewer than fill one sequence of sequence_length"
            f" ({config.sequence_length}); add text"
        )
    return messages


def _most_tokens(sources: list[Source]) -> int | None:
    """Most tokens that ``sources`` can give, one a byte and two around each file; None where files are compressed."""
    size = 0
    for source in sources:
        if not isinstance(source, Csv | Jsonl | Text):
            return None
        for file in READERS[source.kind].list_files(source):
            if file.name.lower().endswith(COMPRESSED):
                return None
            size += file.size + 2
    return size


def _labels(build: Build[BuildRecipe]) -> Iterator[str]:
    """Fields that a fine-tuning goes by and that no source has; none where that takes reading the sources."""
    known = {"source", "domain"}
    if not build.recipe.finetune:
        return
    for source in build.recipe.sources:
        names = _metadata(source)
        if names is None:
            return
        known |= names
    for at, run in enumerate(build.recipe.finetune):
        if run.data is not None:
            continue
        for option, name in _fields(run):
            if name not in known:
                yield (
                    f"finetune[{at}].{option}: no source has the field {name!r}; there is {', '.join(sorted(known))}."
                    " Name one of these, or add it to the `metadata_fields` of a source"
                )


def _fields(run: FinetuneConfig) -> Iterator[tuple[str, str]]:
    yield "label", run.label
    if run.group is not None:
        yield "group", run.group
    yield from (("only", name) for name in run.only)
    yield from (("hide", name) for name in run.hide)


def _metadata(source: Source) -> set[str] | None:
    """Names that the metadata of documents of ``source`` can have; None where only reading shows them."""
    if isinstance(source, Text):
        return set()
    if not isinstance(source, RecordConfig):
        return None
    if source.metadata_fields is not None:
        return {*source.metadata_fields, "repeated_id"}
    columns = preflight.columns(source)
    return None if columns is None else {*columns, "repeated_id"}
