"""A look at the files of a build's sources before it reads them: are they what the recipe says they are?

The beginning of each file is read: of the format that its source claims, and whether its first records give documents.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice
from typing import Any, NamedTuple

from pipeline.build.build import Build
from pipeline.curation import preflight
from pipeline.sources import Source
from pipeline.sources.base import File, RecordConfig, Rejected
from pipeline.sources.sniff import FORMATS, Seen, look
from pipeline.store import files
from pipeline.text import formats

#: Files of a source that are opened; of more the first and the last ones, and the rest between them at equal steps.
FILES = 200
#: Records at the head of a file that must not all be bad.
_RECORDS = 20
#: What a file may be taken for, by the kind of its source: one text looks like another, so its records decide.
_TRIED = {"text": ("text", "jsonl", "csv"), "csv": ("csv", "text"), "jsonl": ("jsonl", "csv", "text")}
_EXCERPT = 100


class Looked(NamedTuple):
    """What stands in the way, what is only odd, and of each source its ``kind``, ``files``, ``bytes``, ``opened``."""

    problems: list[str]
    warnings: list[str]
    sources: list[dict[str, Any]]


def at_sources(build: Build, remote: bool = False) -> Looked:
    """Look at the files of the sources of ``build`` that preflight has found. Files elsewhere are listed (only with
    ``remote``) and not opened.
    """
    looked = Looked([], [], [])
    for at, source in enumerate(build.recipe.sources):
        field = f"sources[{at}] ({source.name})"
        entry: dict[str, Any] = {"source": source.name, "kind": source.kind, "files": None, "bytes": None, "opened": 0}
        looked.sources.append(entry)
        if not remote and not preflight.is_here(source):
            continue
        with preflight.noting(looked.problems, field):
            inputs: list[File] = build.recipe.readers[source.kind].list_files(source)
            entry |= {"files": len(inputs), "bytes": sum(file.size for file in inputs)}
            if source.kind in FORMATS:
                _open(field, source, build.recipe.readers[source.kind], inputs, entry, looked)
    return looked


def _open(field: str, source: Source, reader: Any, inputs: list[File], entry: dict[str, Any], looked: Looked) -> None:
    chosen = [file for file in _spread(inputs) if files.is_local(file.path)]
    entry["opened"] = len(chosen)
    empty: list[str] = []
    bad: list[str] = []
    for file in chosen:
        if not os.access(file.path, os.R_OK):
            looked.problems.append(f"{field}: {file.path} may not be read; check its permissions (`ls -l`)")
            continue
        seen = look(file)
        if seen.other == "empty":
            empty.append(file.name)
        elif seen.kind not in _TRIED.get(source.kind, (source.kind,)):
            remedy = f"set `kind: {seen.kind}`" if seen.kind else "leave it out of `path`, or convert it"
            looked.problems.append(
                f"{field}: {file.path} is {seen.words}, not {FORMATS[source.kind]} (`kind: {source.kind}`); {remedy}"
            )
        elif isinstance(source, RecordConfig):
            bad += _first_records(source, reader, file, seen)
    if bad and len(bad) == len(chosen) - len(empty):
        looked.problems.append(f"{field}: {bad[0]}{_more(len(bad))}")
    elif bad:
        looked.warnings.append(f"{field}: {bad[0]}{_more(len(bad))}")
    if empty:
        looked.warnings.append(f"{field}: {formats.several(len(empty), 'file')} without content, such as {empty[0]}")
    if len(chosen) < len(inputs):
        looked.warnings.append(f"{field}: {len(chosen)} of {formats.count(len(inputs))} files were opened")


def _more(number: int) -> str:
    return f" (and {formats.several(number - 1, 'other file')})" if number > 1 else ""


def _spread(inputs: list[File]) -> list[File]:
    if len(inputs) <= FILES:
        return inputs
    return [inputs[at * (len(inputs) - 1) // (FILES - 1)] for at in range(FILES)]


def _first_records(source: Source, reader: Any, file: File, seen: Seen) -> Iterator[str]:
    """What is wrong with the records at the head of ``file``, if all of them are bad."""
    head = list(islice(reader.read(source, file), 1))
    if not head or not isinstance(head[0], Rejected):
        return
    head = list(islice(reader.read(source, file), _RECORDS))
    bad = [record for record in head if isinstance(record, Rejected)]
    if len(bad) < len(head):
        return
    first, number = bad[0], sum(record.count for record in bad)
    remedy = f"; {first.remedy}" if first.remedy else ""
    if seen.kind != source.kind:
        remedy += f"; the file looks like {seen.words}" + (f": set `kind: {seen.kind}`" if seen.kind else "")
    all_of = f", as in {formats.several(number, 'record')} at its head" if number > 1 else ""
    line = f"{file.path}, record {first.record}: {first.reason}{all_of}{remedy}"
    yield f"{line}. The record: {first.excerpt[:_EXCERPT]}" if first.excerpt else line
