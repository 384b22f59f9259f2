"""Texts as others hold them, as Arrow arrays of bounded size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import MillError

#: Most bytes of text in a block, unless a single text is larger.
BLOCK = 64 << 20
#: Strings that are turned into one Arrow array at a time.
_STRINGS = 1 << 14

Texts = Iterable[str] | pa.Array | pa.ChunkedArray | pa.Table


def blocks(texts: Texts) -> Iterator[pa.Table]:
    """``texts`` as tables of at most BLOCK bytes of text, whose column ``text`` is of strings without nulls; one at
    least. The other columns of a table stay.

    Raises MillError, naming the place, for what is no text.
    """
    if isinstance(texts, str):
        raise MillError("a list of texts is needed, not one text: give [text]")
    if isinstance(texts, pa.Table):
        names: list[str] = texts.schema.names  # type: ignore[union-attr]
        if "text" not in names:
            raise MillError(f"the table has no column `text`; it has {', '.join(names) or 'none'}")
        given = iter([texts])
    elif isinstance(texts, pa.Array | pa.ChunkedArray):
        given = iter([pa.table({"text": texts})])
    else:
        given = _arrays(texts)
    first: pa.Table = next(given, pa.table({"text": pa.array([], pa.string())}))
    row = 0
    for table in chain([first], given):
        yield from _cut(_checked(table, row))
        row += table.num_rows


def _arrays(texts: Iterable[str]) -> Iterator[pa.Table]:
    """The strings, at most _STRINGS of them and about a block of text at a time."""
    block: list[str] = []
    size = 0
    for number, text in enumerate(texts):
        if not isinstance(text, str):
            raise MillError(f"text {number} is {type(text).__name__}, not a string; leave it out or give its text")
        block.append(text)
        size += len(text)
        if size >= BLOCK or len(block) >= _STRINGS:
            yield _table(block, number + 1 - len(block))
            block, size = [], 0
    if block:
        yield _table(block, number + 1 - len(block))


def _table(texts: list[str], first: int) -> pa.Table:
    try:
        return pa.table({"text": pa.array(texts, pa.large_string())})
    except UnicodeEncodeError as error:
        place = first + next(i for i, text in enumerate(texts) if text == error.object)
        raise MillError(f"text {place} holds half of a character (U+{ord(error.object[error.start]):04X})") from error


def _checked(table: pa.Table, row: int) -> pa.Table:
    column = table["text"]
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)):
        raise MillError(f"the column `text` holds {column.type}, not strings")
    if column.null_count:
        place = row + pc.index(column.is_null(), True).as_py()
        raise MillError(f"text {place} is null; leave it out or give an empty text")
    return table


def _cut(table: pa.Table) -> Iterator[pa.Table]:
    place = table.column_names.index("text")
    ends = np.cumsum(pc.binary_length(table["text"].cast(pa.large_string())).to_numpy())
    edges = [0]
    while edges[-1] < len(table):
        before = ends[edges[-1] - 1] if edges[-1] else 0
        edges.append(max(int(np.searchsorted(ends, before + BLOCK, "right")), edges[-1] + 1))
    for start, end in pairwise(edges if len(table) else [0, 0]):
        part = table.slice(start, end - start)
        yield part.set_column(place, "text", part["text"].cast(pa.string()).combine_chunks())
