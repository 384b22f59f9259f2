"""A sample of the text of a build's sources, spread over their files, as JSON lines that any reader of ours takes."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pipeline import MillError
from pipeline.build.build import Build
from pipeline.curation import repair
from pipeline.sources import reading
from pipeline.sources.base import Document, File
from pipeline.sources.jsonl import Jsonl

#: Files of a source that share its part of the sample, if they are large enough.
_FILES = 8
#: The next file is this share of all files further on: the golden ratio spreads any number of them evenly.
_TURN = 0.618034


class Line(NamedTuple):
    """A document as a line of JSON, and the ``size`` of its text in bytes."""

    json: str
    size: int


class Sample(NamedTuple):
    """Of each source ``lines``, and ``ratios``, the text in a byte of what was read of its files; the bytes of ``text``
    that this makes of all files; ``seconds`` of processor time that the readers take for a byte of text.
    """

    lines: dict[str, list[Line]]
    ratios: dict[str, float]
    text: float
    seconds: float

    @property
    def size(self) -> int:
        return sum(line.size for rows in self.lines.values() for line in rows)

    @property
    def documents(self) -> int:
        return sum(map(len, self.lines.values()))


def take(build: Build, size: int) -> Sample:
    """About ``size`` bytes of text, of each source by the size of its files. Raises MillError if there is none."""
    normalise = repair.Normaliser(build.recipe.normalise) if build.recipe.normalise else None
    readers = build.recipe.readers
    listed = {source.name: readers[source.kind].list_files(source) for source in build.recipe.sources}
    sizes = {name: sum(file.size for file in rows) for name, rows in listed.items()}
    lines: dict[str, list[Line]] = {}
    ratios: dict[str, float] = {}
    seconds = read = 0.0
    for source in build.recipe.sources:
        share = size * sizes[source.name] / max(1, sum(sizes.values()))
        began = time.process_time()
        documents, part = _read(source, readers[source.kind], listed[source.name], share)
        seconds, read = seconds + time.process_time() - began, read + part.text
        ratios[source.name] = part.text / part.stored if part.stored else 1.0
        if normalise is not None:
            documents = [document._replace(text=normalise(document.text)) for document in documents]
        lines[source.name] = [_line(document) for document in documents]
    text = sum(ratio * sizes[name] for name, ratio in ratios.items())
    sample = Sample(lines, ratios, text, seconds / max(1.0, read))
    if not sample.size:
        raise MillError("the sources hold no text to measure with; `mill check` says what is wrong with them")
    return sample


def write(sample: Sample, folder: Path, every: int) -> tuple[list[Jsonl], int]:
    """One of ``every`` lines of each source, as sources of JSON lines in ``folder``; with the bytes of their text."""
    sources, size = [], 0
    for name, lines in sample.lines.items():
        chosen, path = lines[::every], folder / f"{name}.jsonl"
        path.write_text("".join(line.json for line in chosen), encoding="utf-8")
        size += sum(line.size for line in chosen)
        sources.append(Jsonl(name=name, path=[str(path)], domain_field="domain"))
    return sources, size


def seconds_to_read(source: Jsonl, reader: Any) -> float:
    """Processor time that the JSON lines of ``write`` take to be read."""
    began = time.process_time()
    for file in reader.list_files(source):
        list(reader.read(source, file))
    return time.process_time() - began


class _Part(NamedTuple):
    """``text`` bytes in the first ``stored`` bytes of a file, or of some."""

    text: int
    stored: int


def _read(source: Any, reader: Any, listed: Sequence[File], size: float) -> tuple[list[Document], _Part]:
    """Documents of about ``size`` bytes of text, and the part of the files that was read for them.

    Some files give an equal part each; what one lacks the next gives.
    """
    documents: list[Document] = []
    size_read, part = 0, _Part(0, 0)
    order = sorted(range(len(listed)), key=lambda number: number * _TURN % 1)
    for count, number in enumerate(order, 1):
        until = size * min(1.0, count / min(_FILES, len(listed)))
        if size_read < until:
            some, of_file = _read_file(source, reader, listed[number], until - size_read)
            documents += some
            size_read += sum(map(_size, some))
            part = _Part(part.text + of_file.text, part.stored + of_file.stored)
    return documents, part


def _read_file(source: Any, reader: Any, file: File, size: float) -> tuple[list[Document], _Part]:
    """The first documents of ``file``, of ``size`` bytes of text or all there are.

    Files are read in blocks: what else is in the last one is read, too, since only then is all of its text known.
    """
    documents: list[Document] = []
    text = ahead = 0
    with reading.counting() as taken:
        for record in reader.read(source, file):
            if text >= size and taken[0] > ahead:
                return documents, _Part(text, ahead)
            ahead = taken[0]
            if isinstance(record, Document):
                if text < size:
                    documents.append(record)
                text += _size(record)
    return documents, _Part(text, file.size)


def _size(document: Document) -> int:
    return len(document.text.encode("utf-8", "replace"))


def _line(document: Document) -> Line:
    content = {key: getattr(document, key) for key in ("text", "url", "domain", "metadata")}
    return Line(json.dumps(content) + "\n", _size(document))
