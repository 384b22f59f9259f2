"""Which document of a cluster survives.

Every policy ranks documents by a number, the highest is kept, and ties are broken by a hash of the
document's id, then by the id: so the same document survives for any shard size, number of workers and order
of the input.
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from pipeline import MillError
from pipeline.build.build import View
from pipeline.store.ledger import numbers
from pipeline.store.recipe_file import Config
from pipeline.text.hashing import document_hash


class Sources(Config):
    """Keep the document of the source that is named first; sources not named come last."""

    sources: Annotated[
        list[str],
        Field(min_length=1, description="names of sources, the one to prefer first; unnamed sources come last"),
    ]


class Highest(Config):
    """Keep the document with the highest value of a signal that an earlier stage measured; null is lowest."""

    highest: Annotated[
        str, Field(description="signal of an earlier stage; the document with its highest value stays, null is lowest")
    ]


#: ``longest``: most bytes of text. ``earliest``: the first id in the order in which people sort file names, numbers by
#: value. Ids are made of source, file and record, so this is the first in its file, whatever the order of the input.
Keep = Literal["longest", "earliest"] | Sources | Highest
KeepOfCluster = Annotated[
    Keep,
    Field(
        description="document of a cluster that stays: the longest, the earliest, by order of sources, or"
        " highest by a signal"
    ),
]


def facts(keep: Keep, view: View) -> dict[str, pa.Array]:
    """What ``survivors_first`` needs of each document of ``view``: ``rank`` float64, ``tie`` uint64, ``id``.

    Raises ValueError if ``keep`` names a signal that no earlier stage measures.
    """
    ids = view.documents["id"]
    ties = pa.array(document_hash(ids, seed=0))
    match keep:
        case "longest":
            ranks = pc.binary_length(view.texts).to_numpy(zero_copy_only=False).astype(np.float64)
        case "earliest":
            ranks, ties = np.zeros(len(ids)), _numbers_padded(ids)
        case Sources(sources=order):
            place = pc.index_in(view.documents["source"], value_set=pa.array(order, pa.string()))
            ranks = -place.fill_null(len(order)).to_numpy(zero_copy_only=False).astype(np.float64)
        case Highest(highest=signal):
            if signal not in view.signals:
                known = ", ".join(sorted(view.signals)) or "none"
                raise MillError(f"keep.highest: no stage before measures {signal!r}; measured here: {known}")
            values = numbers(view.signals[signal])
            ranks = np.where(np.isnan(values), -np.inf, values)
    return {"rank": pa.array(ranks), "tie": ties, "id": ids}


def _numbers_padded(ids: pa.Array) -> pa.Array:
    """``ids`` with 20 digits for every number, so that byte order is the order of the numbers."""
    longer = pc.replace_substring_regex(ids, r"(\d+)", "0" * 20 + r"\1")
    return pc.replace_substring_regex(longer, r"\d*(\d{20})", r"\1")


def survivors_first(groups: np.ndarray, documents: pa.Table) -> np.ndarray:
    """int64 [n]: the order in which ``documents`` (columns of ``facts``) lie by group, the one to keep
    first in each.
    """
    table = documents.select(["rank", "tie", "id"]).append_column("group", pa.array(groups))
    by = [("group", "ascending"), ("rank", "descending"), ("tie", "ascending"), ("id", "ascending")]
    return pc.sort_indices(table, sort_keys=by).to_numpy().astype(np.int64)
