"""What can be known of a build before any work: that all it names is there and fits.

Every problem is found at once, in well under a second: files are listed, the first records of each source are read,
and models are opened, not run.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import shutil
from collections.abc import Iterable, Iterator
from importlib import import_module
from itertools import islice
from typing import Any

from pipeline import MillError, balance, fasttext_model, messages, models
from pipeline.build import Build
from pipeline.classifier import scoring
from pipeline.decontaminate import evaluation
from pipeline.dedup import earlier
from pipeline.language_model import training
from pipeline.language_model.reference import TRAINED
from pipeline.sources import READERS, Environment, Hub, Source
from pipeline.sources.base import RecordConfig, Rejected
from pipeline.stage import Stage
from pipeline.store import files
from pipeline.tokenization import references

#: So many records at the head of a source tell whether its fields are there.
_RECORDS = 20
#: The least that a build's folder must have room for.
_ROOM = 1 << 20
#: In a mapping by language: for all that are not named.
_OTHERS = "*"


def problems(build: Build) -> list[str]:
    """What stands in the way of ``build``, each with its field and remedy; [] if nothing does."""
    found: list[str] = []

    @contextlib.contextmanager
    def of(field: str) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            told = messages.message(error)
            if told is None:
                raise
            found.append(told if told.startswith(field) else f"{field}: {told}")

    with of("--builds"):
        _writable(build.root)
    for field, source in _sources(build):
        with of(f"{field} ({source.name})"):
            _readable(source, build.recipe.error_budget)
    for field, value in _models(build):
        with of(field):
            models.locate(value, build.root)
    with of("language"):
        _languages_are_known(build)
    for name in ("toxicity", "quality"):
        config = getattr(build.recipe, name)
        if config is not None and config.model and files.exists(config.model):
            with of(f"{name}.label"):
                scoring.require(config.model, config.label)
    if (perplexity := build.recipe.perplexity) is not None and TRAINED in perplexity.models.values():
        with of("perplexity.estimator"):
            training.choose(perplexity.estimator)
    if (decontaminate := build.recipe.decontaminate) is not None:
        for at, chosen in enumerate(decontaminate.sets):
            with of(f"decontaminate.sets[{at}]"):
                next(evaluation.read(chosen), None)
    with of("against"):
        earlier.indexes(build)
    if build.recipe.balance is not None and build.recipe.balance.tokenizer:
        with of("balance.tokenizer"):
            balance.tokenizer_path(build.recipe.balance.tokenizer)
    for at, reference in enumerate(build.recipe.references):
        with of(f"references[{at}]"):
            references.files_of(reference.path)
    return found


def _writable(root: str) -> None:
    """Raise MillError unless the folder ``root`` is there, or can be made, and can be written to."""
    there = files.local(root)
    while not there.exists() and there != there.parent:
        there = there.parent
    if not there.is_dir():
        raise MillError(f"{there} is a file; choose another folder for builds")
    if not os.access(there, os.W_OK | os.X_OK):
        raise MillError(f"{there} cannot be written to; check its permissions, or choose another folder")
    if shutil.disk_usage(there).free < _ROOM:
        raise MillError(f"the disk of {there} is full; free some space, or choose another folder")


def _sources(build: Build) -> Iterator[tuple[str, Source]]:
    """Every source that the build reads, with its field."""
    for at, source in enumerate(build.recipe.sources):
        yield f"sources[{at}]", source
    for name in ("toxicity", "quality"):
        trained = getattr(getattr(build.recipe, name), "train", None)
        for side in ("positive", "negative") if trained is not None else ():
            for at, source in enumerate(getattr(trained, side)):
                yield f"{name}.train.{side}[{at}]", source


def _readable(source: Source, error_budget: float) -> None:
    """Raise MillError if ``source`` has no file, or if the records at its head have no text.

    What lies elsewhere is listed and not read.
    """
    if isinstance(source, Environment) or (isinstance(source, Hub) and not files.exists(source.dataset)):
        return  # always there, and slow to list; or a question to the hub
    reader = READERS[source.kind]
    found = reader.list_files(source)
    if not found or not isinstance(source, RecordConfig) or error_budget == 1:
        return
    path = found[0].path
    if not files.is_local(path) or not files.exists(path):
        return
    head = list(islice(reader.read(source, found[0]), _RECORDS))
    bad = [record for record in head if isinstance(record, Rejected)]
    reasons = {record.reason for record in bad}
    if head and len(bad) == len(head) and len(reasons) == 1 and "field" in next(iter(reasons)):
        raise MillError(
            f"{path}: {next(iter(reasons))} in the first {len(head)} records; set `text_field` to the field that holds"
            f" the text. The first record: {bad[0].excerpt[:200]}"
        )


def _models(build: Build) -> Iterator[tuple[str, str]]:
    """Every model file and word list that a stage reads and that no step of the build makes, with its field."""
    for name in build.stages:
        config = getattr(build.recipe, name)
        if name == "perplexity":
            for code, model in config.models.items():
                paths = [model] if isinstance(model, str) else [model.kenlm, model.sentencepiece]
                yield from ((f"perplexity.models.{code}", path) for path in paths if path != TRAINED)
            continue
        stage: Stage | None = getattr(import_module(_MODULES.get(name, f"pipeline.stages.{name}")), "STAGE", None)
        for key, value in stage.models(config).items() if stage is not None else ():
            if not value.startswith(models.BUILD):
                yield f"{name}.{'model' if key in ('language', 'classifier') else key}", value


#: Stages of a package of their own; none reads a model file.
_MODULES = {
    "exact": "pipeline.dedup.exact",
    "minhash": "pipeline.dedup.minhash",
    "passages": "pipeline.dedup.passages",
    "substring": "pipeline.dedup.substring",
    "decontaminate": "pipeline.decontaminate.stage",
    "balance": "pipeline.balance",
}


def _languages_are_known(build: Build) -> None:
    """Raise MillError for languages that the recipe names and its model does not know."""
    recipe = build.recipe
    if recipe.language is None:
        return
    try:
        path = models.locate(recipe.language.model, build.root)
    except MillError:  # reported as a model that is not there
        return
    known = fasttext_model.labels(path)
    told = [
        f"{field}: the model {recipe.language.model} knows no language {code!r}; {_near(code, known)}"
        for field, codes in _named_languages(recipe)
        for code in codes
        if code not in known and code != _OTHERS
    ]
    if told:
        raise MillError("\n".join(told))


def _named_languages(recipe: Any) -> Iterator[tuple[str, Iterable[str]]]:
    yield "language.keep", recipe.language.keep
    if recipe.language.lines is not None:
        yield "language.lines.keep", recipe.language.lines.keep or ()
    if recipe.perplexity is not None:
        yield "perplexity.models", recipe.perplexity.models
    if recipe.bad_words is not None:
        yield "bad_words.lists", recipe.bad_words.lists
    for name, bound in (("toxicity", "maximum"), ("quality", "minimum")):
        value = getattr(getattr(recipe, name), bound, None)
        yield f"{name}.{bound}", value if isinstance(value, dict) else ()


def _near(code: str, known: list[str]) -> str:
    near = difflib.get_close_matches(code, known, n=1)
    if near:
        return f"did you mean `{near[0]}`?"
    return f"known: {', '.join(sorted(known)[:200])}"
