"""Tables as text: what stands between the values of a row, and that no two columns have one name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from pipeline.sources import csv
from pipeline.sources.base import File
from training.labelled.rows import WrongRows

#: Between the values of a CSV, the first of those by which its first row has most columns: spreadsheets write
#: semicolons where the comma is the decimal mark.
DELIMITERS = (",", ";", "\t", "|")


def table(name: str, file: File, *, tabs: bool, columns: Sequence[str] | None = None) -> csv.Csv:
    """How ``file`` is read: with ``tabs`` as TSV; else as CSV, by commas or, where they make one column, by another.

    Raises WrongRows where two columns have one name, Damaged where the first row cannot be read.
    """
    config = csv.Csv(name=name, path=[file.path], columns=None if columns is None else list(columns))
    if tabs:
        config = config.model_copy(update={"delimiter": "\t", "quote": None})
    names = csv.column_names(config, file)
    if not tabs and columns is None and len(names) == 1:
        tried = [config.model_copy(update={"delimiter": mark}) for mark in DELIMITERS]
        config = max(tried, key=lambda one: len(csv.column_names(one, file)))
        names = csv.column_names(config, file)
    for column, times in Counter(names).items():
        if times > 1:
            raise WrongRows(f"{file.path}: {times} columns are called {column!r}; give each a name of its own")
    return config
