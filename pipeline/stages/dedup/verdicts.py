"""From what was found about duplicates to the ledger of each shard.

Findings are tables ascending in ``row`` (global row number, int64), one entry for each document that has
duplicates: ``duplicate_of`` (id of the survivor, null for a document that is kept), ``cluster`` (uint64),
``size`` (int32, documents in the cluster) and ``value`` (float64, what the verdict is based on).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import pyarrow as pa

from pipeline.build import row_numbers
from pipeline.build.build import Build, Made, Outcome, make
from pipeline.stages.dedup import earlier_builds
from pipeline.store import files, ledger, shards

VERSION = 1

FINDINGS = pa.schema(
    [
        pa.field("row", pa.int64()),
        pa.field("duplicate_of", pa.string()),
        pa.field("cluster", pa.uint64()),
        pa.field("size", pa.int32()),
        pa.field("value", pa.float64()),
    ]
)


@lru_cache(maxsize=1)  # and not when this is imported: Arrow loads pandas for it
def _none() -> pa.Table:
    return FINDINGS.empty_table()


def write_verdicts(
    build: Build, stage: str, shard: str, findings: Sequence[str], rule: str, threshold: float, size: str
) -> Outcome:
    """Write the ledger of ``stage`` for ``shard`` from the tables in the paths ``findings``.

    Its signals are ``duplicate_of``, ``cluster`` and, under the name ``size``, the number of documents in
    the cluster (1 for a document by itself).
    """
    tables = [_none(), *(shards.read_table(path) for path in findings)]
    entries = row_numbers.in_shard(tables, earlier_builds.number(build, shard))
    made_by = files.fingerprint(
        VERSION, rule, threshold, size, build.view_fingerprint(shard, stage), row_numbers.digest(entries)
    )

    def verdicts() -> Made:
        ledgers = [build.ledger(earlier, shard) for earlier in build.stages_before(stage)]
        alive = ledger.alive(ledgers, len(build.documents(shard)))
        entry = np.full(len(alive), -1)
        entry[row_numbers.array(entries, "row")] = np.arange(len(entries))
        return Outcome(int(alive.sum())), pa.table(_columns(entries, entry, alive, rule, threshold, size))

    return make(build.ledger_path(stage, shard), made_by, verdicts)


def _columns(
    entries: pa.Table, entry: np.ndarray, alive: np.ndarray, rule: str, threshold: float, size: str
) -> dict[str, pa.Array]:
    """The ledger's columns; ``entry`` (int64, one a row of the shard) is the row's place in ``entries``, or -1."""
    take = pa.array(entry, mask=entry < 0)
    duplicate_of, clusters, sizes, values = (
        row_numbers.column(entries, name).take(take) for name in ("duplicate_of", "cluster", "size", "value")
    )
    kept = duplicate_of.is_null().to_numpy(zero_copy_only=False)
    dropped_by = pa.DictionaryArray.from_arrays(pa.array(np.zeros(len(alive), np.int16), mask=kept), pa.array([rule]))
    sizes = sizes.fill_null(1).to_numpy(zero_copy_only=False)
    return {
        "dropped_by": dropped_by,
        "value": pa.array(values.fill_null(0).to_numpy(zero_copy_only=False), mask=kept),
        "threshold": pa.array(np.full(len(alive), threshold), mask=kept),
        "duplicate_of": duplicate_of,
        "cluster": clusters,
        size: pa.array(sizes, mask=~alive),
    }
