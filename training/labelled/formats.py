"""Files of labelled rows, by format: each row with the place where it stands."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

from pipeline.sources import csv, hub, jsonl, parquet
from pipeline.sources.base import Fields, File, NoFiles, Rejected, find_files, printable
from pipeline.sources.reading import COMPRESSED, OF_CONTENT, Damaged, open_file, read_lines
from pipeline.store import files
from training.labelled import conll, parallel, rte, squad, tables
from training.labelled.findings import Findings
from training.labelled.rows import WrongRows
from training.recipe.finetuning import Format, LabelledFiles

_ENDINGS: dict[str, Format] = {
    **{".csv": "csv", ".tsv": "tsv", ".tab": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet"},
    **{".arrow": "arrow", ".feather": "arrow", ".xml": "rte"},
    **dict.fromkeys((".conll", ".conllu", ".iob", ".iob2", ".bio"), "conll"),
}
_DEV = ("dev", "validation", "valid", "val", "development")
_MOST_BYTES = 1 << 30  # of a line, or of a SQuAD file
_MAX_RATIO = 200.0  # as sources have it: text reaches 3 to 50, a bomb 1,000
_SETS = ("train", "dev", "test")


class Given(NamedTuple):
    """Files of one set. ``option`` is what names them, for messages."""

    option: str
    files: list[File]
    format: Format


class Record(NamedTuple):
    """A row: where it stands (``reviews.csv:17``), the name of its file and its number there, and its values.

    ``lines`` are the lines of its words, where it has more than one.
    """

    place: str
    name: str
    number: int
    values: Mapping[str, Any]
    lines: list[int] | None = None


def sets(data: LabelledFiles, json: Format, findings: Findings) -> dict[str, Given]:
    """The files of each set that ``data`` gives, a .json in the format ``json``.

    Raises WrongRows where there are none.
    """
    given = {name: path for name in _SETS if (path := getattr(data, name)) is not None}
    made: dict[str, Given] = {}
    for name, path in given.items():
        option = f"data.{name}"
        if _is_parallel(path, data.format):
            made[name] = Given(option, [File(path, path.rstrip("/").rpartition("/")[2], 0)], "parallel")
        elif files.is_local(path) and files.local(path).is_dir():
            made |= _saved(path, option, name, given, findings)
        else:
            made[name] = Given(option, *_files(path, option, data.format, json))
    return made


def _is_parallel(path: str, wanted: Format | None) -> bool:
    """Whether ``path`` is what the names of line-parallel files begin with, or (where it is said) their folder."""
    if wanted not in (None, "parallel") or not files.is_local(path):
        return False
    columns = parallel.columns(path) if wanted is not None or not files.local(path).exists() else {}
    if wanted is not None and not columns:
        raise WrongRows(f"{path!r}: no two files of this name with an ending, nor such a folder; correct the path")
    return bool(columns)


def _files(path: str, option: str, wanted: Format | None, json: Format) -> tuple[list[File], Format]:
    try:
        inputs = find_files(csv.Csv(name=option, path=[path]))
    except NoFiles as error:
        raise WrongRows(
            f"{option}: no file {files.masked(path)!r}; correct it (names without / are looked for in {Path.cwd()})"
        ) from error
    if len(inputs) == 1 and files.is_local(path):
        inputs = [inputs[0]._replace(path=path)]  # messages name it as the user does
    formats: dict[str, Format] = {file.path: wanted or _format(file.path, option, json) for file in inputs}
    if len(set(formats.values())) > 1:
        named = ", ".join(f"{file} ({kind})" for file, kind in list(formats.items())[:5])
        raise WrongRows(f"{option}: files of several formats: {named}; name the files of one")
    return inputs, next(iter(formats.values()))


def _format(path: str, option: str, json: Format) -> Format:
    name = path.lower()
    for ending in COMPRESSED:
        name = name.removesuffix(ending)
    ending = Path(name).suffix
    if ending == ".json":
        return json
    if ending not in _ENDINGS:
        raise WrongRows(
            f"{option}: the name {path!r} does not say its format; name the file .csv, .tsv, .jsonl, .parquet, .arrow,"
            " .conll, .xml or .json, or set `data.format`"
        )
    return _ENDINGS[ending]


def _saved(path: str, option: str, name: str, given: Mapping[str, str], findings: Findings) -> dict[str, Given]:
    """The sets in a folder that ``datasets`` saved: of one with splits all that ``given`` does not name."""
    folder = files.local(path)
    if (folder / "state.json").exists():
        return {name: _split(path, option, "train")}
    if not (folder / "dataset_dict.json").exists():
        raise WrongRows(
            f"{option}: the folder {path!r} was not saved by `datasets` (no state.json, no dataset_dict.json); name"
            f" files in it, such as {path.rstrip('/')}/*.csv"
        )
    splits = files.read_json(str(folder / "dataset_dict.json")).get("splits") or []
    wanted = {"train": ["train"], "dev": [s for s in splits if s in _DEV], "test": [s for s in splits if s == "test"]}
    if name != "train":
        wanted = {name: wanted[name] or (["train"] if "train" in splits else [])}
    made = {}
    for target, names in wanted.items():
        if len(names) > 1:
            raise WrongRows(f"{option}: {path!r} has the splits {', '.join(names)}; name one as data.{target}")
        if names and names[0] in splits and (target == name or target not in given):
            made[target] = _split(path, option, names[0])
    if name not in made:
        raise WrongRows(f"{option}: {path!r} has no split {name!r}; there is {', '.join(splits) or 'none'}")
    used = {split for names in wanted.values() for split in names}
    if unread := [split for split in splits if split not in used]:
        findings.note(f"{path}: the splits {', '.join(unread)} are not read")
    return made


def _split(path: str, option: str, split: str) -> Given:
    source = hub.Hub(name=option, dataset=path, split=split)
    if (files.local(path) / "state.json").exists():
        stated = files.read_json(str(files.local(path) / "state.json")).get("_split") or split
        source = source.model_copy(update={"split": str(stated)})
    return Given(option, hub.list_files(source), "datasets")


def read(given: Given, file: File, data: LabelledFiles, findings: Findings) -> Iterator[Record]:
    """The rows of ``file``. What cannot be read is a fault in ``findings``; raises WrongRows for a damaged file."""
    number = 0
    try:
        for record in _records(given, file, data, findings):
            number = record.number
            yield record
    except (*OF_CONTENT, Damaged) as error:
        if isinstance(error, WrongRows):
            raise
        reason = str(error) if isinstance(error, Damaged) else printable(f"{type(error).__name__}: {error}"[:200])
        raise _damaged(file, number, reason) from error


def _damaged(file: File, number: int, reason: str) -> WrongRows:
    return WrongRows(f"{file.path}: not read after row {number:,}: {reason}; take the whole file again")


def _records(given: Given, file: File, data: LabelledFiles, findings: Findings) -> Iterator[Record]:
    match given.format:
        case "csv" | "tsv" | "jsonl":
            yield from _of_text(given, file, data, findings)
        case "parquet" | "arrow" | "datasets":
            named = hub.naming(file) if given.format == "datasets" else None
            # the reader tells Arrow by the name
            shown = file._replace(name=f"{file.name}.arrow") if given.format == "arrow" else file
            for number, row in enumerate(parquet.rows(shown, _MAX_RATIO, named), 1):
                if row is None:
                    findings.fault("UTF-8", f"{file.path}:{number}", "invalid UTF-8; write the file in UTF-8")
                else:
                    yield Record(f"{file.path}:{number}", file.name, number, row)
        case "conll":
            with _lines(file) as lines:
                for sentence in conll.read(lines, file.path, findings):
                    values = conll.values(sentence, file.name, data.columns)
                    yield Record(f"{file.path}:{sentence.line}", file.name, sentence.line, values, sentence.lines)
        case "rte":
            with open_file(file, _MAX_RATIO) as stream:
                for line, values in rte.read(stream, file.path, findings):
                    yield Record(f"{file.path}:{line}", file.name, line, values)
        case "parallel":
            for number, values in parallel.read(file.path, _MOST_BYTES, _MAX_RATIO):
                yield Record(f"{file.path}:{number}", file.name, number, values)
        case "squad":
            with open_file(file, _MAX_RATIO) as stream:
                content = stream.read(_MOST_BYTES)
            for number, values in squad.read(content, file.path, findings):
                yield Record(f"{file.path}:{number}", file.name, number, values)


def _of_text(given: Given, file: File, data: LabelledFiles, findings: Findings) -> Iterator[Record]:
    if given.format == "jsonl":
        records = jsonl.records(jsonl.Jsonl(name=given.option, path=[file.path]), file)
    else:
        table = tables.table(given.option, file, tabs=given.format == "tsv", columns=data.columns)
        records = csv.records(table, file)
    quoted: Counter[str] = Counter()
    first = ""
    for record in records:
        if isinstance(record, Fields):
            place = f"{file.path}:{record.line}"
            if given.format == "tsv" and any(_is_quoted(value) for value in record.values.values()):
                quoted["rows"] += 1
                first = first or place
            yield Record(place, file.name, record.line, record.values)
        elif isinstance(record, Rejected):
            where = f"{file.path}:{record.record}" if given.format == "jsonl" else f"{file.path}, row {record.record}"
            remedy = "write the file in UTF-8" if record.reason == "invalid UTF-8" else "correct the row"
            findings.fault(record.reason, where, f"{record.reason}: {record.excerpt[:60]!r}; {remedy}")
        else:
            raise _damaged(file, record.after_record, record.reason)
    if quoted:
        findings.note(
            f"{file.path}: {quoted['rows']:,} rows have values in double quotes ({first}); in a TSV they are characters"
            " like others"
        )


def _is_quoted(value: Any) -> bool:
    return isinstance(value, str) and len(value) > 1 and value[0] == value[-1] == '"'


@contextlib.contextmanager
def _lines(file: File) -> Iterator[Iterator[tuple[int, str]]]:
    """The lines of ``file`` with their numbers, without their ends."""
    with open_file(file, _MAX_RATIO) as stream:
        yield _numbered(stream, file)


def _numbered(stream: IO[bytes], file: File) -> Iterator[tuple[int, str]]:
    for line in read_lines(cast(Any, stream), _MOST_BYTES):
        if line.damage is not None:
            raise _damaged(file, line.number, str(line.damage))
        try:
            text = line.data.decode("utf-8-sig" if line.number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise WrongRows(f"{file.path}:{line.number}: invalid UTF-8; write the file in UTF-8") from error
        yield line.number, text
