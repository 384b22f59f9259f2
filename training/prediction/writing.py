"""Files of predictions: the columns of the input, and what the model says beside them, as JSON lines, CSV or Parquet.

A column of the input keeps its name; where ours has it too, ours is called ``predicted_`` and its name.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import MillError
from pipeline.sources.base import dump_json
from training.prediction.reading import Format, format_of

PREFIX = "predicted_"
_TYPES = {
    **dict.fromkeys(("label", "answer", "output"), pa.string()),
    **dict.fromkeys(("set", "labels", "tags"), pa.list_(pa.string())),
    **dict.fromkeys(("score", "cosine"), pa.float64()),
    **dict.fromkeys(("start", "end"), pa.int64()),
    "vector": pa.list_(pa.float32()),
    "spans": pa.list_(
        pa.struct(
            [
                *[("label", pa.string()), ("text", pa.string()), ("start", pa.int64())],
                *[("end", pa.int64()), ("score", pa.float64())],
            ]
        )
    ),
}


class WrongOutput(MillError):
    """A file that predictions cannot be written to; the message says what to do."""


class Writer(Protocol):
    """Takes rows with their predictions, in lists; ``close`` ends the file."""

    def write(self, rows: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> None: ...

    def close(self) -> None: ...


def check(path: str) -> Format:
    """The format of the output ``path`` by its ending. Raises WrongOutput where it says none that is written."""
    ending = Path(path).suffix.lower()
    if ending not in (".jsonl", ".ndjson", ".csv", ".tsv", ".tab", ".parquet"):
        raise WrongOutput(f"--output {path}: predictions are written as .jsonl, .csv, .tsv or .parquet; name it so")
    return format_of(path)


def writer(handle: IO[bytes], kind: Format) -> Writer:
    if kind == "parquet":
        return _Parquet(handle)
    return _Table(handle, "\t" if kind == "tsv" else ",") if kind in ("csv", "tsv") else Lines(handle)


def merged(values: Mapping[str, Any], prediction: Mapping[str, Any]) -> dict[str, Any]:
    """One row: ``values`` of the input, and what was ``prediction``."""
    made = dict(values)
    for name, value in prediction.items():
        while name in made:
            name = PREFIX + name
        made[name] = value
    return made


class Lines:
    """JSON lines."""

    def __init__(self, handle: IO[bytes]) -> None:
        self._handle = handle

    def write(self, rows: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> None:
        self._handle.write(b"".join(dump_json(merged(*row)).encode() + b"\n" for row in rows))
        self._handle.flush()

    def close(self) -> None:
        """Nothing is left to write."""


class _Columns:
    """The names of the columns of a table, by the first rows; later rows may lack some, and have no others."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self._given: set[str] = set()
        self._ours: dict[str, str] = {}

    def of(self, rows: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> Iterator[dict[str, Any]]:
        if not self.names:
            given = list(dict.fromkeys(name for values, _ in rows for name in values))
            self._given = set(given)
            for name in rows[0][1]:
                free = name
                while free in self._given:
                    free = PREFIX + free
                self._ours[name] = free
            self.names = [*given, *self._ours.values()]
        for values, prediction in rows:
            if more := [name for name in values if name not in self._given]:
                raise WrongOutput(
                    f"a later row has the column {more[0]!r}, which the first rows have not; write --output to a .jsonl"
                    " file"
                )
            yield {**values, **{self._ours[name]: value for name, value in prediction.items()}}

    def is_ours(self, name: str) -> str | None:
        """What the prediction calls the column ``name``; None for one of the input."""
        return next((own for own, free in self._ours.items() if free == name), None)


class _Table:
    """CSV and TSV; values that are no text or number are written as JSON."""

    def __init__(self, handle: IO[bytes], delimiter: str) -> None:
        self._handle, self._delimiter = handle, delimiter
        self._columns = _Columns()

    def write(self, rows: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> None:
        text = io.StringIO()
        first = not self._columns.names
        made = list(self._columns.of(rows))
        table = csv.writer(text, delimiter=self._delimiter, lineterminator="\n")
        if first:
            table.writerow(self._columns.names)
        table.writerows([_cell(row.get(name)) for name in self._columns.names] for row in made)
        self._handle.write(text.getvalue().encode())

    def close(self) -> None:
        """Nothing is left to write."""


def _cell(value: Any) -> Any:
    return "" if value is None else value if isinstance(value, str) else dump_json(value)


class _Parquet:
    """Parquet; values of the input that are lists or objects are written as JSON texts."""

    def __init__(self, handle: IO[bytes]) -> None:
        self._handle = handle
        self._columns = _Columns()
        self._writer: pq.ParquetWriter | None = None
        self._schema = pa.schema([])

    def write(self, rows: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> None:
        made = [{**row} for row in self._columns.of(rows)]
        for row in made:
            for name, value in row.items():
                if isinstance(value, list | dict) and self._columns.is_ours(name) is None:
                    row[name] = dump_json(value)
        arrays = {name: self._array(name, made) for name in self._columns.names}
        out = self._writer
        if out is None:
            kinds = {name: pa.string() if array.type == pa.null() else array.type for name, array in arrays.items()}
            self._schema = pa.schema(list(kinds.items()))
            out = self._writer = pq.ParquetWriter(self._handle, self._schema)
        fitted = [_fitted(name, array, self._schema.field(name).type) for name, array in arrays.items()]
        out.write_table(pa.Table.from_arrays(fitted, schema=self._schema))

    def _array(self, name: str, rows: Sequence[Mapping[str, Any]]) -> pa.Array:
        values = [row.get(name) for row in rows]
        if (own := self._columns.is_ours(name)) in _TYPES:
            return pa.array(values, _TYPES[own])
        try:
            return pa.array(values)
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
            raise WrongOutput(
                f"the column {name!r} holds values of several types ({error}); write --output to a .jsonl file"
            ) from error

    def close(self) -> None:
        out = pq.ParquetWriter(self._handle, self._schema) if self._writer is None else self._writer
        out.close()


def _fitted(name: str, array: pa.Array, kind: pa.DataType) -> pa.Array:
    """``array`` as ``kind``, which the first rows have: numbers where nothing is lost, and nulls."""
    numbers = all(pa.types.is_integer(each) or pa.types.is_floating(each) for each in (array.type, kind))
    if array.type in (kind, pa.null()) or numbers:
        try:
            return array.cast(kind)
        except pa.ArrowInvalid:
            pass
    raise WrongOutput(
        f"the column {name!r} of a later row does not have the type of the first rows, {kind}, but {array.type}; write"
        " --output to a .jsonl file"
    )
