"""Evaluation sets: which files, which fields of their records, and the items they give."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal, NamedTuple

import orjson
from pydantic import Field, model_validator

from pipeline import MillError
from pipeline.sources.base import File, FileConfig, Ids, find_files
from pipeline.sources.reading import identity, open_file, read_lines
from pipeline.store import files
from pipeline.store.recipe_file import Config

_LINE_BYTES = 64 << 20

Part = Literal["both", "question", "answer"]


class EvaluationSet(Config):
    """JSON lines (plain, .gz, .zst) at ``path``, an item a line.

    An item's text is that of its fields, joined by line ends: the question's, the answer's, or both in this order. A
    field holds a text or a list of texts. Items are named by ``id_field``, or by their line's number.
    """

    name: Annotated[
        str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$", description="name of the set in reports and signals")
    ]
    path: Annotated[
        files.Address, Field(description="JSON lines file of the set, plain, .gz or .zst, one item per line")
    ]
    question_fields: Annotated[
        list[str], Field(description="fields with the question; several are joined by line ends")
    ] = []
    answer_fields: Annotated[
        list[str], Field(description="fields with the answer; several are joined by line ends")
    ] = []
    parts: Annotated[Part, Field(description="part of an item to look for in the corpus")] = "both"
    id_field: Annotated[str | None, Field(description="field with the item's id; default: the number of its line")] = (
        None
    )

    @property
    def fields(self) -> list[str]:
        return [
            *(self.question_fields if self.parts != "answer" else []),
            *(self.answer_fields if self.parts != "question" else []),
        ]

    @model_validator(mode="after")
    def _has_fields(self) -> EvaluationSet:
        if not self.fields:
            raise MillError(f"parts: {self.parts} names no field; give question_fields or answer_fields")
        return self


class Item(NamedTuple):
    set: str
    id: str
    text: str


class WrongEvaluationSet(MillError):
    """A record of an evaluation set cannot be read. Never passed over: what is not read would be taken for clean."""


def digest(chosen: EvaluationSet) -> list[str]:
    """Changes whenever the content of the set's files does. Raises NoFiles."""
    return [part for file in _files(chosen) for part in (file.name, identity(_source(chosen), file))]


def read(chosen: EvaluationSet) -> Iterator[Item]:
    """The items in order. Raises NoFiles, or WrongEvaluationSet naming file, line, field and remedy."""
    ratio = _source(chosen).max_compression_ratio
    for file in _files(chosen):
        ids = Ids(chosen.name, file)
        with open_file(file, ratio) as stream:
            for line in read_lines(stream, _LINE_BYTES):
                number, data, fault = line.number, line.data, line.damage or line.fault
                where = f"evaluation set {chosen.name!r}: {files.masked(file.path)}, line {number}"
                if fault:
                    raise WrongEvaluationSet(f"{where}: {fault}; replace the file")
                if not data.strip():
                    continue
                try:
                    record = orjson.loads(data)
                except orjson.JSONDecodeError as error:
                    raise WrongEvaluationSet(f"{where}: invalid JSON ({error.msg}); correct the file") from error
                if not isinstance(record, dict):
                    raise WrongEvaluationSet(f"{where}: not a JSON object; `path` must name JSON lines")
                own = record.get(chosen.id_field) if chosen.id_field else None
                texts = [text for field in chosen.fields for text in _texts(record, field, where)]
                yield Item(chosen.name, ids.take(own, number)[0], "\n".join(texts))


def _texts(record: dict[str, Any], field: str, where: str) -> list[str]:
    value = record.get(field)
    given = value if isinstance(value, list) else [value]
    texts = [text for text in given if isinstance(text, str)]
    if len(texts) < len(given):
        raise WrongEvaluationSet(
            f"{where}, field {field!r}: neither a text nor a list of texts; it has {', '.join(sorted(record))}"
        )
    return texts


def _source(chosen: EvaluationSet) -> FileConfig:
    return FileConfig(name=chosen.name, path=[chosen.path])


def _files(chosen: EvaluationSet) -> list[File]:
    return find_files(_source(chosen))
