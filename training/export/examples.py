"""The rows that an exported model is checked on: the test rows of the model itself, or those of a file."""

from __future__ import annotations

import pyarrow as pa

from pipeline import MillError
from pipeline.sources.base import Rejected
from pipeline.store import files
from training.export.check import COMPARED, Examples
from training.labelled import files as labelled_files
from training.labelled.rows import WrongRows
from training.prediction import reading
from training.prediction.model import Model
from training.prediction.rows import Row, row_of, words_of
from training.recipe.finetuning import FinetuneConfig


class NoExamples(MillError):
    """There are no rows to check an exported model on; the message says how to give some."""


def held_out(folder: str) -> Examples:
    """The test rows that the model in ``folder`` was judged by. Raises NoExamples where they are not there."""
    path = files.join(folder, "summary.json")
    summary = files.read_json(path) if files.exists(path) else {}
    if summary.get("kind") != "finetune" or "data" not in summary.get("config", {}):
        raise NoExamples(
            f"{folder}: it does not say which files its test rows are in; name a file of texts to check the export on,"
            " by --texts FILE"
        )
    config = FinetuneConfig.model_validate(summary["config"])
    assert config.data is not None
    try:
        rows = labelled_files.load(config, summary["seed"])
    except MillError as error:
        raise NoExamples(
            f"{error}\n(the rows that {folder} was tested on; others can be given by --texts FILE)"
        ) from error
    return Examples(rows.test, f"test rows of {config.data.train}")


def of_file(model: Model, path: str) -> Examples:
    """The first rows of a file: a text in each line of a .txt, or columns as in the model's training.

    Raises NoExamples where there is none; WrongRows, and rows.WrongRow, for rows that the model cannot be asked with.
    """
    rows: list[Row] = []
    if path.lower().endswith(".txt"):
        with files.opened(path) as handle:
            lines = handle.read().decode("utf-8", "replace").splitlines()
        rows = [row_of(model.usage, {model.usage.text: line}) for line in lines if line.strip()][:COMPARED]
    else:
        for source in reading.sources(path, json=reading.json_of(model.usage.task)):
            for record in reading.rows(source):
                if isinstance(record, Rejected):
                    raise WrongRows(f"{path}, record {record.record}: {record.reason}; correct it")
                rows.append(row_of(model.usage, record.values))
                if len(rows) == COMPARED:
                    break
    if not rows:
        raise NoExamples(f"{path}: there is no text in it; name another file")
    return Examples(_table(model.usage.task, rows), f"rows of {path}")


def _table(task: str, rows: list[Row]) -> pa.Table:
    """``rows`` with the columns that the task encodes."""
    match task:
        case "tokens":
            return pa.table({"words": [words_of(row)[0] for row in rows]})
        case "answers":
            return pa.table({"question": [row.text for row in rows], "context": [row.pair for row in rows]})
        case "similarity":
            return pa.table({"text": [row.text for row in rows]})
        case _:
            pairs = {} if rows[0].pair is None else {"pair": [row.pair for row in rows]}
            return pa.table({"text": [row.text for row in rows], **pairs})
