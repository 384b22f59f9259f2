from __future__ import annotations

from collections import Counter

import pyarrow as pa
import pytest

from training.labelled.few import few
from training.labelled.rows import Labelled, WrongRows, identity


def rows(counts: dict[str, int]) -> Labelled:
    def table(side: str) -> pa.Table:
        labels = [label for label, count in counts.items() for _ in range(count)]
        ids = [f"{side}{at:04d}" for at in range(len(labels))]
        return pa.table({"id": ids, "group": ids, "place": ids, "text": ids, "label": labels})

    tables = {side: table(side) for side in ("train", "dev", "test")}
    return Labelled("classify", sorted(counts), **tables, fingerprint=identity("classify", tables), audit={})


def test_each_label_has_as_many_rows_and_the_test_is_as_it_was() -> None:
    whole = rows({"a": 40, "b": 12})
    chosen = few(whole, "x", 8, 0.25, seed=1)
    assert Counter(chosen.train["label"].to_pylist()) == {"a": 6, "b": 6}
    assert Counter(chosen.dev["label"].to_pylist()) == {"a": 2, "b": 2}
    assert chosen.test == whole.test
    assert chosen.audit["beyond_per_class"] == 2 * 52 - 16
    assert chosen.fingerprint != whole.fingerprint
    assert few(whole, "x", 8, 0.25, seed=1).train == chosen.train
    assert few(whole, "x", 8, 0.25, seed=2).train != chosen.train


def test_more_rows_of_each_label_keep_those_of_fewer() -> None:
    whole = rows({"a": 40, "b": 40})
    small, large = (set(few(whole, "x", count, 0.25, seed=1).train["id"].to_pylist()) for count in (8, 16))
    assert small < large


def test_a_label_with_too_few_is_named() -> None:
    with pytest.raises(WrongRows, match="'b' has 3"):
        few(rows({"a": 40, "b": 3}), "x", 8, 0.25, seed=1)
