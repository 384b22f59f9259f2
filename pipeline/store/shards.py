"""Documents on disk: one Arrow IPC stream file a shard, read by memory map.

Stream format, because ``datasets.Dataset.from_file`` opens nothing else. A stream that loses its tail still parses,
so every file states its row count and is refused when it holds another number.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.store import files, opens
from pipeline.store.files import DamagedFile

DOCUMENT_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("domain", pa.string(), nullable=False),
        pa.field("url", pa.string()),
        pa.field("metadata", pa.string()),  # a JSON object, as text
    ]
)

FINGERPRINT = b"corpusmill.fingerprint"
ROWS = b"corpusmill.rows"
TEXT_BYTES = b"corpusmill.text_bytes"
BATCHES = b"corpusmill.batches"


def write_table(path: str, table: pa.Table, fingerprint: str) -> None:
    """Write ``table`` as one record batch under ``path``, naming what made it, its rows and, where it has a string
    column ``text``, the bytes of that. Atomic.
    """
    metadata = {
        **(table.schema.metadata or {}),
        FINGERPRINT: fingerprint.encode(),
        ROWS: str(len(table)).encode(),
    }
    if "text" in table.column_names and pa.types.is_string(table.schema.field("text").type):
        metadata[TEXT_BYTES] = str(pc.sum(pc.binary_length(table["text"]).cast(pa.int64())).as_py() or 0).encode()
    table = table.combine_chunks().replace_schema_metadata(metadata)
    with files.replacing(path) as handle, pa.ipc.new_stream(handle, table.schema) as writer:
        writer.write_table(table)


def write_batches(path: str, tables: Iterable[pa.Table], rows: Sequence[int], fingerprint: str) -> None:
    """Write ``tables``, of the same columns and with ``rows`` rows, as one record batch each. Atomic.

    ``read_batches`` gives them back. One table is in memory at a time.
    """
    metadata = {
        FINGERPRINT: fingerprint.encode(),
        ROWS: str(sum(rows)).encode(),
        BATCHES: ",".join(map(str, rows)).encode(),
    }
    with contextlib.ExitStack() as stack:
        handle = stack.enter_context(files.replacing(path))
        writer, writer_schema = None, None
        for table in tables:
            if writer is None:
                writer_schema = table.schema.with_metadata(metadata)
                writer = stack.enter_context(pa.ipc.new_stream(handle, writer_schema))
            writer.write_table(pa.Table.from_arrays(table.combine_chunks().columns, schema=writer_schema))


def read_batches(path: str) -> list[pa.Table]:
    """The tables of a file that ``write_batches`` wrote; no copy where the file is local."""
    table = read_table(path)
    first, tables = 0, []
    for rows in map(int, table.schema.metadata[BATCHES].split(b",")):
        tables.append(table.slice(first, rows))
        first += rows
    return tables


def read_rows(path: str) -> int:
    """The rows of ``path``, which is there, without reading them."""
    return int((read_metadata(path) or {})[ROWS])


def read_table(path: str, columns: list[str] | None = None) -> pa.Table:
    """The table in ``path``: by memory map where the file is local (no copy), read whole otherwise.

    Raises LostFile, or DamagedFile, naming the file and the remedy.
    """
    files.check(path, "Delete it and run the build again.")
    try:
        with files.finding(path):
            if files.is_local(path):
                opens.counted["read"] += 1
                with pa.memory_map(str(files.local(path))) as source:
                    table = pa.ipc.open_stream(source).read_all()
            else:
                with files.opened(path) as handle:
                    table = pa.ipc.open_stream(handle.read()).read_all()
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise DamagedFile(
            f"{path}: not a readable Arrow stream ({error}). Delete it and run the build again.", path
        ) from error
    stated = (table.schema.metadata or {}).get(ROWS)
    if stated is not None and int(stated) != len(table):
        raise DamagedFile(
            f"{path}: holds {len(table)} rows where {int(stated)} were written. Delete it and run the build again.",
            path,
        )
    return table if columns is None else table.select(columns)


def read_metadata(path: str) -> dict[bytes, bytes] | None:
    """What the schema of ``path`` says beside its fields; None if the file is absent or not Arrow. Reads no rows."""
    opens.counted["head"] += files.is_local(path)
    if files.is_mirrored(path) and (head := files.head(path)) is not None:
        with contextlib.suppress(pa.ArrowException):  # longer than the head
            return pa.ipc.open_stream(head).schema.metadata or {}
    try:
        with pa.OSFile(str(files.local(path))) if files.is_local(path) else files.opened(path) as handle:
            return pa.ipc.open_stream(handle).schema.metadata or {}
    except (FileNotFoundError, pa.ArrowException):
        return None
    except OSError as error:
        if error.errno is not None:  # the system's; Arrow's, of a damaged head, have none
            raise
        return None


def read_fingerprint(path: str) -> str | None:
    """The fingerprint that ``path`` was written with; None if the file is absent or not ours."""
    value = (read_metadata(path) or {}).get(FINGERPRINT)
    return value.decode() if value else None


def read_size(path: str) -> tuple[int, int]:
    """``(documents, bytes of text)`` of a file of documents, without reading these. Raises LostFile or, for a file that
    does not say, DamagedFile.
    """
    metadata = read_metadata(path)
    if metadata is None and not files.exists(path):
        raise files.LostFile(f"{path}: not there. Run the build again, which makes what is missing.", path)
    if metadata is None or not {ROWS, TEXT_BYTES} <= metadata.keys():
        raise DamagedFile(f"{path}: does not say how many documents it holds. Delete it and run the build again.", path)
    return int(metadata[ROWS]), int(metadata[TEXT_BYTES])


def is_current(path: str, fingerprint: str) -> bool:
    """Whether ``path`` was made by exactly this: the only ground on which work is skipped."""
    return files.current(read_fingerprint(path) == fingerprint)
