"""What a source is: files in, documents and rejected records out.

A source module has a pydantic config with its ``kind``, a ``VERSION`` (raised whenever the same file would give other
documents) and three functions:

- ``list_files(config) -> list[File]``: what it reads, sorted by name, each name once. Raises NoFiles.
- ``identity(config, file) -> str``: changes whenever the file's content does.
- ``read(config, file) -> Iterator[Record]``: every record of one file, in order, in memory bounded by
  ``max_document_bytes``. A bad record is yielded as Rejected and never raised; a record that is no document by its
  nature as PassedOver; a stretch of the file that cannot be read as Unread.

Ids are ``<source>/<file's name>#<record's own id, or its number from 1>``; a file that is one document has no ``#``.
They depend on nothing but the file's name and its content. Texts are given as they are in the file.
"""

from __future__ import annotations

import json
import math
import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, NamedTuple

import orjson
import xxhash
from pydantic import (
    AfterValidator,
    BeforeValidator,
    ByteSize,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
)

from pipeline import MillError
from pipeline.store import files, globs
from pipeline.store.recipe_file import Config


class File(NamedTuple):
    """One file of a source. ``path`` opens it; ``name`` is its path inside the source; ``size`` in bytes."""

    path: str
    name: str
    size: int


class Document(NamedTuple):
    """A row of ``shards.DOCUMENT_SCHEMA``; ``metadata`` is a JSON object as text."""

    id: str
    text: str
    source: str
    domain: str
    url: str | None = None
    metadata: str | None = None


class Rejected(NamedTuple):
    """A record that is not a document because of a fault; or ``count`` such records on end with the same fault.

    ``record`` (the first one's) counts from 1; ``offset`` is the byte where it starts in the uncompressed file (None
    where the format has no such thing); ``reason`` is a short phrase that is the same for all records of its sort;
    ``excerpt`` the beginning of the raw record; ``remedy`` what a user may do about it.
    """

    file: str
    record: int
    offset: int | None
    reason: str
    excerpt: str = ""
    count: int = 1
    remedy: str = ""


class PassedOver(NamedTuple):
    """A record that is no document because of what it is, not because of a fault: a request, an image, a redirect.

    ``kind`` is a short phrase that is the same for all records of its sort (``application/pdf``, ``request``);
    ``bytes`` is the size of the record's content, 0 where it is not known. It does not count as a bad record.
    """

    file: str
    record: int
    offset: int | None
    kind: str
    excerpt: str = ""
    bytes: int = 0


class Fields(NamedTuple):
    """A record as it stands in its file, before a document is made of it: its named ``values``.

    ``record`` counts the file's records from 1, ``line`` its lines; ``offset`` and ``raw`` as ``to_document`` takes
    them.
    """

    record: int
    line: int
    offset: int
    values: Mapping[str, Any]
    raw: bytes = b""


class Flagged(NamedTuple):
    """A mark on the record that is yielded next, counted by ``kind`` (``truncated page``) beside what the record is."""

    file: str
    record: int
    offset: int | None
    kind: str


class Unread(NamedTuple):
    """A stretch of a file that could not be read, or (``missing``) that must have stood behind the file's end.

    It lies after the record ``after_record`` (0: before the first). ``offset``, ``bytes`` and ``of`` are about the file
    as it is stored: where the stretch begins (None: not known), how long it is, and how long the file is. ``reason`` is
    a short phrase. It counts against the error budget as about as many records as its bytes may have held. How much is
    missing of a file that was cut off cannot be known; ``bytes`` is then ``of``, as if it had been cut in half.
    """

    file: str
    after_record: int
    offset: int | None
    reason: str
    bytes: int
    of: int
    missing: bool = False


Record = Document | Rejected | PassedOver | Flagged | Unread
"""What ``read`` yields."""


class NoFiles(MillError):
    """A source matches no file at all."""


def _document_size(size: ByteSize) -> ByteSize:
    if not 1 <= size <= 1 << 30:
        raise ValueError("a document holds between 1 byte and 1 GiB")
    return size


DocumentSize = Annotated[ByteSize, AfterValidator(_document_size)]


class SourceConfig(Config):
    """What all sources share. ``name`` begins every document's id; longer records are quarantined unread."""

    name: Annotated[
        str,
        Field(
            pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$",
            description="name of the source; begins the id of each of its documents",
        ),
    ]
    domain: Annotated[
        str | None, Field(description="domain of all documents of the source; default: the name of the source")
    ] = None  # of all its documents; if not given, the source's name
    max_document_bytes: Annotated[
        DocumentSize, Field(description="largest document in bytes; a longer record goes to quarantine unread")
    ] = ByteSize(256 << 20)

    @model_serializer(mode="wrap")
    def _with_kind(self, rest: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Also where defaults are left out: without its ``kind`` no source can be read back."""
        return {"kind": getattr(self, "kind"), **rest(self)}  # noqa: B009


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class FileConfig(SourceConfig):
    """A source over the files that fsspec globs match (``data/**/*.txt``, ``s3://bucket/x-*.jsonl.gz``)."""

    path: Annotated[
        list[files.Address],
        BeforeValidator(_as_list, json_schema_input_type=list[str] | str),
        Field(
            min_length=1,
            description="files to read, as globs of local paths or addresses: data/**/*.txt, s3://bucket/x-*.jsonl.gz",
        ),
    ]
    max_compression_ratio: Annotated[
        float,
        Field(
            gt=1,
            description="most bytes that one byte of a compressed file may unpack to; text reaches 3 to 50, a"
            " bomb 1,000",
        ),
    ] = 200.0  # text reaches 3 to 50; a bomb 1,000 and more


class RecordConfig(SourceConfig):
    """A source of records with named fields.

    A name with dots that no field has is a path through objects: ``text_field: data.text``.
    A text in ``domain_field`` overrides ``domain``. Fields that do not become part of the document otherwise are its
    metadata: all of them, or those in ``metadata_fields``.
    """

    text_field: Annotated[
        str, Field(description="field with the text; a name with dots is a path through objects: data.text")
    ] = "text"
    id_field: Annotated[
        str | None, Field(description="field with the record's id; where it is absent, its number in the file serves")
    ] = "id"
    url_field: Annotated[str | None, Field(description="field with the address of the document; null: none")] = "url"
    domain_field: Annotated[
        str | None, Field(description="field with the domain of the document, in place of `domain`")
    ] = None
    metadata_fields: Annotated[
        list[str] | None, Field(description="fields to keep as metadata; default: all that are not used otherwise")
    ] = None


class Found(NamedTuple):
    """The files of a source, sorted by name, and sentences about what its globs match but is not read."""

    files: list[File]
    warnings: list[str]


def find_files(config: FileConfig) -> list[File]:
    """The files that the globs of ``config`` match, sorted by name; raises NoFiles naming a glob that matches none.

    A name is the path below the folder that all globs share, so it does not depend on what else matches; it holds no
    credentials.
    """
    return look_for(config).files


def look_for(config: FileConfig) -> Found:
    """``find_files``, and what was left out."""
    if "" in map(str.strip, config.path):
        raise NoFiles(f"source {config.name!r}: `path` is empty; name a file or a glob in the recipe")
    resolved = [files.filesystem_of(glob) for glob in config.path]
    prefixes = [_literal_folder(files.masked(filesystem.unstrip_protocol(pattern))) for filesystem, pattern in resolved]
    root = posixpath.commonprefix([prefix.split("/") for prefix in prefixes])
    matching: dict[str, File] = {}
    everything = globs.Matches()
    for glob, (filesystem, pattern) in zip(config.path, resolved, strict=True):
        matches = _matches(glob, filesystem, pattern)
        if not matches.files:
            hint = "; ".join(_why(glob, matches))
            raise NoFiles(
                f"source {config.name!r}: no file matches {files.masked(glob)!r}{f' ({hint})' if hint else ''};"
                " correct `path` in the recipe"
            )
        for path, size in matches.files.items():
            address = filesystem.unstrip_protocol(path)
            name = file_name("/".join(files.masked(address).split("/")[len(root) :]))
            matching[address] = File(address.removeprefix("file://"), name, size)
        everything.update(matches)
    said = [printable(f"source {config.name!r}: {sentence}") for sentence in _left_out(everything)]
    return Found(sorted(matching.values(), key=lambda file: file.name), said)


def left_out(config: FileConfig) -> list[str]:
    """The warnings of ``look_for``, also where no file matches."""
    everything = globs.Matches()
    for glob in config.path:
        everything.update(_matches(glob, *files.filesystem_of(glob)))
    return [printable(f"source {config.name!r}: {sentence}") for sentence in _left_out(everything)]


def _matches(glob: str, filesystem: Any, pattern: str) -> globs.Matches:
    """What ``pattern`` matches; if that is no file, brackets are taken as they are written."""
    if any("**" in part and part != "**" for part in pattern.split("/")):
        raise NoFiles(
            f"{files.masked(glob)!r}: ** stands for folders and is a part of its own; write **/*.jsonl, not **.jsonl"
        )
    if files.is_local(glob):
        matches = globs.match(pattern)
        as_written = globs.match(globs.escaped(pattern)) if "[" in pattern and not matches.files else matches
        return as_written if as_written.files else matches
    matches = globs.Matches()
    try:
        with files.reaching(glob):
            entries = filesystem.glob(pattern, detail=True)
            if not entries and not globs.is_pattern(pattern):  # glob does not say why
                entries = {pattern: filesystem.info(pattern)}
    except FileNotFoundError as error:
        if error.__cause__ is None:
            return matches
        raise NoFiles(
            f"{files.masked(glob)}: not reached ({files.masked(str(error.__cause__))}); check its address"
        ) from error
    start = len(_literal_folder(pattern))
    names_a_dot = "/." in pattern[start:]
    for path, info in entries.items():
        if info["type"] != "file":
            matches.folders.add(path)
        elif "/." in path[start:] and not names_a_dot:
            matches.hidden.add(path)
        else:
            matches.files[path] = info["size"] or 0
    return matches


def _why(glob: str, matches: globs.Matches) -> Iterator[str]:
    if matches.folders and not globs.is_pattern(glob):
        yield f"it is a folder: write {files.masked(glob).rstrip('/')}/**"
    elif matches.folders:
        yield f"only folders: write {files.masked(glob).rstrip('/')}/**"
    if "[" in glob:
        yield "[ ] is a pattern for one character: for a bracket in a name write [[]"
    yield from map(printable, _left_out(matches))


_NAMED = 5


def _left_out(matches: globs.Matches) -> Iterator[str]:
    """Sentences about what is not read."""

    def listed(names: Iterable[str]) -> str:
        ordered = sorted(names)
        more = f" and {len(ordered) - _NAMED:,} more" if len(ordered) > _NAMED else ""
        return ", ".join(ordered[:_NAMED]) + more

    if matches.dangling:
        links = listed(f"{link} -> {target}" for link, target in matches.dangling.items())
        yield f"not read, because the target of the link is not there: {links}"
    if matches.hidden:
        yield (
            f"hidden files left out: {len(matches.hidden):,} ({listed(matches.hidden)}); to read them, write the dot"
            " that their names begin with in `path`"
        )
    if matches.special:
        yield f"not read, because it is not a regular file: {listed(matches.special)}"
    if matches.unlisted:
        why = listed(f"{folder} ({reason})" for folder, reason in matches.unlisted.items())
        yield f"not read, because it could not be opened: {why}"
    if matches.repeated:
        yield f"links to folders that are read already, not read a second time: {listed(matches.repeated)}"


def file_name(path: str) -> str:
    """``path`` as part of an id: valid UTF-8 without a bare ``#``, and another path gives another name."""
    return printable(path.replace("\\", "\\\\").replace("#", "\\#"))


def _literal_folder(pattern: str) -> str:
    """The deepest folder of ``pattern`` before its first wildcard."""
    return re.split(r"[*?\[]", pattern, maxsplit=1)[0].rpartition("/")[0]


_EXCERPT = 500


def printable(raw: str | bytes) -> str:
    """``raw`` as text that UTF-8 can hold: bytes and surrogates that it cannot are written as escapes."""
    data = raw.encode("utf-8", "backslashreplace") if isinstance(raw, str) else raw
    return data.decode("utf-8", "backslashreplace")


def excerpt(raw: str | bytes) -> str:
    return printable(raw[:_EXCERPT])


def dump_json(value: Any) -> str:
    """Compact JSON; what JSON has no form for (dates, decimals, bytes) as text, NaN and infinities as null.

    Integers of any size keep their digits. Raises orjson.JSONEncodeError.
    """
    try:
        return orjson.dumps(value, default=_as_text, option=orjson.OPT_NON_STR_KEYS).decode()
    except orjson.JSONEncodeError as error:
        if "64-bit" not in str(error):
            raise
    try:
        return json.dumps(_plain(value), ensure_ascii=False, separators=(",", ":"), default=_as_text)
    except (RecursionError, ValueError) as error:
        raise orjson.JSONEncodeError(str(error)) from error


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value


def _as_text(value: Any) -> str:
    return printable(value) if isinstance(value, bytes) else str(value)


#: Above this many records in a file every id carries its position, so that the ids seen need not be remembered.
_REMEMBERED = 1_000_000
_POSITION = re.compile(r"~\d+\Z")


class Ids:
    """Gives each record of one file an id of its own.

    The first record with an own id gets it as it is; a later one gets ``~<position>`` appended. An own id that already
    ends so gets it too; therefore no two records can share an id.
    """

    def __init__(self, source: str, file: File):
        self._prefix = f"{source}/{file.name}#"
        self._seen: set[int] = set()

    def take(self, own: str | int | None, position: int) -> tuple[str, bool]:
        """The id for the record at ``position`` (from 1), and whether its own id had been taken before."""
        local = str(position if own is None else own)
        key = xxhash.xxh3_64_intdigest(local.encode())
        taken = key in self._seen
        if len(self._seen) < _REMEMBERED:
            self._seen.add(key)
            if not taken and not _POSITION.search(local):
                return self._prefix + local, False
        return f"{self._prefix}{local}~{position}", taken


def to_document(
    config: RecordConfig,
    file: File,
    ids: Ids,
    record: Mapping[str, Any],
    position: int,
    offset: int | None = None,
    raw: bytes = b"",
) -> Document | Rejected:
    """The document in ``record``, the ``position``-th of ``file``; Rejected if its text is missing or not a text.

    ``raw`` is the record as it stands in the file, where there is such a thing: for the excerpt.
    """

    def reject(reason: str, remedy: str = "") -> Rejected:
        return Rejected(file.path, position, offset, reason, excerpt(raw or repr(record)), remedy=remedy)

    text = value_of(record, config.text_field, _MISSING)
    if isinstance(text, bytes):
        try:
            text = text.decode()
        except UnicodeDecodeError:
            return reject("invalid UTF-8")
    if not isinstance(text, str):
        if text is _MISSING:
            return reject(f"no field {config.text_field!r}", f"set `text_field`; the record has {_fields(record)}")
        return reject(f"field {config.text_field!r} is {kind_of(text)}, not a text")
    used = {config.text_field}
    own = _own(record, config.id_field, used)
    url = _text_of(record, config.url_field, used)
    domain = _text_of(record, config.domain_field, used) or config.domain or config.name
    chosen = record.keys() if config.metadata_fields is None else config.metadata_fields
    metadata = _metadata(record, chosen, used)
    identifier, taken = ids.take(own, position)
    if taken and own is not None:
        metadata["repeated_id"] = own
    try:
        packed = dump_json(metadata) if metadata else None
    except orjson.JSONEncodeError as error:
        return reject(f"metadata: {error}")
    return Document(identifier, text, config.name, domain, url, packed)


_MISSING = object()


def kind_of(value: Any) -> str:
    """What ``value`` of a record is, in the words of JSON: null, a number, a list; else its type's name."""
    kinds = {type(None): "null", bool: "a boolean", int: "a number", float: "a number", str: "a string"}
    return {**kinds, list: "a list", dict: "an object"}.get(type(value), type(value).__name__)


def value_of(record: Mapping[str, Any], field: str, missing: Any = None) -> Any:
    """The value of ``field``: of that very name, or else at the end of a path of names joined by dots."""
    if field in record or "." not in field:
        return record.get(field, missing)
    value: Any = record
    for name in field.split("."):
        if not isinstance(value, Mapping) or name not in value:
            return missing
        value = value[name]
    return value


def _fields(record: Mapping[str, Any]) -> str:
    names = [printable(repr(name)[:50]) for name in list(record)[:12]]
    more = f" and {len(record) - len(names)} more" if len(record) > len(names) else ""
    return (", ".join(names) or "none") + more


def _metadata(record: Mapping[str, Any], chosen: Iterable[str], used: Iterable[str]) -> dict[str, Any]:
    """The ``chosen`` fields without those that are ``used`` already, inside objects, too."""
    paths = [path for path in used if path not in record]
    metadata = {}
    for key in chosen:
        value = _MISSING if key in used else value_of(record, key, _MISSING)
        for path in paths:
            if path.startswith(f"{key}."):
                value = _without(value, path[len(key) + 1 :].split(".")) or _MISSING
        if value is not _MISSING:
            metadata[key] = value
    return metadata


def _without(value: Any, path: Sequence[str]) -> Any:
    if not isinstance(value, Mapping) or path[0] not in value:
        return value
    rest = {key: inner for key, inner in value.items() if key != path[0]}
    inner = _without(value[path[0]], path[1:]) if path[1:] else None
    return {**rest, path[0]: inner} if inner else rest


def _text_of(record: Mapping[str, Any], field: str | None, used: set[str]) -> str | None:
    value = value_of(record, field) if field is not None else None
    if not isinstance(value, str) or not value:
        return None
    used.add(field)  # type: ignore[arg-type]
    return value


def _own(record: Mapping[str, Any], field: str | None, used: set[str]) -> str | int | None:
    """The record's own id if it can serve as one: a number, or a short text on one line."""
    value = value_of(record, field) if field is not None else None
    fits = isinstance(value, str) and 0 < len(value) <= 200 and value.isprintable()
    if not fits and (not isinstance(value, int) or isinstance(value, bool)):
        return None
    used.add(field)  # type: ignore[arg-type]
    return value


def group(listed: Sequence[File], size: int) -> Iterator[list[File]]:
    """``listed`` in order, cut into runs: a file of ``size`` bytes or more by itself, smaller ones together, of which a
    run holds about ``size`` bytes on average.

    Where to cut is decided by each file's own name and size, as in content-defined chunking: a small file begins a run
    with the probability ``file.size / size``, by a hash of its name. So a file that is added cuts one run at most, and
    all others stay as they were.
    """
    run: list[File] = []
    for file in listed:
        if run and (_begins(file, size) or run[-1].size >= size):
            yield run
            run = []
        run.append(file)
    if run:
        yield run


def _begins(file: File, size: int) -> bool:
    return file.size >= size or int(files.fingerprint("begins", file.name), 16) * size < file.size << 128
