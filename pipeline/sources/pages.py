"""What the pages of a Parquet column state, read before anything is read or decompressed.

pyarrow allocates what a page's header states, and a damaged one may state gigabytes. Headers are thrift structs in the
compact protocol (parquet.thrift, `PageHeader`): https://github.com/apache/parquet-format.
"""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, NamedTuple

from pipeline.sources import thrift
from pipeline.sources.reading import EXPANDS, FREE, Damaged

if TYPE_CHECKING:
    import pyarrow.parquet as pq

DICTIONARY = 2
_KINDS = range(4)
#: Bytes read at first for a header, and the most that one may have (it may hold long values as its statistics).
_HEADER, _LARGEST = 256, 1 << 24
#: Writers before parquet-mr 1.2.9 leave this many bytes out of the size of a column (PARQUET-816).
_MISSING = 100


class Page(NamedTuple):
    """``expanded`` and ``stored`` are the sizes of its content in bytes, ``values`` how many it holds."""

    kind: int
    expanded: int
    stored: int
    values: int


def check(handle: IO[bytes], column: pq.ColumnChunkMetaData, max_ratio: float) -> int:
    """Bytes of the values that rows of ``column`` repeat by number, its dictionary; 0 if it has none.

    Raises Damaged for pages that lie beyond the column, hold more values than it, or expand beyond ``max_ratio``.
    """
    dictionary = values = 0
    at = start(column)
    end = at + column.total_compressed_size + _MISSING
    while values < column.num_values:
        page, at = _page(handle, at)
        at += page.stored
        if page.kind not in _KINDS or min(page) < 0 or at > end:
            raise Damaged("the file is damaged")
        if page.expanded > FREE + max_ratio * page.stored:
            raise Damaged(EXPANDS)
        if page.kind == DICTIONARY:
            dictionary = max(dictionary, page.expanded)
        else:
            values += page.values
    if values > column.num_values:
        raise Damaged("the file is damaged")
    return dictionary


def start(column: pq.ColumnChunkMetaData) -> int:
    """Where the first page of ``column`` begins."""
    starts = (column.dictionary_page_offset or 0, column.data_page_offset)
    return min(start for start in starts if start > 0)


def _page(handle: IO[bytes], at: int) -> tuple[Page, int]:
    """The page whose header begins at ``at``, and where its content begins."""
    size = _HEADER
    while True:
        handle.seek(at)
        header = handle.read(size)
        try:
            fields, length = thrift.struct(header, 0)
        except IndexError:
            if len(header) < size or size >= _LARGEST:
                raise Damaged("the file is damaged") from None
            size <<= 4
            continue
        about = next((fields[number] for number in (5, 7, 8) if isinstance(fields.get(number), dict)), {})
        stated = [fields.get(number) for number in (1, 2, 3)]
        if not all(isinstance(number, int) for number in stated):
            raise Damaged("the file is damaged")
        values = about.get(1, 0)
        return Page(*stated, values if isinstance(values, int) else -1), at + length  # type: ignore[arg-type]
