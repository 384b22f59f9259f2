"""What a kind of labelled rows is: the columns that training goes by, how a row is checked, how labels are counted."""

from __future__ import annotations

import abc
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import pyarrow as pa
from tokenizers import Encoding, Tokenizer

from pipeline.sources.base import kind_of, value_of
from training.labelled.findings import Findings
from training.labelled.formats import Record
from training.labelled.rows import WrongRows
from training.recipe.finetuning import FinetuneConfig, Format

MISSING = object()
#: The name under which ``Kind.values`` gives the ``doubt`` of a row.
DOUBT = "doubt"


class Names(NamedTuple):
    """The columns of a file that rows are made of; ``pair`` is that of the context where there are questions."""

    text: str
    pair: str | None
    label: str

    def named(self) -> dict[str, str]:
        """Options of the recipe with the columns they name."""
        pair = {} if self.pair is None else {"pair": self.pair}
        return {"text": self.text, **pair, "label": self.label}


@dataclass(frozen=True)
class Row:
    """``key`` decides the split; ``values`` are the columns of the kind; ``hidden`` are words to cut.

    ``doubt`` is place and fault of what is one only if other rows make it one, for ``compared``.
    """

    place: str
    name: str
    own: str | None
    key: str
    values: dict[str, Any]
    hidden: frozenset[str] = field(default_factory=frozenset)
    doubt: tuple[str, str] | None = None


class Kind(abc.ABC):
    """One kind of labelled rows. A subclass says of a row's label what ``labelled`` makes of it, and little else.

    ``name`` is a part of the rows' fingerprint. ``columns`` are those that training goes by, ``label`` the one of them
    that is predicted. A second text may stand in ``pair`` where ``pairs`` says so. ``empty`` tells whether an empty
    label is one, ``json`` which format a file .json has. ``fewest`` is how many classes the training rows need; None
    where labels are no classes. ``cut`` tells whether a model reads only the beginning of rows that are too long for
    it.
    """

    name: ClassVar[str]
    columns: ClassVar[Mapping[str, pa.DataType]]
    label: ClassVar[str]
    pairs: ClassVar[bool] = False
    empty: ClassVar[bool] = False
    json: ClassVar[Format] = "jsonl"
    fewest: ClassVar[int | None] = None
    cut: ClassVar[bool] = True

    @abc.abstractmethod
    def labelled(
        self,
        config: FinetuneConfig,
        at: Names,
        record: Record,
        label: Any,
        texts: Mapping[str, str],
        findings: Findings,
    ) -> dict[str, Any] | None:
        """The columns beside ``texts`` that ``label`` gives; None where a fault went to ``findings``."""

    def check(self, config: FinetuneConfig) -> None:
        """Raise WrongRows where ``config`` does not go with rows of this kind."""
        if config.hide and "text" not in self.columns:
            raise WrongRows(f"finetune {config.name!r}: words cannot be hidden from {config.task}; leave out `hide`")
        if config.pair is None and "pair" in self.columns:
            raise WrongRows(
                f"finetune {config.name!r}: {config.task} is of two texts; name the second's column in `pair`"
            )

    def names(self, config: FinetuneConfig, _format: Format, /) -> Names:
        """Where the recipe leaves them at their defaults the columns that files of a format have."""
        return Names(config.text, config.pair, config.label)

    def texts(self, at: Names) -> dict[str, str]:
        """Columns that must hold a text, with the columns of the file that they are read from."""
        return {"text": at.text} | ({} if at.pair is None else {"pair": at.pair})

    def values(self, config: FinetuneConfig, at: Names, record: Record, findings: Findings) -> dict[str, Any] | None:
        """The columns of this kind, from one row; None where a fault or a row passed over went to ``findings``."""
        label = value_of(record.values, at.label, MISSING)
        if label is MISSING or label is None or (label == "" and not self.empty):
            findings.pass_over(f"rows without a value in {at.label!r}", record.place)
            return None
        texts = self.texts(at)
        made: dict[str, Any] = {}
        for name, column in texts.items():
            text = value_of(record.values, column, MISSING)
            if isinstance(text, str) and text.strip():
                made[name] = text
                continue
            what = "is empty" if isinstance(text, str) or text in (None, MISSING) else f"is {kind_of(text)}, not a text"
            findings.fault(f"text {column}", record.place, f"{column!r} {what}; correct the row, or leave it out")
        if len(made) < len(texts):
            return None
        labelled = self.labelled(config, at, record, label, made, findings)
        return None if labelled is None else made | labelled

    def compared(self, _rows: Sequence[Row], _found: Findings, /) -> None:  # noqa: B027
        """Report the faults that only all rows together show, before they are split; none by default."""

    def settled(self, split: dict[str, list[Row]], _found: Findings, /) -> dict[str, list[Row]]:
        """The rows of all sets as they are trained on: what only all of them together show goes to ``findings``."""
        return split

    def types(self, config: FinetuneConfig) -> dict[str, pa.DataType]:
        """The columns of a table of such rows."""
        pair = {"pair": pa.string()} if self.pairs and config.pair is not None else {}
        return {**self.columns, **pair}

    def key(self, row: Mapping[str, Any]) -> str:
        """What rows have in common that must stay on one side of a split; of pairs the first text."""
        return row["text"]

    def shown(self, row: Mapping[str, Any]) -> str:
        """All that a row says but its label, as one text: equal for rows that differ in their label alone."""
        pair = row.get("pair")
        return row["text"] if pair is None else f"{row['text']}\n{pair}"

    def classes(self, label: Any) -> list[str]:
        """The classes that the label of a row names."""
        return [label]

    def labels(self, classes: Iterable[str]) -> list[str]:
        """What a model tells apart, where the rows name ``classes``; in sorted order."""
        return sorted(classes)

    def labels_of(self, rows: Iterable[Any]) -> list[str]:
        """What a model tells apart, where ``rows`` are the labels of all rows."""
        return self.labels({name for row in rows for name in self.classes(row)})

    def counts(self, table: pa.Table) -> dict[str, Any] | None:
        """What the audit says of the labels of a set: of classes, the rows of each. None where nothing is counted."""
        return dict(
            sorted(Counter(name for row in table[self.label].to_pylist() for name in self.classes(row)).items())
        )

    def encode(self, table: pa.Table, tokenizer: Tokenizer) -> list[Encoding]:
        """The rows of ``table`` as ``tokenizer`` reads them."""
        parts = [table[name].to_pylist() for name in ("text", "pair") if name in table.column_names]
        return tokenizer.encode_batch(parts[0] if len(parts) == 1 else list(zip(*parts, strict=True)))

    def not_expressible(self, _table: pa.Table, _encoded: Sequence[Encoding], /) -> tuple[list[str], int] | None:
        """Labels that pieces of words cannot express, each with its place, and of how many; None where all can be."""
        return None
