"""Documents on disk: one Arrow IPC stream file a shard, read by memory map.

Stream format, because ``datasets.Dataset.from_file`` opens nothing else. A stream that loses its tail still parses,
so every file states its row count and is refused when it holds another number.
"""

from __future__ import annotations

import pyarrow as pa

from pipeline.store import files

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


class DamagedFile(ValueError):
    """An Arrow file of the build is unreadable or incomplete."""


def write_table(path: str, table: pa.Table, fingerprint: str) -> None:
    """Write ``table`` as one record batch under ``path``, naming what made it. Atomic."""
    metadata = {
        **(table.schema.metadata or {}),
        FINGERPRINT: fingerprint.encode(),
        ROWS: str(len(table)).encode(),
    }
    table = table.combine_chunks().replace_schema_metadata(metadata)
    with files.replacing(path) as handle, pa.ipc.new_stream(handle, table.schema) as writer:
        writer.write_table(table)


def read_table(path: str, columns: list[str] | None = None) -> pa.Table:
    """The table in ``path``: by memory map where the file is local (no copy), read whole otherwise.

    Raises FileNotFoundError, or DamagedFile naming the file and the remedy.
    """
    try:
        if files.is_local(path):
            with pa.memory_map(str(files.local(path))) as source:
                table = pa.ipc.open_stream(source).read_all()
        else:
            with files.opened(path) as handle:
                table = pa.ipc.open_stream(handle.read()).read_all()
    except (pa.ArrowInvalid, OSError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise DamagedFile(
            f"{path}: not a readable Arrow stream ({error}). Delete it and run the build again."
        ) from error
    stated = (table.schema.metadata or {}).get(ROWS)
    if stated is not None and int(stated) != len(table):
        raise DamagedFile(
            f"{path}: holds {len(table)} rows where {int(stated)} were written. Delete it and run the build again."
        )
    return table if columns is None else table.select(columns)


def read_fingerprint(path: str) -> str | None:
    """The fingerprint that ``path`` was written with; None if the file is absent or not ours."""
    try:
        with pa.OSFile(str(files.local(path))) if files.is_local(path) else files.opened(path) as handle:
            metadata = pa.ipc.open_stream(handle).schema.metadata or {}
    except (FileNotFoundError, pa.ArrowInvalid):
        return None
    value = metadata.get(FINGERPRINT)
    return value.decode() if value else None


def is_current(path: str, fingerprint: str) -> bool:
    """Whether ``path`` was made by exactly this: the only ground on which work is skipped."""
    return read_fingerprint(path) == fingerprint
