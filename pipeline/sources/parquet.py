"""Parquet, and Arrow IPC files and streams (.arrow, .feather): one document a row, read batch by batch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import IO, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.sources import messages
from pipeline.sources.base import Document, File, FileConfig, Ids, RecordConfig, Rejected, find_files, to_document
from pipeline.sources.reading import EXPANDS, FREE, Damaged, open_raw
from pipeline.sources.reading import identity as identity

VERSION = 2
_BATCH_BYTES = 16 << 20
_DICTIONARY_BYTES = 64 << 20
_DICTIONARY_PAGE = 2
_MAGIC = b"ARROW1"


class Parquet(FileConfig, RecordConfig):
    """Documents from columnar files. Only the columns that the recipe needs are read."""

    kind: Literal["parquet"] = "parquet"


def list_files(config: Parquet) -> list[File]:
    return find_files(config)


def read(config: RecordConfig, file: File) -> Iterator[Document | Rejected]:
    ids = Ids(config.name, file)
    position = 0
    batches = _arrow_batches if file.name.lower().endswith((".arrow", ".feather")) else _parquet_batches
    with open_raw(file) as handle:
        try:
            for batch in batches(handle, columns(config), getattr(config, "max_compression_ratio", math.inf)):
                for row in _rows(batch):
                    position += 1
                    if row is None:
                        yield Rejected(file.path, position, None, "invalid UTF-8")
                    else:
                        yield to_document(config, file, ids, row, position)
        except (pa.ArrowException, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # the disk or the network, not the file
            yield Rejected(file.path, position + 1, None, "the file is damaged", str(error)[:500])
        except Damaged as error:
            yield Rejected(file.path, position + 1, None, str(error))


def columns(config: RecordConfig) -> set[str] | None:
    """Names of the columns to read; None for all."""
    if config.metadata_fields is None:
        return None
    named = (config.text_field, config.id_field, config.url_field, config.domain_field, *config.metadata_fields)
    return {name for name in named if name is not None}


def _parquet_batches(handle: IO[bytes], wanted: set[str] | None, max_ratio: float) -> Iterator[pa.RecordBatch]:
    """Batches of bounded size, whatever the encoding: pages by the sizes stated, repeated texts by their dictionary."""
    plain = pq.ParquetFile(handle, buffer_size=1 << 20, pre_buffer=False)
    chosen = [name for name in plain.schema_arrow.names if wanted is None or name in wanted]
    texts = [name for name in chosen if _is_text(plain.schema_arrow.field(name).type)]
    by_dictionary = pq.ParquetFile(handle, read_dictionary=texts, buffer_size=1 << 20, pre_buffer=False)
    for group in range(plain.metadata.num_row_groups):
        about = plain.metadata.row_group(group)
        columns = [about.column(index) for index in range(about.num_columns)]
        if about.total_byte_size > FREE + max_ratio * sum(column.total_compressed_size for column in columns):
            raise Damaged(EXPANDS)
        repeated = {
            column.path_in_schema: size
            for column in columns
            if column.path_in_schema.split(".")[0] in chosen and (size := _dictionary_size(handle, column))
        }
        # the reader by dictionary holds all texts of a group, so it is for those that state a small size
        sizes = [column.total_uncompressed_size for column in columns if column.path_in_schema in texts]
        reader = by_dictionary if repeated and sum(sizes) <= _DICTIONARY_BYTES else plain
        expanded = [size for path, size in repeated.items() if reader is plain or path not in texts]
        rows = _batch_rows(about.total_byte_size, about.num_rows)
        # each row may hold what fills its column's dictionary
        for batch in reader.iter_batches(max(1, min(rows, _BATCH_BYTES // max(1, sum(expanded)))), [group], chosen):
            yield from _decoded(batch)


def _dictionary_size(handle: IO[bytes], column: pq.ColumnChunkMetaData) -> int:
    """Bytes of the values that rows of ``column`` repeat by number; 0 if there is no such page.

    The page's header (parquet.thrift, `PageHeader`, in the compact protocol) begins with its kind and this size, each a
    byte 0x15 and a zigzag number of seven bits a byte.
    """
    starts = (column.dictionary_page_offset or 0, column.data_page_offset)
    handle.seek(min(start for start in starts if start > 0))
    fields, header = [], handle.read(16)
    at = 0
    while len(fields) < 2:
        if header[at : at + 1] != b"\x15":
            raise Damaged("the file is damaged")
        number, shift, at = 0, 0, at + 1
        while True:
            byte = header[at] if at < len(header) else 0
            number, shift, at = number | (byte & 0x7F) << shift, shift + 7, at + 1
            if byte < 0x80:
                break
        fields.append(number >> 1)
    kind, size = fields
    return size if kind == _DICTIONARY_PAGE else 0


def _is_text(kind: pa.DataType) -> bool:
    return kind in (pa.string(), pa.large_string(), pa.binary(), pa.large_binary())


def _decoded(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """``batch`` without dictionaries, in slices of about _BATCH_BYTES: a dictionary of one long text fills any number
    of rows.
    """
    sizes = np.zeros(len(batch), np.int64)
    for column in batch.columns:
        if isinstance(column, pa.DictionaryArray) and _is_text(column.type.value_type):
            lengths = pc.binary_length(column.dictionary).take(column.indices)
            sizes += lengths.fill_null(0).to_numpy(zero_copy_only=False)
    part = np.cumsum(sizes) // _BATCH_BYTES
    edges = [0, *(np.flatnonzero(np.diff(part)) + 1).tolist(), len(batch)]
    for start, end in pairwise(edges):
        piece = batch.slice(start, end - start)
        plain = [c.dictionary_decode() if isinstance(c, pa.DictionaryArray) else c for c in piece.columns]
        yield pa.RecordBatch.from_arrays(plain, piece.schema.names)


def _arrow_batches(handle: IO[bytes], wanted: set[str] | None, max_ratio: float) -> Iterator[pa.RecordBatch]:
    _to_first_message(handle)
    messages.check(handle, max_ratio)
    for batch in pa.ipc.open_stream(handle):
        chosen = batch if wanted is None else batch.select([name for name in batch.schema.names if name in wanted])
        for column in chosen.columns:
            _validate(column)
        step = _batch_rows(chosen.nbytes, len(chosen))
        for start in range(0, len(chosen), step):
            yield from _decoded(chosen.slice(start, step))


def _validate(column: pa.Array) -> None:
    """Raises ArrowInvalid where offsets or indices lead outside the data: pyarrow would follow them on reading.

    Texts are looked at as bytes: one that is not UTF-8 costs its row, not the file.
    """
    as_bytes = {pa.string(): pa.binary(), pa.large_string(): pa.large_binary()}
    column.view(as_bytes.get(column.type, column.type)).validate(full=True)


def _to_first_message(handle: IO[bytes]) -> None:
    """A file is a stream between a magic word, padded by zeros, and a footer.

    It is read as one, for what the footer points at need not be what stands there. The word at the end tells whether it
    is whole.
    """
    magic = handle.read(6)
    handle.seek(0)
    if magic != _MAGIC:
        return
    handle.seek(-len(_MAGIC), 2)
    if handle.read() != _MAGIC:
        raise pa.ArrowInvalid("the file has no end")
    handle.seek(8)
    while handle.read(8) == bytes(8):
        pass
    handle.seek(-8, 1)


def _batch_rows(size: int, rows: int) -> int:
    return max(1, min(10_000, _BATCH_BYTES * rows // max(size, 1)))


def _rows(batch: pa.RecordBatch) -> Iterator[dict[str, Any] | None]:
    """The rows of ``batch``; None for one that holds a text which is not UTF-8."""
    try:
        yield from batch.to_pylist()
    except UnicodeDecodeError:
        for index in range(len(batch)):
            try:
                row = batch.slice(index, 1).to_pylist()[0]
            except UnicodeDecodeError:
                row = None
            yield row
