"""Rows in, rows with predictions out, in the same order and in bounded memory; bad rows go to quarantine."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.curation.recipe import Recipe
from pipeline.sources import quarantine
from pipeline.sources.base import Fields, Rejected, dump_json, excerpt
from pipeline.sources.quarantine import Account, ErrorBudgetExceeded
from pipeline.store import files
from training.labelled.rows import WrongRows
from training.prediction import reading
from training.prediction.model import Model
from training.prediction.reading import Source
from training.prediction.rows import Row, WrongRow, row_of
from training.prediction.writing import Writer

#: As recipes have it.
ERROR_BUDGET: float = Recipe.model_fields["error_budget"].default
_NO_COLUMN = "no column"
_ROWS = 256  # that are written together


@dataclass
class Outcome:
    """How many rows have a prediction, how many of these the model did not read to the end, and which have none."""

    rows: int = 0
    cut: int = 0
    account: Account = field(default_factory=lambda: Account("predict"))

    @property
    def quarantined(self) -> int:
        return self.account.report["quarantined"]

    def bad(self) -> list[str]:
        """The most frequent faults with the first row of each, in words."""
        return quarantine.examples(self.account.report)

    def check(self, budget: float) -> None:
        """Raise ErrorBudgetExceeded where more rows than the share ``budget`` were bad."""
        records = self.rows + self.quarantined
        if self.quarantined > budget * records:
            raise ErrorBudgetExceeded(
                f"{self.quarantined:,} of {records:,} rows are bad ({self.quarantined / records:.2%}), more than the"
                f" error budget of {budget:.2%}:\n  "
                + "\n  ".join(self.bad())
                + "\nCorrect the rows, name other columns, or raise --error-budget."
            )


def predict(model: Model, sources: Iterable[Source], out: Writer) -> Outcome:
    """Write each row of ``sources`` with its prediction to ``out``, which is closed.

    Raises WrongRows where a file cannot be read to its end, or a table lacks a column that the model needs.
    """
    outcome = Outcome()
    batch: list[tuple[Mapping[str, Any], Mapping[str, Any]]] = []
    for values, prediction in predicted(model, sources, outcome):
        batch.append((values, prediction))
        if len(batch) == _ROWS:
            out.write(batch)
            batch = []
    if batch:
        out.write(batch)
    out.close()
    return outcome


def predicted(
    model: Model, sources: Iterable[Source], outcome: Outcome
) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """The values of each good row with the columns of its prediction; the others are counted in ``outcome``."""
    waiting: deque[Mapping[str, Any]] = deque()

    def rows() -> Iterator[Row]:
        for source in sources:
            first = source.format != "jsonl"  # all rows of a table have the same columns
            for record in reading.rows(source):
                if isinstance(record, Rejected):
                    outcome.account.add(record)
                    continue
                try:
                    row = row_of(model.usage, record.values)
                except WrongRow as error:
                    if first and error.kind == _NO_COLUMN:
                        raise WrongRows(f"{source.name}: {error}; {_remedy(record)}") from error
                    outcome.account.add(_rejected(source, record, error))
                    continue
                finally:
                    first = False
                outcome.cut += model.is_cut(row)
                waiting.append(record.values)
                yield row

    for prediction in model.stream(rows()):
        outcome.rows += 1
        yield waiting.popleft(), prediction.fields()


def _rejected(source: Source, record: Fields, error: WrongRow) -> Rejected:
    shown = excerpt(dump_json(record.values))
    remedy = _remedy(record) if error.kind == _NO_COLUMN else ""
    return Rejected(source.name, record.record, record.offset, str(error), shown, remedy=remedy)


def _remedy(record: Fields) -> str:
    columns = ", ".join(list(map(str, record.values))[:30])
    return f"there is {columns or 'none'}; name the column by --text-column or --pair-column"


def write_quarantine(path: str, outcome: Outcome) -> None:
    """The bad rows as JSON lines: file, row, reason, excerpt. An earlier file goes where there are none."""
    if not outcome.quarantined:
        if files.exists(path):
            files.remove(path)
        return
    kept = outcome.account.table().to_pylist()
    with files.replacing(path, summed=False) as handle:
        for row in kept:
            said = {"file": row["file"], "row": row["record"], "reason": row["reason"], "excerpt": row["excerpt"]}
            handle.write(dump_json(said).encode() + b"\n")
