"""The user's own rules: named conditions over the signals of all stages before, from ``urls`` to ``pii``.

``expressions`` says what a condition may hold and what nulls do. One that compares a number with a constant by
``<`` or ``>`` is judged like any rule, with value and threshold in the ledger; for any other the value is 1 where it
holds. Either way the signal is named by the expression itself, so that `mill why` shows what was asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import AfterValidator, ConfigDict, Field, RootModel

from pipeline.build.stage import Batch, Measured, Stage
from pipeline.stages.rules import expressions
from pipeline.stages.rules.expressions import Limit
from pipeline.store.ledger import Rule

VERSION = 1
#: What every document has: its columns, and the size of its text as it reaches this stage.
OF_DOCUMENTS: dict[str, pa.DataType] = {
    **dict.fromkeys(("id", "source", "domain", "url"), pa.string()),
    **dict.fromkeys(("bytes", "characters"), pa.int64()),
}


def _condition(text: str) -> str:
    expressions.parse(text)
    return text


Condition = Annotated[str, AfterValidator(_condition)]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]


class Config(
    RootModel[
        Annotated[
            dict[Name, Condition],
            Field(min_length=1, description="condition on signals; a document for which it holds is dropped"),
        ]
    ]
):
    """Names and conditions; a document for which one holds is dropped by ``rules.<name>``.

    They may name the signals of the stages before, and of each document ``bytes``, ``characters``, ``id``, ``source``,
    ``domain``, ``url``. The syntax is Python's: ``word_count < 80 and (perplexity > 900 or domain in ["wiki"])``
    with ``+ - * /``, ``abs log min max``, ``"text" in url``, ``is None``. Where a condition hangs on a null (a signal
    that was not measured) it is unknown, and the document stays.
    """

    model_config = ConfigDict(frozen=True)


def check(config: Config, signals: Mapping[str, pa.DataType]) -> None:
    """Raises WrongExpression for a condition that names none of ``signals``, those of the stages before."""
    for name, text in config.root.items():
        try:
            expressions.check(expressions.parse(text), {**OF_DOCUMENTS, **signals})
        except expressions.WrongExpression as error:
            raise expressions.WrongExpression(f"`rules.{name}`: {error}") from error


@lru_cache(maxsize=1024)
def _read(text: str) -> tuple[Any, Limit | None]:
    tree = expressions.parse(text)
    return tree, expressions.limit(tree)


def rules(config: Config) -> list[Rule]:
    limits = []
    for name, text in config.root.items():
        tree, limit = _read(text)
        limit = limit or Limit(expressions.canonical(tree), maximum=0)
        limits.append(Rule(f"rules.{name}", limit.signal, minimum=limit.minimum, maximum=limit.maximum))
    return limits


def measure(config: Config, batch: Batch) -> Measured:
    """For each rule its left side (float64), or 1 where it holds and 0 where not (uint8); null where unknown."""
    columns: dict[str, Any] = {**batch.documents, **batch.signals}
    columns |= {"bytes": pc.binary_length(batch.texts), "characters": pc.utf8_length(batch.texts)}
    signals: dict[str, pa.Array] = {}
    for text in config.root.values():
        tree, limit = _read(text)
        if limit is None:
            signals[expressions.canonical(tree)] = expressions.holds(tree, columns).cast(pa.uint8())
        elif limit.signal not in batch.signals:
            signals[limit.signal] = expressions.number(limit.signal, columns)
    return Measured(signals)


STAGE = Stage(
    name="rules",
    title="Own rules",
    about="drop documents by your own conditions on signals",
    config=Config,
    check=lambda config, recipe: check(config, recipe.signals_before("rules")),
    version=VERSION,
    rules=rules,
    measure=measure,
    of_signals=True,
)
