from __future__ import annotations

import tempfile
from pathlib import Path

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from training.labelled import files
from training.labelled.rows import Labelled, WrongRows
from training.recipe.finetuning import FinetuneConfig

TEXTS = st.sampled_from([f"text {n}" for n in range(12)] + ["Text  3", "TEXT 4 "])
ROWS = st.lists(st.tuples(TEXTS, st.sampled_from("abc"), st.floats(0, 1)), min_size=25, max_size=60)


def load(rows: list[tuple[str, str, float]], group: str | None) -> Labelled | None:
    """The rows split by hash; None where a set is empty."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "rows.jsonl")
        path.write_bytes(b"\n".join(orjson.dumps({"text": t, "author": g, "score": s}) for t, g, s in rows))
        config = FinetuneConfig.model_validate(
            {"name": "x", "base": "b", "data": {"train": str(path)}, "task": "regression", "label": "score"}
            | {"group": group, "test_share": 0.4, "dev_share": 0.4, "allow_near_copies": True}
        )
        try:
            return files.load(config, 0)
        except WrongRows:
            return None


def sides(data: Labelled, column: str) -> dict[str, set[str]]:
    """For each value of ``column`` the sets that it is in."""
    found: dict[str, set[str]] = {}
    for name, table in (("train", data.train), ("dev", data.dev), ("test", data.test)):
        for value in table[column].to_pylist():
            found.setdefault(value, set()).add(name)
    return found


@settings(max_examples=25, deadline=None)
@given(ROWS, st.data())
def test_neither_order_nor_other_rows_move_a_row(rows: list[tuple[str, str, float]], draw: st.DataObject) -> None:
    before = load(rows, None)
    more = load(draw.draw(st.permutations([*rows, ("another text", "d", 0.5), ("one more text", "e", 0.5)])), None)
    if before is None or more is None:
        return
    assert sides(more, "text").items() >= sides(before, "text").items()


@settings(max_examples=25, deadline=None)
@given(ROWS)
def test_equal_texts_stay_together_and_no_row_is_lost(rows: list[tuple[str, str, float]]) -> None:
    data = load(rows, None)
    if data is None:
        return
    together: dict[str, set[str]] = {}
    for text, where in sides(data, "text").items():
        together.setdefault(" ".join(text.lower().split()), set()).update(where)
    assert all(len(where) == 1 for where in together.values())
    found = [
        tuple(row.values())
        for table in (data.train, data.dev, data.test)
        for row in table.select(["text", "score"]).to_pylist()
    ]
    assert sorted(found) == sorted((text, score) for text, _, score in rows)


@settings(max_examples=25, deadline=None)
@given(ROWS)
def test_groups_stay_together(rows: list[tuple[str, str, float]]) -> None:
    data = load(rows, "author")
    if data is None:
        return
    groups = sides(data, "group")
    assert set(groups) == {author for _, author, _ in rows}
    assert all(len(where) == 1 for where in groups.values())
