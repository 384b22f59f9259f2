"""What a stage measured in one build, kept where another build sees the same texts.

A stage with steps of its own says by ``Stage.reuse`` which of its steps allow that, and how.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from pipeline.build.build import Build, View
from pipeline.store import ledger


@dataclass(frozen=True)
class Refill:
    """How the file of a shard that a step writes is made from that of another build.

    ``path(build, shard)`` is the file. ``table(stored, build, view, known)`` is its content for the documents of
    ``view``, what the stage sees in ``build``: of those in the mask ``known`` (over the shard's rows) as the other
    build's file, ``stored``, has it; the others are measured.
    """

    path: Callable[[Build, str], str]
    table: Callable[[pa.Table, Build, View, np.ndarray], pa.Table]


@dataclass(frozen=True)
class Reuse:
    """``refills``: by step. ``kept``: steps that are not run again, what they made is used as it is.

    ``note``: what a run would do otherwise, where other documents reach the stage; "" if nothing.
    """

    refills: Mapping[str, Refill] = field(default_factory=dict)
    kept: Collection[str] = ()
    note: str = ""


def part(view: View, rows_of_shard: np.ndarray) -> View:
    """Those documents of ``view`` that are in the mask ``rows_of_shard``."""
    chosen = pa.array(rows_of_shard[view.alive])
    return View(
        rows_of_shard & view.alive,
        view.texts.filter(chosen),
        None if view.cuts is None else view.cuts.filter(chosen),
        {name: column.filter(chosen) for name, column in view.documents.items()},
        {name: column.filter(chosen) for name, column in view.signals.items()},
    )


def refilled(
    stored: pa.Table | None, view: View, known: np.ndarray, measure: Callable[[View], dict[str, pa.Array]]
) -> dict[str, pa.Array]:
    """Columns over the shard's rows: of the documents of ``view`` in the mask ``known`` as ``stored``, the others
    measured. Verdicts are left out.
    """
    fresh = view.alive & ~known
    if stored is None or fresh.any():
        measured = pa.table(measure(part(view, fresh)))
        if stored is None:
            return ledger.spread(fresh, dict(zip(measured.column_names, measured.columns, strict=True)))  # type: ignore[arg-type]
    else:
        measured = stored.slice(0, 0)
    names = [name for name in stored.column_names if name in ledger.EDIT_COLUMNS or name not in ledger.VERDICT_COLUMNS]
    both = pa.concat_tables([stored.select(names), measured.select(names).cast(stored.select(names).schema)])
    row = np.arange(len(fresh))
    row[fresh] = len(fresh) + np.arange(fresh.sum())
    both = both.unify_dictionaries().combine_chunks().take(pa.array(row, mask=~view.alive))
    return {name: both[name].combine_chunks() for name in names}
