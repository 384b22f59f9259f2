"""Documents on disk: one Arrow IPC stream file a shard, read by memory map.

Stream format, because ``datasets.Dataset.from_file`` opens nothing else. A stream that loses its tail still parses,
so every file states its row count and is refused when it holds another number.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.store import files, opens
from pipeline.store.files import DamagedFile

_REMEDY = "Delete it and run the build again."

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

#: By its path, what a file was made by, and what ``stat`` said of it then: each stage asks for the ledgers of all those
#: before it.
_made_by: dict[str, tuple[tuple[int, ...], str | None]] = {}
#: The most files that are kept in mind; some 60 MB.
_KEPT = 1 << 17
#: Bytes of a file's beginning that mostly hold its schema.
_HEAD = 4096
#: Bytes up to which a file is read whole, at once with its check; a larger one is mapped.
_SMALL = 1 << 16


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
    small = _is_small(path)
    if not small:
        files.check(path, _REMEDY)
    try:
        with files.finding(path):
            if small:
                table = pa.ipc.open_stream(files.read_whole(path, _REMEDY)).read_all()
            elif files.is_local(path):
                opens.counted["read"] += 1
                with pa.memory_map(str(files.local(path))) as source:
                    table = pa.ipc.open_stream(source).read_all()
            else:
                with files.opened(path) as handle:
                    table = pa.ipc.open_stream(handle.read()).read_all()
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise DamagedFile(f"{path}: not a readable Arrow stream ({error}). {_REMEDY}", path) from error
    stated = (table.schema.metadata or {}).get(ROWS)
    if stated is not None and int(stated) != len(table):
        raise DamagedFile(
            f"{path}: holds {len(table)} rows where {int(stated)} were written. {_REMEDY}",
            path,
        )
    return table if columns is None else table.select(columns)


def _is_small(path: str) -> bool:
    name = files.own_name(path)
    try:
        return name is not None and os.stat(name).st_size <= _SMALL  # noqa: PTH116
    except FileNotFoundError:
        return False


def read_metadata(path: str) -> dict[bytes, bytes] | None:
    """What the schema of ``path`` says beside its fields; None if the file is absent or not Arrow. Reads no rows."""
    return _metadata(path, files.own_name(path))


def _metadata(path: str, name: str | None) -> dict[bytes, bytes] | None:
    """``name``: that of ``path`` as ``files.own_name`` gives it."""
    opens.counted["head"] += name is not None or files.is_local(path)
    try:
        head = _head(name) if name is not None else files.head(path) if files.is_mirrored(path) else None
        if head is not None:
            with contextlib.suppress(pa.ArrowException):  # longer than the head, or not Arrow
                return pa.ipc.read_schema(pa.py_buffer(head)).metadata or {}
        with pa.OSFile(str(files.local(path))) if files.is_local(path) else files.opened(path) as handle:
            return pa.ipc.open_stream(handle).schema.metadata or {}
    except (FileNotFoundError, pa.ArrowException):
        return None
    except OSError as error:
        if error.errno is not None:  # the system's; Arrow's, of a damaged head, have none
            raise
        return None


def _head(name: str) -> bytes:
    with open(name, "rb", buffering=0) as handle:  # noqa: PTH123
        return handle.read(_HEAD)


def read_fingerprint(path: str) -> str | None:
    """The fingerprint that ``path`` was written with; None if the file is absent or not ours.

    A file that has not changed since it was last asked for, by inode, size and time, is not opened again.
    """
    if (name := files.own_name(path)) is None:
        return _fingerprint(_metadata(path, name))
    try:
        status = os.stat(name)  # noqa: PTH116
    except FileNotFoundError:
        opens.counted["head"] += 1  # in a store it would be a request
        return None
    stamp = status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
    known = _made_by.get(path)
    if known is None or known[0] != stamp:
        if len(_made_by) >= _KEPT:
            _made_by.clear()
        known = _made_by[path] = stamp, _fingerprint(_metadata(path, name))
    return known[1]


def _fingerprint(metadata: dict[bytes, bytes] | None) -> str | None:
    value = (metadata or {}).get(FINGERPRINT)
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
