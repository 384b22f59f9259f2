"""Texts that have no label yet, from a file in any of the formats that have columns."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from pipeline.sources.base import value_of
from training.labelled import formats
from training.labelled.findings import Findings
from training.labelled.rows import WrongRows
from training.recipe.finetuning import LabelledFiles


class Unlabelled(NamedTuple):
    """Where a text stands, the text, and the second one where a row is a pair."""

    place: str
    text: str
    pair: str | None


def read(path: Path, column: str, pair: str | None = None) -> tuple[list[Unlabelled], int]:
    """The rows of ``path`` that have a text in ``column``, and in ``pair`` where that is given; how many have not.

    Raises WrongRows where the file cannot be read or no row has.
    """
    data = LabelledFiles(train=str(path))
    findings = Findings()
    texts: list[Unlabelled] = []
    without = 0
    for given in formats.sets(data, "jsonl", findings).values():
        for record in (record for file in given.files for record in formats.read(given, file, data, findings)):
            text = value_of(record.values, column)
            second = None if pair is None else value_of(record.values, pair)
            if _is_text(text) and (pair is None or _is_text(second)):
                texts.append(Unlabelled(record.place, text, second))
            else:
                without += 1
    findings.refuse()
    if not texts:
        named = f"{column!r}" if pair is None else f"{column!r} and in {pair!r}"
        options = "--text" if pair is None else "--text and --pair"
        raise WrongRows(f"{path}: no row has a text in the column {named}; name it by {options}")
    return texts, without


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())
