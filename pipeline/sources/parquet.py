"""Parquet, and Arrow IPC files and streams (.arrow, .feather): one document a row, read batch by batch."""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Iterator
from itertools import pairwise
from typing import IO, TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from pipeline.sources import class_labels, footer, messages, pages
from pipeline.sources.base import (
    File,
    FileConfig,
    Ids,
    Record,
    RecordConfig,
    Rejected,
    find_files,
    printable,
    to_document,
)
from pipeline.sources.column_names import distinct
from pipeline.sources.reading import EXPANDS, FREE, OF_CONTENT, Damaged, bounded, open_raw
from pipeline.sources.reading import identity as identity

if TYPE_CHECKING:
    import pyarrow.parquet as pq

VERSION = 6
_BATCH_BYTES = 16 << 20
_DICTIONARY_BYTES = 64 << 20
#: Bytes at most that a place in a column takes without its value: millions of empty ones may well be stored in none.
_PLACE_BYTES = 8
#: Bytes that a value of a list takes at least, once it is read.
_ELEMENT = 8
_MAGIC = b"ARROW1"
_ARROW = (".arrow", ".feather")
_HUGGING_FACE = b"huggingface"
#: Rows without a text on end are rejected together from this number on.
_LONG_RUN = 1000
_FAILURES = (*OF_CONTENT, OSError)


class Parquet(FileConfig, RecordConfig):
    """Documents from columnar files. Only the columns that the recipe needs are read."""

    kind: Annotated[Literal["parquet"], Field(description="Parquet, Arrow and Feather, a document per row")] = "parquet"


def list_files(config: Parquet) -> list[File]:
    return find_files(config)


@bounded
def read(config: RecordConfig, file: File) -> Iterator[Record]:
    yield from read_rows(config, file)


def read_rows(config: RecordConfig, file: File, named: class_labels.Named | None = None) -> Iterator[Record]:
    """The rows of ``file`` as records; ``named`` puts the names of labels into a row (None: as the file's schema says).

    Raises Damaged, and what a parser raises.
    """
    ids = Ids(config.name, file)
    position = 0
    with open_raw(file) as handle:
        for batch in _batches(handle, file, columns(config), getattr(config, "max_compression_ratio", math.inf)):
            if isinstance(batch, _Lost):
                yield batch.damage.unread(file, position)
                position += batch.rows
                continue
            naming = named or _naming(batch)
            for piece, is_empty in _pieces(batch, config.text_field):
                if is_empty:
                    reason = f"field {config.text_field!r} is null, not a text"
                    yield Rejected(file.path, position + 1, None, reason, count=len(piece))
                    position += len(piece)
                    continue
                for row in _rows(piece):
                    position += 1
                    if row is None:
                        yield Rejected(file.path, position, None, "invalid UTF-8")
                    else:
                        yield to_document(config, file, ids, naming(row) if naming else row, position)


def rows(file: File, max_ratio: float, named: class_labels.Named | None = None) -> Iterator[dict[str, Any] | None]:
    """The rows of ``file`` with all columns, as ``read_rows`` names labels; None for one that is not UTF-8.

    Raises Damaged where the file is, and what a parser raises.
    """
    with open_raw(file) as handle:
        for batch in _batches(handle, file, None, max_ratio):
            if isinstance(batch, _Lost):
                raise batch.damage
            naming = named or _naming(batch)
            yield from (naming(row) if naming and row is not None else row for row in _rows(batch))


def _batches(
    handle: IO[bytes], file: File, wanted: set[str] | None, max_ratio: float
) -> Iterator[pa.RecordBatch | _Lost]:
    """Batches of ``file``. Raises Damaged once they come to more than ``max_ratio`` for each of its bytes: a dictionary
    of one long text fills any number of rows.
    """
    expanded, most = 0, FREE + max_ratio * file.size
    for batch in (_arrow_batches if file.name.lower().endswith(_ARROW) else _parquet_batches)(
        handle, wanted, max_ratio
    ):
        if not isinstance(batch, _Lost):
            expanded += max(0, batch.nbytes - _PLACE_BYTES * batch.num_rows * batch.num_columns)
            if expanded > most:
                raise Damaged(EXPANDS)
        yield batch


def _naming(batch: pa.RecordBatch) -> class_labels.Named | None:
    about = (batch.schema.metadata or {}).get(_HUGGING_FACE)
    return class_labels.of_schema(about) if about else None


class _Lost(NamedTuple):
    """A stretch that was not read, in place of ``rows`` rows."""

    damage: Damaged
    rows: int = 0


def _pieces(batch: pa.RecordBatch, text_field: str) -> Iterator[tuple[pa.RecordBatch, bool]]:
    """``batch`` in pieces, and of each whether it is a long run of rows without a text."""
    if text_field not in batch.schema.names or not batch.column(text_field).null_count:
        yield batch, False
        return
    empty = np.asarray(batch.column(text_field).is_null())
    edges = [0, *(np.flatnonzero(np.diff(empty)) + 1).tolist(), len(batch)]
    start = 0
    for begin, end in pairwise(edges):
        if empty[begin] and end - begin >= _LONG_RUN:
            if begin > start:
                yield batch.slice(start, begin - start), False
            yield batch.slice(begin, end - begin), True
            start = end
    if start < len(batch):
        yield batch.slice(start), False


def columns(config: RecordConfig) -> set[str] | None:
    """Names of the columns to read; None for all."""
    if config.metadata_fields is None:
        return None
    named = (config.text_field, config.id_field, config.url_field, config.domain_field, *config.metadata_fields)
    return {part for name in named if name is not None for part in (name, name.partition(".")[0])}


def column_names(_config: RecordConfig, file: File) -> list[str]:
    """The columns that ``file`` has. Raises Damaged where it cannot be read."""
    import pyarrow.parquet as pq

    with open_raw(file) as handle:
        try:
            if not file.name.lower().endswith(_ARROW):
                return pq.ParquetFile(handle).schema_arrow.names
            _to_first_message(handle)
            return pa.ipc.open_stream(handle).schema.names
        except _FAILURES as error:
            raise _damaged(error, 0) from error


def _parquet_batches(handle: IO[bytes], wanted: set[str] | None, max_ratio: float) -> Iterator[pa.RecordBatch | _Lost]:
    """Batches of bounded size, whatever the encoding; of a row group that cannot be read what it would have held."""
    try:
        plain = _opened(handle)
        footer.check(handle, plain)
        groups, stated = plain.metadata.num_row_groups, plain.metadata.num_rows
    except _FAILURES as error:
        raise _damaged(error, 0) from error
    rows = 0
    for group in range(groups):
        done = 0
        try:
            for batch in _group_batches(handle, plain, group, wanted, max_ratio):
                done += len(batch)
                yield batch
            in_group = plain.metadata.row_group(group).num_rows
            rows += in_group
            if done < in_group:
                raise Damaged(f"the file is damaged: a group of {in_group:,} rows has {done:,}")
        except _FAILURES as error:
            yield _lost_group(plain, group, done, error)
            rows = stated  # the groups are not added up then
    if rows < stated:
        raise Damaged(f"the file is damaged: {stated:,} rows are stated, and its groups have {rows:,}", None, 0)


def _opened(handle: IO[bytes], **options: Any) -> pq.ParquetFile:
    """A reader that holds a page at a time, and compares it with its checksum if it has one (Spark writes them)."""
    import pyarrow.parquet as pq  # with file systems that a recipe need not load

    return pq.ParquetFile(handle, buffer_size=1 << 20, pre_buffer=False, page_checksum_verification=True, **options)


def _lost_group(plain: pq.ParquetFile, group: int, done: int, error: Exception) -> _Lost:
    """What the rows of ``group`` behind the first ``done`` come to."""
    rows, start, size = 0, None, 0
    with contextlib.suppress(*_FAILURES):
        about = plain.metadata.row_group(group)
        stored = [about.column(index) for index in range(about.num_columns)]
        rows = max(0, about.num_rows - done)
        size = sum(max(0, column.total_compressed_size) for column in stored)
        start = min(pages.start(column) for column in stored) + size * done // max(1, about.num_rows)
        size = size * rows // max(1, about.num_rows)
    return _Lost(_damaged(error, start, size), rows)


def _damaged(error: Exception, start: int | None, size: int | None = None) -> Damaged:
    """``error`` as damage of the file. Raises it if it comes of the disk or the network."""
    if isinstance(error, OSError) and error.errno is not None:
        raise error
    reason = str(error) if isinstance(error, Damaged) else f"the file is damaged: {printable(str(error))[:200]}"
    return Damaged(reason, start, size)


def _group_batches(
    handle: IO[bytes], plain: pq.ParquetFile, group: int, wanted: set[str] | None, max_ratio: float
) -> Iterator[pa.RecordBatch]:
    """Batches of bounded size: pages by the sizes stated, repeated texts by their dictionary."""
    schema = plain.schema_arrow  # made again by each call
    names, texts = set(schema.names), set[str]()
    if len(names) < len(schema):  # such columns cannot be named
        chosen = None
    else:
        chosen = [field.name for field in schema if wanted is None or field.name in wanted]
        names.intersection_update(chosen)
        texts = {field.name for field in schema if field.name in names and _is_text(field.type)}
    about = plain.metadata.row_group(group)
    columns = [about.column(index) for index in range(about.num_columns)]
    if about.total_byte_size > FREE + max_ratio * sum(column.total_compressed_size for column in columns):
        raise Damaged(EXPANDS)
    read = [column for column in columns if chosen is None or column.path_in_schema.split(".")[0] in names]
    # a list of one value over and over is stored in a few bytes, whatever its length
    listed = _ELEMENT * sum(column.num_values for index, column in enumerate(columns) if _is_listed(plain, index))
    if listed > FREE + max_ratio * sum(column.total_compressed_size for column in columns):
        raise Damaged(EXPANDS)
    dictionaries = {column.path_in_schema: pages.check(handle, column, max_ratio) for column in read}
    repeated = {path: size for path, size in dictionaries.items() if size}
    reader = plain
    # the reader by dictionary holds all texts of a group, so it is for those that state a small size
    sizes = [column.total_uncompressed_size for column in columns if column.path_in_schema in texts]
    if repeated and texts and sum(sizes) <= _DICTIONARY_BYTES:
        reader = _opened(handle, read_dictionary=sorted(texts))
    expanded = [size for path, size in repeated.items() if reader is plain or path not in texts]
    rows = _batch_rows(max(about.total_byte_size, listed), about.num_rows)
    # each row may hold what fills its column's dictionary
    for batch in reader.iter_batches(max(1, min(rows, _BATCH_BYTES // max(1, sum(expanded)))), [group], chosen):
        yield from _decoded(_named_apart(batch))


def _is_listed(plain: pq.ParquetFile, column: int) -> bool:
    """Whether a row may hold any number of values of the leaf ``column``."""
    return plain.schema.column(column).max_repetition_level > 0


def _named_apart(batch: pa.RecordBatch) -> pa.RecordBatch:
    stated = batch.schema.names
    if (names := distinct(stated)) == stated:
        return batch
    return pa.RecordBatch.from_arrays(batch.columns, names, metadata=batch.schema.metadata)


def _is_text(kind: pa.DataType) -> bool:
    return kind in (pa.string(), pa.large_string(), pa.binary(), pa.large_binary())


def _is_view(kind: pa.DataType) -> bool:
    return kind in (pa.string_view(), pa.binary_view())


def _may_share(kind: pa.DataType, inner: bool = False) -> bool:
    """Whether one row of ``kind`` may show the same bytes any number of times."""
    if pa.types.is_list_view(kind) or pa.types.is_large_list_view(kind) or pa.types.is_run_end_encoded(kind):
        return True
    if inner and _is_view(kind):
        return True
    return any(_may_share(kind.field(index).type, True) for index in range(kind.num_fields))


def _decoded(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """``batch`` without dictionaries, in slices of about _BATCH_BYTES: a dictionary of one long text fills any number
    of rows.
    """
    sizes = np.zeros(len(batch), np.int64)
    for column in batch.columns:
        if isinstance(column, pa.DictionaryArray) and _is_text(column.type.value_type):
            lengths = pc.binary_length(column.dictionary).take(column.indices)
            sizes += lengths.fill_null(0).to_numpy(zero_copy_only=False)
        elif _is_view(column.type):  # many rows may show the same bytes; a view begins with its length
            views = np.frombuffer(column.buffers()[1], np.int32).reshape(-1, 4)
            sizes += views[column.offset : column.offset + len(column), 0]
    part = np.cumsum(sizes) // _BATCH_BYTES
    edges = [0, *(np.flatnonzero(np.diff(part)) + 1).tolist(), len(batch)]
    for start, end in pairwise(edges):
        piece = batch.slice(start, end - start)
        plain = [c.dictionary_decode() if isinstance(c, pa.DictionaryArray) else c for c in piece.columns]
        yield pa.RecordBatch.from_arrays(plain, piece.schema.names, metadata=piece.schema.metadata)


def _arrow_batches(handle: IO[bytes], wanted: set[str] | None, max_ratio: float) -> Iterator[pa.RecordBatch | _Lost]:
    """Batches up to the first message that is damaged; of a batch whose content is, what it would have held."""
    is_file = _to_first_message(handle)
    begin = handle.tell()
    end, damage = messages.check(handle, max_ratio, closed=is_file)
    messages_only = _Part(handle, begin, end)
    read = begin
    try:
        stream = pa.ipc.open_stream(messages_only)
        while True:
            try:
                batch = stream.read_next_batch()
            except StopIteration:
                break
            before, read = read, messages_only.tell()
            yield from _checked(batch, wanted, before, read)
    except _FAILURES as error:
        raise _damaged(error, read) from error
    if damage is not None:
        raise damage


def _checked(
    batch: pa.RecordBatch, wanted: set[str] | None, before: int, read: int
) -> Iterator[pa.RecordBatch | _Lost]:
    """``batch`` in slices; it is stored in the bytes from ``before`` to ``read``."""
    try:
        batch = _named_apart(batch)
        chosen = batch if wanted is None else batch.select([name for name in batch.schema.names if name in wanted])
        for name, column in zip(chosen.schema.names, chosen.columns, strict=True):
            if _may_share(column.type):
                raise Damaged(f"column {printable(name)!r} is of type {column.type}, which is not read: cast it")
            _validate(column)
        step = _batch_rows(chosen.nbytes, len(chosen))
    except _FAILURES as error:
        yield _Lost(_damaged(error, before, read - before), len(batch))
        return
    for start in range(0, len(chosen), step):
        yield from _decoded(chosen.slice(start, step))


class _Part(io.RawIOBase):
    """The bytes of ``handle`` from ``begin`` to ``end``, read in order."""

    def __init__(self, handle: IO[bytes], begin: int, end: int):
        self._handle, self._at, self._end = handle, begin, end
        handle.seek(begin)

    def tell(self) -> int:
        return self._at

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._handle.read(min(len(buffer), self._end - self._at))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


def _validate(column: pa.Array) -> None:
    """Raises ArrowInvalid where offsets or indices lead outside the data: pyarrow would follow them on reading.

    Texts are looked at as bytes: one that is not UTF-8 costs its row, not the file.
    """
    as_bytes = {pa.string(): pa.binary(), pa.large_string(): pa.large_binary()}
    column.view(as_bytes.get(column.type, column.type)).validate(full=True)


def _to_first_message(handle: IO[bytes]) -> bool:
    """Stand before the first message; whether this is a file and no mere stream.

    A file is a stream between a magic word, padded by zeros, and a footer. It is read as one, for what the footer
    points at need not be what stands there.
    """
    magic = handle.read(6)
    handle.seek(0)
    if magic != _MAGIC:
        return False
    handle.seek(8)
    while (word := handle.read(8)) == bytes(8):
        pass
    handle.seek(-len(word), 1)
    return True


def _batch_rows(size: int, rows: int) -> int:
    return max(1, min(10_000, _BATCH_BYTES * rows // max(size, 1)))


def _rows(batch: pa.RecordBatch) -> Iterator[dict[str, Any] | None]:
    """The rows of ``batch``; None for one that holds a text which is not UTF-8.

    What Python has no value for (a year beyond 9999, an unknown time zone) is given as Arrow writes it.
    """
    try:
        yield from batch.to_pylist()
    except _FAILURES:
        names = batch.schema.names
        for index in range(len(batch)):
            try:
                row = {name: _value(column[index]) for name, column in zip(names, batch.columns, strict=True)}
            except UnicodeDecodeError:
                row = None
            yield row


def _value(scalar: pa.Scalar) -> Any:
    try:
        return scalar.as_py()
    except UnicodeDecodeError:
        raise
    except _FAILURES:
        pass
    if isinstance(scalar, pa.StructScalar):
        return {name: _value(scalar[index]) for index, name in enumerate(field.name for field in scalar.type)}
    if isinstance(scalar, pa.MapScalar):
        return [_value(entry) for entry in scalar.values]
    if isinstance(scalar, pa.ListScalar):
        return [_value(entry) for entry in scalar.values]
    if isinstance(scalar, pa.DictionaryScalar | pa.ExtensionScalar):
        return _value(scalar.value)
    if pa.types.is_timestamp(scalar.type) and scalar.type.tz is not None:
        return f"{_value(scalar.cast(pa.timestamp(scalar.type.unit)))} (UTC, for {scalar.type.tz})"
    return pc.cast(scalar, pa.string()).as_py()
