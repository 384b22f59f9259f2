"""What can be known of a build before any work: that all it names is there and fits.

Every problem is found at once, in well under a second: files are listed, the first records of each source are read,
and models are opened, not run.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import resource
import shutil
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from itertools import islice
from typing import Any

from pipeline import MillError
from pipeline.build.build import Build
from pipeline.sources import READERS, Csv, Environment, Hub, Parquet, Source, hub
from pipeline.sources.base import RecordConfig, Rejected
from pipeline.sources.reading import Damaged
from pipeline.stages import registry
from pipeline.stages.balance import stage as balance
from pipeline.stages.classifiers import fine_tuned
from pipeline.stages.classifiers import steps as classifiers
from pipeline.stages.decontaminate import evaluation_sets
from pipeline.stages.dedup import earlier_builds
from pipeline.stages.perplexity import train_model
from pipeline.stages.perplexity.reference_text import TRAINED
from pipeline.store import fasttext_model, files, messages, model_files
from pipeline.text import formats
from pipeline.tokenization import parallel_lines
from pipeline.tokenization.formats import references

#: Records at the head of a source that show whether its fields are there.
_RECORDS = 20
#: Tables of a source up to which all are opened for the names of their columns.
_TABLES = 16
#: The least that a build's folder must have room for, in bytes.
_ROOM = 1 << 20
#: The least address space in bytes; libraries and kernels alone take some 2 GB of it, most of it never touched.
_ADDRESSES = 3_000_000_000
#: In a mapping by language: for all that are not named.
_OTHERS = "*"


def problems(build: Build, remote: bool = True) -> list[str]:
    """What stands in the way of ``build``, each with its field and remedy; [] if nothing does.

    Without ``remote`` no store, hub or other machine is asked.
    """
    faults: list[str] = []
    of = partial(noting, faults)
    with of("--builds"):
        _writable(build.root)
    with of("ulimit -v"):
        _addresses()
    read = [(field, source) for field, source in _sources(build) if remote or is_here(source)]
    faults += of_sources(read, build.recipe.error_budget, build.recipe.readers)
    for field, value in _models(build):
        with of(field):
            if remote or files.is_local(value):
                model_files.locate(value, build.root)
    with of("language"):
        _languages_are_known(build)
    for name in ("toxicity", "quality"):
        config = build.section(name)
        model = getattr(config, "model", None)
        if model and (remote or files.is_local(model)) and files.exists(model):
            with of(f"{name}.{'model' if config.fine_tuned else 'label'}"):
                (fine_tuned.require if config.fine_tuned else classifiers.require)(model, config.labels)
    if (perplexity := build.recipe.perplexity) is not None and TRAINED in perplexity.models.values():
        with of("perplexity.estimator"):
            train_model.choose(perplexity.estimator)
    if (decontaminate := build.recipe.decontaminate) is not None:
        for at, chosen in enumerate(decontaminate.sets):
            with of(f"decontaminate.sets[{at}]"):
                if remote or _are_here(chosen.path):
                    next(evaluation_sets.read(chosen), None)
    with of("against"):
        if remote or _are_here(build.recipe.against):
            earlier_builds.indexes(build)
    if build.recipe.balance is not None:
        with of("balance.weights"):
            domains = {_domain(source) for source in build.recipe.sources}
            balance.require_shares(build.recipe.balance, {*filter(None, domains)}, every=None not in domains)
        if build.recipe.balance.tokenizer:
            with of("balance.tokenizer"):
                balance.tokenizer_path(build.recipe.balance.tokenizer)
    for at, tokenizer in enumerate(build.recipe.tokenizers):
        with of(f"tokenizers[{at}].parity.by"):
            if tokenizer.parity is not None and tokenizer.parity.by == "language" and build.recipe.language is None:
                raise MillError("`language` needs the `language` stage; add it, or group by `domain`")
        if tokenizer.parity is not None and (path := tokenizer.parity.parallel) is not None:
            with of(f"tokenizers[{at}].parity.parallel"):
                if remote or files.is_local(path):
                    parallel_lines.read(path, _groups(build, tokenizer.parity.by))
    for at, reference in enumerate(build.recipe.references):
        with of(f"references[{at}]"):
            if remote or files.is_local(reference.path):
                references.files_of(reference.path)
    return faults


def _groups(build: Build, by: str) -> set[str]:
    """The languages or domains that documents are known to be of before any is read."""
    if by == "domain":
        return {*filter(None, (_domain(source) for source in build.recipe.sources))}
    return {*(build.recipe.language.keep if build.recipe.language else ())} - {_OTHERS}


def is_here(source: Source) -> bool:
    """Whether all of ``source`` lies on this machine, so that looking at it asks no other."""
    if isinstance(source, Hub):
        return hub.is_local(source)
    return _are_here(getattr(source, "path", ()))


def _are_here(paths: str | Iterable[str]) -> bool:
    return all(map(files.is_local, [paths] if isinstance(paths, str) else paths))


@contextlib.contextmanager
def noting(faults: list[str], field: str) -> Iterator[None]:
    """Add to ``faults`` what a user can put right of the error that ends the block, with its ``field``."""
    try:
        yield
    except BaseException as error:
        line = messages.message(error)
        if line is None:
            raise
        faults.append(line if line.startswith(field) else f"{field}: {line}")


def of_sources(
    sources: Iterable[tuple[str, Source]], error_budget: float, readers: Mapping[str, Any] = READERS
) -> list[str]:
    """What is wrong with ``sources``, each with its field: no file, no text, no such column."""
    faults: list[str] = []
    for field, source in sources:
        with noting(faults, f"{field} ({source.name})"):
            _readable(source, error_budget, readers[source.kind])
            _columns_are_there(source)
    return faults


def _domain(source: Source) -> str | None:
    """The domain of all documents of ``source``; None where each document may have another."""
    if source.domain is None and isinstance(source, Environment):
        return None
    if isinstance(source, RecordConfig) and source.domain_field is not None:
        return None
    return source.domain or source.name


def columns(source: Source) -> set[str] | None:
    """The columns that the files of ``source`` have between them; None if that takes more than a look."""
    if not isinstance(source, Csv | Parquet):
        return None
    if not is_here(source):
        return None
    reader = READERS[source.kind]
    listed = reader.list_files(source)
    if len(listed) > _TABLES:
        return None
    names: set[str] = set()
    for file in listed:
        try:
            names.update(reader.column_names(source, file))
        except (Damaged, OSError):  # which reading reports, with what is lost by it
            return None
    return names


def _columns_are_there(source: Source) -> None:
    """Raise MillError for a column that the recipe names, beside the text's, and no file of ``source`` has."""
    if not isinstance(source, Csv | Parquet):
        return
    given = [(field, getattr(source, field)) for field in ("id_field", "url_field", "domain_field")]
    # a recipe that a build has written names every field: one left at its default is not the user's
    named = [(field, name) for field, name in given if name != type(source).model_fields[field].default]
    named += [("metadata_fields", name) for name in source.metadata_fields or ()]
    if not named or (present := columns(source)) is None:
        return
    for field, name in named:
        if name not in present and name.partition(".")[0] not in present:
            raise MillError(
                f"no column {name!r}, which `{field}` names, in {files.masked(source.path[0])};"
                f" {_near(name, sorted(present))}"
            )


def _writable(root: str) -> None:
    """Raise MillError unless the folder ``root`` is there, or can be made, and can be written to."""
    folder = files.local_name(root)
    files.exists(root)  # a store says now that it cannot be reached
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if not folder.is_dir():
        raise MillError(f"{folder} is a file; choose another folder for builds")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise MillError(f"{folder} cannot be written to; check its permissions, or choose another folder")
    if shutil.disk_usage(folder).free < _ROOM:
        raise MillError(f"the disk of {folder} is full; free some space, or choose another folder")


def _addresses() -> None:
    """Raise MillError where this process may not have the addresses that a build needs: it would end without a word."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY and limit < _ADDRESSES:
        raise MillError(
            f"this process may have {formats.size(limit)} of addresses, and a build needs {formats.size(_ADDRESSES)};"
            " raise the limit (it counts what is reserved, not what is used)"
        )


def _sources(build: Build) -> Iterator[tuple[str, Source]]:
    """Every source that the build reads, with its field."""
    for at, source in enumerate(build.recipe.sources):
        yield f"sources[{at}]", source
    for name in ("toxicity", "quality"):
        trained = getattr(build.section(name), "train", None)
        for side in ("positive", "negative") if trained is not None else ():
            for at, source in enumerate(getattr(trained, side)):
                yield f"{name}.train.{side}[{at}]", source


def _readable(source: Source, error_budget: float, reader: Any) -> None:
    """Raise MillError if ``source`` has no file, or if the records at its head have no text.

    What lies elsewhere is listed and not read.
    """
    if isinstance(source, Environment) or (isinstance(source, Hub) and not hub.is_local(source)):
        return  # always there, and slow to list; or a question to the hub
    listed = reader.list_files(source)
    if not listed or not isinstance(source, RecordConfig) or error_budget == 1:
        return
    path = listed[0].path
    if not files.is_local(path) or not files.exists(path):
        return
    head = list(islice(reader.read(source, listed[0]), _RECORDS))
    bad = [record for record in head if isinstance(record, Rejected)]
    reasons = {record.reason for record in bad}
    if head and len(bad) == len(head) and len(reasons) == 1 and "field" in next(iter(reasons)):
        raise MillError(
            f"{path}: {next(iter(reasons))} in the first {len(head)} records; set `text_field` to the field that holds"
            f" the text{_there(bad[0].remedy)}. The first record: {bad[0].excerpt[:200]}"
        )


def _there(remedy: str) -> str:
    """The fields that a record has, as the remedy of a rejected one names them."""
    _, mark, names = remedy.partition("the record has ")
    return f": {names}" if mark else ""


def _models(build: Build) -> Iterator[tuple[str, str]]:
    """Every model file and word list that a stage reads and that no step of the build makes, with its field."""
    for name in build.stages:
        config = build.section(name)
        if name == "perplexity":
            for code, model in config.models.items():
                paths = [model] if isinstance(model, str) else [model.kenlm, model.sentencepiece]
                yield from ((f"perplexity.models.{code}", path) for path in paths if path != TRAINED)
            continue
        stage = registry.named(build.recipe.registered, name)
        for key, value in stage.models(config).items():
            if not value.startswith(model_files.BUILD):
                yield f"{name}.{'model' if key in ('language', 'classifier') else key}", value


def _languages_are_known(build: Build) -> None:
    """Raise MillError for languages that the recipe names and its model does not know."""
    recipe = build.recipe
    if recipe.language is None:
        return
    try:
        path = model_files.locate(recipe.language.model, build.root)
    except MillError:  # reported as a model that is not there
        return
    known = fasttext_model.labels(path)
    lines = [
        f"{field}: the model {recipe.language.model} knows no language {code!r}; {_near(code, known)}"
        for field, codes in _named_languages(recipe)
        for code in codes
        if code not in known and code != _OTHERS
    ]
    if lines:
        raise MillError("\n".join(lines))


def _named_languages(recipe: Any) -> Iterator[tuple[str, Iterable[str]]]:
    yield "language.keep", recipe.language.keep
    if recipe.language.lines is not None:
        yield "language.lines.keep", recipe.language.lines.keep or ()
    if recipe.perplexity is not None:
        yield "perplexity.models", recipe.perplexity.models
    if recipe.bad_words is not None:
        yield "bad_words.lists", recipe.bad_words.lists
    for name, bound in (("toxicity", "maximum"), ("quality", "minimum")):
        value = getattr(recipe.section(name), bound, None)
        yield f"{name}.{bound}", value if isinstance(value, dict) else ()


def _near(code: str, known: list[str]) -> str:
    near = difflib.get_close_matches(code, known, n=1)
    if near:
        return f"did you mean `{near[0]}`?"
    return f"known: {', '.join(sorted(known)[:200])}"
