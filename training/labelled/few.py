"""A learning set of a few rows of each label, as somebody has who labels by hand; the test rows stay as they are."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace

import pyarrow as pa

from training.labelled import splits
from training.labelled.rows import Labelled, WrongRows, identity


def few(rows: Labelled, name: str, per_class: int, dev_share: float, seed: int) -> Labelled:
    """``rows`` with ``per_class`` of each label for training and development together, chosen by hash.

    ``dev_share`` of them, at least one, are of the development rows. Raises WrongRows where a label has fewer.
    """
    for_dev = max(1, round(per_class * dev_share))
    chosen = {"train": per_class - for_dev, "dev": for_dev}
    made, lacking = {"test": rows.test}, []
    for side, count in chosen.items():
        table: pa.Table = getattr(rows, side)
        by_label: dict[str, list[tuple[float, int]]] = defaultdict(list)
        keys = zip(table["id"].to_pylist(), table["label"].to_pylist(), strict=True)
        for at, (id_, label) in enumerate(keys):
            by_label[label].append((splits.place(seed, "few", id_), at))
        lacking += [f"{label!r} has {len(by_label[label])}" for label in rows.labels if len(by_label[label]) < count]
        kept = sorted(at for places in by_label.values() for _, at in sorted(places)[:count])
        made[side] = table.take(pa.array(kept, pa.int64()))
        if lacking:
            raise WrongRows(
                f"finetune {name!r}: per_class {per_class} wants {count} rows of each label for {side}, and"
                f" {', '.join(lacking[:5])}; lower per_class or change dev_share"
            )
    tables = {side: made[side] for side in ("train", "dev", "test")}
    audit = {
        **rows.audit,
        "rows": {side: table.num_rows for side, table in tables.items()},
        "labels": {side: dict(sorted(Counter(t["label"].to_pylist()).items())) for side, t in tables.items()},
        "beyond_per_class": len(rows.train) + len(rows.dev) - len(made["train"]) - len(made["dev"]),
    }
    return replace(rows, **tables, audit=audit, fingerprint=identity(rows.task, tables))
