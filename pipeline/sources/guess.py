"""What a source for given files would be: its kind, and the fields of its records, each guess with its reason.

The beginning of a few files is read. Nothing is certain: what a guess goes by is said, and a user may know better.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline import MillError
from pipeline.sources import csv, jsonl, parquet
from pipeline.sources.base import Fields, File
from pipeline.sources.reading import COMPRESSED
from pipeline.sources.sniff import FORMATS, Seen, look
from pipeline.store import files, globs

#: Records that are looked at, from the first files.
RECORDS = 200
#: Files of one ending of which the format is looked at.
_FILES = 10
#: One text looks like the other: a Markdown file may hold a table.
_TEXT = {"text", "csv"}
#: Values of a text field, a field of ids: share of records that have one.
_MOST = 0.9
_TEXTS = ("text", "content", "body", "document", "article", "raw_content", "passage", "message", "story", "code")
_IDS = ("id", "_id", "doc_id", "docid", "document_id", "uuid", "guid", "identifier", "key")
_URLS = ("url", "link", "uri", "source_url", "webpage", "href")
_DOMAINS = ("domain", "category", "section", "topic", "genre", "source", "subreddit", "corpus")
_DATES = ("date", "published", "created", "timestamp", "time", "year", "datetime", "published_at", "created_at")
_URL = re.compile(r"https?://\S+$")
_DATE = re.compile(r"(19|20)\d\d(-\d\d(-\d\d.*)?)?$")
#: A domain has at most this many values among the records, each this often on average.
_VALUES, _REPEATS = 30, 3
_NO_NAME = re.compile(r"[^A-Za-z0-9_.-]+")


@dataclass
class Guess:
    """A field of a source entry: its ``value``, and why; ``value`` None is left out and said alone."""

    value: Any
    why: str


@dataclass
class SourceGuess:
    """An entry of ``sources``: its fields in order, and remarks on what is not part of it."""

    fields: dict[str, Guess]
    remarks: list[str] = field(default_factory=list)

    @property
    def values(self) -> dict[str, Any]:
        return {name: guess.value for name, guess in self.fields.items()}


def sources(paths: Sequence[Path], text_field: str | None = None) -> list[SourceGuess]:
    """A source for each file, and for each ending and format in a folder. Raises MillError where no text is found."""
    guesses: list[SourceGuess] = []
    for path in paths:
        if not path.exists():
            raise MillError(f"{path}: no such file or folder")
        files.regular(str(path))
        guesses += _of_folder(path, text_field) if path.is_dir() else [_of_file(path, text_field)]
    taken: Counter[str] = Counter()
    for guess in guesses:
        name = guess.fields["name"]
        taken[name.value] += 1
        if taken[name.value] > 1:
            name.value = f"{name.value}-{taken[name.value]}"
    return guesses


def _of_file(path: Path, text_field: str | None) -> SourceGuess:
    seen = look(_file(path))
    if not seen.kind:
        raise MillError(f"{path} is {seen.words}; `mill init` takes {', '.join(FORMATS.values())}")
    return _guess(path.name.partition(".")[0], globs.escaped(path.as_posix()), [path], seen, text_field)


def _of_folder(folder: Path, text_field: str | None) -> list[SourceGuess]:
    endings: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts):
            endings[_ending(path)].append(path)
    guesses: list[SourceGuess] = []
    left: list[str] = []
    for ending, inside in sorted(endings.items()):
        kinds = [(path, look(_file(path))) for path in inside[:_FILES]]
        kinds = [(path, seen) for path, seen in kinds if seen.other != "empty"]
        seen = kinds[0][1] if kinds else Seen("", "empty")
        odd = next((path for path, other in kinds if other.kind != seen.kind and {other.kind, seen.kind} - _TEXT), None)
        if not seen.kind or odd is not None:
            what = f"{odd.name} is not what {kinds[0][0].name} is" if odd is not None else seen.words
            left.append(f"{len(inside):,} x *{ending or inside[0].name} ({what})")
            continue
        first = kinds[0][0]  # those before it are empty
        inside = [first, *(path for path in inside if path != first)]
        pattern: str | list[str] = f"{globs.escaped(folder.as_posix())}/**/*{ending}"
        if not ending or any(other != ending and other.endswith(ending) for other in endings):
            pattern = [globs.escaped(path.as_posix()) for path in inside]  # the glob would match others, too
        guesses.append(_guess(f"{folder.resolve().name}-{ending.strip('.')}", pattern, inside, seen, text_field))
    if len(guesses) == 1:
        guesses[0].fields["name"].value = _name(folder.resolve().name)
    if not guesses:
        raise MillError(f"{folder}: no file with text here" + (f"; left out: {', '.join(left)}" if left else ""))
    guesses[-1].remarks += [f"left out: {one}" for one in left]
    return guesses


def _ending(path: Path) -> str:
    """.jsonl.zst, .txt; without dots that belong to the name."""
    suffixes = path.suffixes
    packed = suffixes[-1:] if suffixes and suffixes[-1].lower() in COMPRESSED else []
    return "".join(suffixes[-2:] if packed and len(suffixes) > 1 else suffixes[-1:])


def _file(path: Path) -> File:
    return File(str(path), path.name, path.stat().st_size)


def _guess(name: str, pattern: str | list[str], paths: list[Path], seen: Seen, text_field: str | None) -> SourceGuess:
    fields = {
        "name": Guess(_name(name), "begins the id of each document"),
        "kind": Guess(seen.kind, f"by the content of {paths[0].name}"),
        "path": Guess(
            pattern, f"{len(paths):,} file{'s' if len(paths) != 1 else ''} now; new ones that match are read"
        ),
    }
    guess = SourceGuess(fields)
    if seen.kind == "csv" and seen.delimiter != ",":
        fields["delimiter"] = Guess(seen.delimiter, "between the names of the first row")
    if seen.kind in ("jsonl", "csv", "parquet"):
        records = list(itertools.islice(_records(seen, paths), RECORDS))
        if not records:
            raise MillError(
                f"{paths[0]}: no record can be read; `mill init` looks at {paths[0].name} and those after it"
            )
        _of_records(guess, records, paths[0], text_field)
    return guess


def _name(text: str) -> str:
    return _NO_NAME.sub("-", text).strip("-._")[:60] or "texts"


def _records(seen: Seen, paths: list[Path]) -> Iterator[Mapping[str, Any]]:
    for path in paths[:_FILES]:
        file = _file(path)
        if seen.kind == "parquet":
            yield from (row for row in parquet.rows(file, 1000) if row is not None)
            continue
        if seen.kind == "jsonl":
            records = jsonl.records(jsonl.Jsonl(name="x", path=[str(path)]), file)
        else:
            records = csv.records(csv.Csv(name="x", path=[str(path)], delimiter=seen.delimiter), file)
        yield from (record.values for record in records if isinstance(record, Fields))


def _of_records(guess: SourceGuess, records: list[Mapping[str, Any]], path: Path, text_field: str | None) -> None:
    columns = _columns(records)
    among = f"in the first {len(records):,} records"
    texts = {name: values for name, values in columns.items() if _is_text(values, len(records))}
    lengths = {name: sum(map(len, values)) / len(values) for name, values in texts.items()}
    if not lengths:  # words, not sentences: then only its name says that a field holds the text
        words = {name: values for name, values in columns.items() if all(isinstance(value, str) for value in values)}
        lengths = {name: sum(map(len, words[name])) / len(words[name]) for name in _named(words, _TEXTS)[:1]}
    chosen = text_field or _longest(lengths)
    if chosen is None or (text_field and text_field not in columns):
        fields = ", ".join(list(columns)[:20])
        raise MillError(f"{path}: no field with text {among}; there is {fields}. Name it by --text-field")
    if text_field:
        why = "as --text-field says"
    else:
        why = f"{lengths[chosen]:,.0f} characters on average {among}"
        if others := sorted((name for name in lengths if name != chosen), key=lambda name: -lengths[name])[:3]:
            why += "; also text: " + ", ".join(f"{name} ({lengths[name]:,.0f})" for name in others)
    guess.fields["text_field"] = Guess(chosen, why)
    _add_id(guess, columns, among, len(records))
    for field_name, names, fits in (("url_field", _URLS, _are_urls), ("domain_field", _DOMAINS, _are_domains)):
        for name in _named(columns, names):
            if name != chosen and len(columns[name]) >= _MOST * len(records) and fits(columns[name]):
                guess.fields[field_name] = Guess(name, _why(field_name, columns[name], among))
                break
    for name in _named(columns, _DATES):
        values = [str(value) for value in columns[name]]
        if name != chosen and values and all(_DATE.match(value) for value in values):
            guess.remarks.append(f"`{name}` looks like a date ({values[0][:30]}); it stays in the documents' metadata")
            break


def _columns(records: list[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """The values of each field that are there, and of fields inside objects as ``outer.inner``."""
    columns: dict[str, list[Any]] = defaultdict(list)
    for record in records:
        for name, value in record.items():
            if isinstance(value, Mapping):
                for inner, deep in value.items():
                    if deep not in (None, ""):
                        columns[f"{name}.{inner}"].append(deep)
            elif value not in (None, ""):
                columns[name].append(value)
    return dict(columns)


def _is_text(values: list[Any], records: int) -> bool:
    return (
        len(values) >= _MOST * records
        and all(isinstance(value, str) for value in values)
        and not _are_urls(values)
        and not all(_DATE.match(value) for value in values)
        and sum(" " in value.strip() or len(value) > 80 for value in values) * 2 > len(values)
    )


def _longest(lengths: Mapping[str, float]) -> str | None:
    """The field with the longest texts; one with a usual name if its texts are half as long."""
    longest = max(lengths, key=lambda name: lengths[name], default=None)
    for name in _TEXTS:
        if longest is not None and name in lengths and 2 * lengths[name] >= lengths[longest]:
            return name
    return longest


def _add_id(guess: SourceGuess, columns: Mapping[str, list[Any]], among: str, records: int) -> None:
    for name in _named(columns, _IDS):
        values = columns[name]
        if not all(isinstance(value, str | int) and not isinstance(value, bool) for value in values):
            continue
        if len(values) == records and len(set(values)) == records:
            guess.fields["id_field"] = Guess(name, f"a value of its own in each record {among}")
            return
        if name == "id":  # the default, which is to be switched off
            guess.fields["id_field"] = Guess(None, f"`id` is missing or repeats {among}; the record's number serves")
            return


def _named(columns: Mapping[str, list[Any]], names: Sequence[str]) -> list[str]:
    """Those of ``columns`` that are called so, in the order of ``names``; inside objects, too."""
    last = {column: column.rpartition(".")[2].lower() for column in columns}
    return [column for name in names for column in columns if last[column] == name]


def _are_urls(values: list[Any]) -> bool:
    return all(isinstance(value, str) and _URL.match(value) for value in values)


def _are_domains(values: list[Any]) -> bool:
    if not all(isinstance(value, str) and len(value) <= 60 and "\n" not in value for value in values):
        return False
    different = len(set(values))
    return 2 <= different <= _VALUES and len(values) >= _REPEATS * different


def _why(field_name: str, values: list[Any], among: str) -> str:
    if field_name == "url_field":
        return f"addresses {among}"
    common = [str(name) for name, _ in Counter(values).most_common(3)]
    return f"{len(set(values))} values {among}: {', '.join(common)}"
