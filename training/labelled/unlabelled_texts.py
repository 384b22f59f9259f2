"""Texts that have no label yet, from a file in any of the formats that have columns."""

from __future__ import annotations

from pathlib import Path

from pipeline.sources.base import value_of
from training.labelled import formats
from training.labelled.findings import Findings
from training.labelled.rows import WrongRows
from training.recipe.finetuning import LabelledFiles


def read(path: Path, column: str) -> tuple[list[tuple[str, str]], int]:
    """Where each text stands and the text, of the rows of ``path`` that have one in ``column``; how many have none.

    Raises WrongRows where the file cannot be read or none has.
    """
    data = LabelledFiles(train=str(path))
    findings = Findings()
    texts: list[tuple[str, str]] = []
    without = 0
    for given in formats.sets(data, "jsonl", findings).values():
        for record in (record for file in given.files for record in formats.read(given, file, data, findings)):
            text = value_of(record.values, column)
            if isinstance(text, str) and text.strip():
                texts.append((record.place, text))
            else:
                without += 1
    findings.refuse()
    if not texts:
        raise WrongRows(f"{path}: no row has a text in the column {column!r}; name it by --text")
    return texts, without
