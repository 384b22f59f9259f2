"""The rows of files to predict, one after the other: JSON lines, CSV, TSV, Parquet, Arrow and questions as in SQuAD."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from pipeline.sources import csv, jsonl, parquet
from pipeline.sources.base import Fields, File, NoFiles, Rejected, Unread, find_files, printable
from pipeline.sources.reading import COMPRESSED, OF_CONTENT, Damaged, open_file
from pipeline.store import files
from training.labelled import squad, tables
from training.labelled.findings import Findings
from training.labelled.rows import WrongRows

Format = Literal["jsonl", "csv", "tsv", "parquet", "arrow", "squad"]
_ENDINGS: dict[str, Format] = {
    **{".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".tsv": "tsv", ".tab": "tsv"},
    **{".parquet": "parquet", ".arrow": "arrow", ".feather": "arrow"},
}
_MOST_BYTES = 1 << 30  # of a file of questions
_MAX_RATIO = 200.0  # as sources have it


def format_of(path: str, json: Format | None = None) -> Format:
    """By the ending of ``path``, without that of a compression; ``json`` is what a .json holds.

    Raises WrongRows where it says none.
    """
    name = path.lower()
    for ending in COMPRESSED:
        name = name.removesuffix(ending)
    format_ = json if Path(name).suffix == ".json" else _ENDINGS.get(Path(name).suffix)
    if format_ is None:
        raise WrongRows(
            f"the name {path!r} does not say its format; name the file {', '.join(_ENDINGS)}, or say --format"
            f" {', '.join(get_args(Format))}"
        )
    return format_


class Source(NamedTuple):
    """One file to predict. ``name`` is what messages and the quarantine call it.

    ``columns`` are those of a table without a header, in order; None: its first row names them.
    """

    file: File
    format: Format
    name: str
    columns: tuple[str, ...] | None = None


def json_of(task: str) -> Format:
    """What a file .json holds for a model of ``task``, as in training."""
    return "squad" if task == "answers" else "jsonl"


def sources(
    path: str, wanted: Format | None = None, columns: tuple[str, ...] | None = None, json: Format | None = None
) -> list[Source]:
    """The file, or the files of the pattern ``path``; of those that are called .json the format is ``json``.

    Raises WrongRows where there is none, its format is unknown, or one that names its columns itself is given others.
    """
    try:
        inputs = find_files(csv.Csv(name="predict", path=[path]))
    except NoFiles as error:
        raise WrongRows(f"no file {files.masked(path)!r}; correct the path") from error
    if len(inputs) == 1 and files.is_local(path):
        inputs = [inputs[0]._replace(path=path)]  # messages name it as the user does
    made = [Source(file, wanted or format_of(file.path, json), file.path, columns) for file in inputs]
    for source in made:
        check_columns(source)
    return made


def check_columns(source: Source) -> None:
    """Raise WrongRows where ``source`` is given columns, and its format names them itself."""
    if source.columns is not None and source.format not in ("csv", "tsv"):
        raise WrongRows(f"{source.name}: a {source.format} file names its columns itself; leave out --columns")


def rows(source: Source) -> Iterator[Fields | Rejected]:
    """The rows of a file, numbered from 1, and what is none.

    Raises WrongRows where it has two columns of one name, or cannot be read to its end.
    """
    file, kind, name, columns = source
    number = 0
    try:
        for row in _read(file, kind, columns):
            if isinstance(row, Unread):
                raise _damaged(name, number, row.reason)
            number = row.record
            yield row._replace(file=name) if isinstance(row, Rejected) else row
    except (*OF_CONTENT, Damaged) as error:
        if isinstance(error, WrongRows):
            raise
        reason = str(error) if isinstance(error, Damaged) else printable(f"{type(error).__name__}: {error}"[:200])
        raise _damaged(name, number, reason) from error


def _damaged(name: str, number: int, reason: str) -> WrongRows:
    return WrongRows(f"{name}: not read after row {number:,}: {reason}; take the whole file again")


def _read(file: File, kind: Format, columns: tuple[str, ...] | None) -> Iterator[Fields | Rejected | Unread]:
    if kind == "jsonl":
        yield from jsonl.records(jsonl.Jsonl(name="predict", path=[file.path]), file)
    elif kind in ("csv", "tsv"):
        yield from csv.records(tables.table("predict", file, tabs=kind == "tsv", columns=columns), file)
    elif kind == "squad":
        with open_file(file, _MAX_RATIO) as stream:
            content = stream.read(_MOST_BYTES)
        for number, values in squad.read(content, file.path, Findings()):  # an answer is not needed here
            yield Fields(number, number, 0, values)
    else:
        shown = file._replace(name=f"{file.name}.arrow") if kind == "arrow" else file  # the reader goes by the name
        for number, row in enumerate(parquet.rows(shown, _MAX_RATIO), 1):
            if row is None:
                yield Rejected(file.path, number, None, "invalid UTF-8")
            else:
                yield Fields(number, number, 0, row)
