"""Parquet, and Arrow IPC files and streams (.arrow, .feather): one document a row, read batch by batch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.sources.base import Document, File, FileConfig, Ids, RecordConfig, Rejected, find_files, to_document
from pipeline.sources.reading import identity as identity
from pipeline.sources.reading import open_raw

VERSION = 1
_BATCH_BYTES = 16 << 20


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
            for batch in batches(handle, columns(config)):
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


def columns(config: RecordConfig) -> set[str] | None:
    """Names of the columns to read; None for all."""
    if config.metadata_fields is None:
        return None
    named = (config.text_field, config.id_field, config.url_field, config.domain_field, *config.metadata_fields)
    return {name for name in named if name is not None}


def _parquet_batches(handle: IO[bytes], wanted: set[str] | None) -> Iterator[pa.RecordBatch]:
    table = pq.ParquetFile(handle, buffer_size=1 << 20, pre_buffer=False)
    chosen = [name for name in table.schema_arrow.names if wanted is None or name in wanted]
    for group in range(table.metadata.num_row_groups):
        about = table.metadata.row_group(group)
        yield from table.iter_batches(_batch_rows(about.total_byte_size, about.num_rows), [group], chosen)


def _arrow_batches(handle: IO[bytes], wanted: set[str] | None) -> Iterator[pa.RecordBatch]:
    for batch in _arrow_reader(handle):
        chosen = batch if wanted is None else batch.select([name for name in batch.schema.names if name in wanted])
        step = _batch_rows(chosen.nbytes, len(chosen))
        yield from (chosen.slice(start, step) for start in range(0, len(chosen), step))


def _arrow_reader(handle: IO[bytes]) -> Iterator[pa.RecordBatch]:
    magic = handle.read(6)
    handle.seek(0)
    if magic != b"ARROW1":
        yield from pa.ipc.open_stream(handle)
        return
    reader = pa.ipc.open_file(handle)
    for index in range(reader.num_record_batches):
        yield reader.get_batch(index)


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
