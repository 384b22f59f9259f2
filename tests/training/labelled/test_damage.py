"""Whatever bytes a file holds, reading it ends with its rows or with one error that names it."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.labelled import files
from training.labelled.rows import WrongRows
from training.recipe.finetuning import FinetuneConfig

ROWS = [{"text": f"text, {n}", "label": "ab"[n % 2]} for n in range(40)]


def contents(folder: Path) -> dict[str, bytes]:
    pq.write_table(pa.Table.from_pylist(ROWS), folder / "a.parquet")
    pyarrow.feather.write_feather(pa.Table.from_pylist(ROWS), str(folder / "a.arrow"), compression="uncompressed")
    qas = [{"id": str(n), "question": "what?", "answers": [{"text": "b", "answer_start": 2}]} for n in range(2)]
    squad = {"data": [{"paragraphs": [{"context": f"a b {n}", "qas": qas}]} for n in range(20)]}
    return {
        "a.csv": "\n".join(["text,label", *(f'"{row["text"]}",{row["label"]}' for row in ROWS)]).encode(),
        "a.tsv": "\n".join(["text\tlabel", *(f"{row['text']}\t{row['label']}" for row in ROWS)]).encode(),
        "a.jsonl": "\n".join(map(json.dumps, ROWS)).encode(),
        "a.parquet": (folder / "a.parquet").read_bytes(),
        "a.arrow": (folder / "a.arrow").read_bytes(),
        "a.conll": "".join(f"w{n} B-LOC\nin O\n\n" for n in range(40)).encode(),
        "a.json": json.dumps(squad).encode(),
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return contents(tmp_path_factory.mktemp("whole"))


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.parquet", "a.arrow", "a.conll", "a.json"])
@settings(max_examples=60, deadline=None)
@given(draw=st.data())
def test_damaged_files_are_refused_or_read(name: str, whole: dict[str, bytes], draw: st.DataObject) -> None:
    data = bytearray(whole[name])
    for _ in range(draw.draw(st.integers(0, 3))):
        at = draw.draw(st.integers(0, len(data) - 1))
        data[at : at + draw.draw(st.integers(0, 4))] = draw.draw(st.binary(max_size=4))
    task, label = {"a.conll": ("tokens", "tags"), "a.json": ("answers", "answers")}.get(name, ("classify", "label"))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        path.write_bytes(data)
        values = {"name": "x", "base": "b", "label": label, "task": task, "data": {"train": str(path)}}
        try:
            read = files.load(FinetuneConfig.model_validate({**values, "allow_near_copies": True}), 0)
        except WrongRows as error:
            assert str(path) in str(error) or "finetune 'x'" in str(error) or "data.train" in str(error)  # noqa: PT017
        else:
            assert read.train.num_rows > 0
