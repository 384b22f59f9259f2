"""Files in, files with predictions out: every column kept, every bad row named, nothing half written."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.sources.base import Fields, File
from pipeline.sources.quarantine import ErrorBudgetExceeded
from training.labelled.rows import WrongRows
from training.prediction import model as opening
from training.prediction import predict as predicting
from training.prediction import reading, writing
from training.prediction.model import Model
from training.prediction.rows import Row
from training.prediction.writing import WrongOutput

TEXTS = ["the cat sees the dog .", "the fish likes the bird .", 'a "quoted",\nword', "the dog"]


@pytest.fixture(scope="module")
def model(models: dict) -> Model:
    return opening.open(models["classify"][0])


def predict(model: Model, path: Path, kind: Any = "jsonl", wanted: Any = None) -> tuple[bytes, predicting.Outcome]:
    out = io.BytesIO()
    outcome = predicting.predict(model, reading.sources(str(path), wanted), writing.writer(out, kind))
    return out.getvalue(), outcome


def written(folder: Path, kind: str) -> Path:
    """A file of TEXTS with two more columns."""
    rows = [{"text": text, "n": at, "note": None if at else "é"} for at, text in enumerate(TEXTS)]
    path = folder / f"rows.{kind}"
    if kind == "jsonl":
        path.write_text("\n".join(map(json.dumps, rows)))
    elif kind in ("csv", "tsv"):
        rows = [row for row in rows if kind == "csv" or "\n" not in row["text"]]
        with path.open("w", newline="") as handle:
            style: dict[str, Any] = {} if kind == "csv" else {"delimiter": "\t", "quoting": csv.QUOTE_NONE}
            table = csv.DictWriter(handle, ["text", "n", "note"], **style)
            table.writeheader()
            table.writerows(rows)
    elif kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        table = pa.Table.from_pylist(rows)
        with pa.ipc.new_file(path, table.schema) as file:
            file.write_table(table)
    return path


@pytest.mark.parametrize("kind", ["jsonl", "csv", "tsv", "parquet", "arrow"])
def test_every_format_gives_the_predictions_of_its_texts_beside_its_columns(
    model: Model, tmp_path: Path, kind: str
) -> None:
    path = written(tmp_path, kind)
    content, outcome = predict(model, path)
    found = [json.loads(line) for line in content.splitlines()]
    texts = [text for text in TEXTS if kind != "tsv" or "\n" not in text]
    assert [row["text"] for row in found] == texts
    assert [str(row["n"]) for row in found] == [str(TEXTS.index(text)) for text in texts]
    assert found[0]["note"] == "é"
    for row, expected in zip(found, model.predict([Row(text) for text in texts]), strict=True):
        fields = expected.fields()
        assert row["scores"] == pytest.approx(fields.pop("scores"), abs=1e-6)
        assert {name: row[name] for name in fields} == fields
    assert (outcome.rows, outcome.quarantined) == (len(texts), 0)


def test_csv_and_parquet_hold_what_json_lines_do(model: Model, tmp_path: Path) -> None:
    path = written(tmp_path, "parquet")
    lines = [json.loads(line) for line in predict(model, path)[0].splitlines()]
    table = pq.read_table(io.BytesIO(predict(model, path, "parquet")[0])).to_pylist()
    assert table == lines
    read = list(csv.DictReader(io.StringIO(predict(model, path, "csv")[0].decode(), newline="")))
    for row, expected in zip(read, lines, strict=True):
        assert json.loads(row["scores"]) == expected["scores"]
        assert (row["text"], row["label"], row["n"]) == (expected["text"], expected["label"], str(expected["n"]))
        assert row["note"] == (expected["note"] or "")


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_a_column_of_the_input_keeps_its_name(model: Model, tmp_path: Path, kind: Any) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"text": text, "label": "mine"}) + "\n" for text in TEXTS))
    content, _ = predict(model, path, kind)
    if kind == "parquet":
        rows = pq.read_table(io.BytesIO(content)).to_pylist()
    elif kind == "csv":
        rows = list(csv.DictReader(io.StringIO(content.decode(), newline="")))
    else:
        rows = [json.loads(line) for line in content.splitlines()]
    assert [row["label"] for row in rows] == ["mine"] * len(TEXTS)
    assert [row["predicted_label"] for row in rows] == [
        each.fields()["label"] for each in model.predict([Row(text) for text in TEXTS])
    ]


@pytest.mark.parametrize("task", ["multi_label", "regression", "tokens", "answers", "text2text", "similarity"])
def test_what_every_task_says_stands_in_every_format(models: dict, tmp_path: Path, task: str) -> None:
    folder, labelled, _ = models[task]
    model = opening.open(folder)
    rows = labelled.test.drop_columns(["id", "group", "place"]).to_pylist()
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    lines = [json.loads(line) for line in predict(model, path)[0].splitlines()]
    table = pq.read_table(io.BytesIO(predict(model, path, "parquet")[0])).to_pylist()
    ours = [name for name in lines[0] if name not in rows[0]]
    assert ours
    for line, row in zip(lines, table, strict=True):
        assert {name: row[name] for name in ours} == {name: line[name] for name in ours}
        if task == "tokens":
            assert all(" ".join(line["words"])[s["start"] : s["end"]] == s["text"] for s in line["spans"])
        if task == "answers":
            assert line["answer"] == ("" if line["start"] is None else line["context"][line["start"] : line["end"]])


BAD = {
    "not json": b'{"text": "the cat"',
    "not utf-8": b'{"text": "caf\xe9"}',
    "no text": b'{"n": 1}',
    "empty": b'{"text": "  "}',
    "a number": b'{"text": 3}',
    "a list": b'["the cat"]',
}


def test_bad_rows_are_named_and_the_others_predicted(model: Model, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    good = [json.dumps({"text": f"the cat {n}"}).encode() for n in range(6)]
    path.write_bytes(b"".join(a + b"\n" + b + b"\n" for a, b in zip(good, BAD.values(), strict=True)))
    content, outcome = predict(model, path)
    assert [json.loads(line)["text"] for line in content.splitlines()] == [f"the cat {n}" for n in range(6)]
    assert (outcome.rows, outcome.quarantined) == (6, 6)
    beside = tmp_path / "out.quarantine.jsonl"
    predicting.write_quarantine(str(beside), outcome)
    kept = [json.loads(line) for line in beside.read_text().splitlines()]
    assert [(row["file"], row["row"]) for row in kept] == [(str(path), n) for n in range(2, 13, 2)]
    reasons = [row["reason"] for row in kept]
    assert reasons[0].startswith("invalid JSON")
    assert reasons[1:] == [
        "invalid UTF-8",
        "no column 'text'",
        "'text' is empty",
        "'text' is a number, not a text",
        "a list, not an object",
    ]
    outcome.check(0.5)
    with pytest.raises(ErrorBudgetExceeded, match=r"6 of 12 rows are bad \(50.00%\), more than .* 49.00%"):
        outcome.check(0.49)
    predicting.write_quarantine(str(beside), predict(model, written(tmp_path, "csv"))[1])
    assert not beside.exists()


def test_bad_rows_of_tables_are_named(model: Model, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(b"text,n\nthe cat,1\nthe dog\ncaf\xe9,2\n,3\nthe fish,4\n")
    content, outcome = predict(model, path)
    assert [json.loads(line)["n"] for line in content.splitlines()] == ["1", "4"]
    kept = outcome.account.table().to_pylist()
    assert [row["record"] for row in kept] == [2, 3, 4]
    parquet = tmp_path / "rows.parquet"
    texts = pa.array([b"the cat", b"caf\xe9", b"the dog"]).view(pa.string())
    pq.write_table(pa.table({"text": texts, "n": [1, 2, 3]}), parquet)
    content, outcome = predict(model, parquet)
    assert [json.loads(line)["n"] for line in content.splitlines()] == [1, 3]
    assert [(row["record"], row["reason"]) for row in outcome.account.table().to_pylist()] == [(2, "invalid UTF-8")]


def test_a_table_without_the_column_is_refused_at_once(model: Model, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("body,n\n" + "the cat,1\n" * 50)
    with pytest.raises(WrongRows, match=r"rows.csv: no column 'text'; there is body, n; name .* --text-column"):
        predict(model, path)


def test_files_that_cannot_be_read_to_their_end_say_so(model: Model, tmp_path: Path) -> None:
    whole = gzip.compress(b"".join(json.dumps({"text": f"the cat {n}"}).encode() + b"\n" for n in range(5_000)))
    cut = tmp_path / "rows.jsonl.gz"
    cut.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WrongRows, match=r"rows.jsonl.gz: not read after row [\d,]+: .*ends in mid stream; take the"):
        predict(model, cut)
    parquet = written(tmp_path, "parquet")
    parquet.write_bytes(parquet.read_bytes()[:-100])
    with pytest.raises(WrongRows, match=r"rows.parquet: not read after row 0: .*damaged"):
        predict(model, parquet)
    with pytest.raises(WrongRows, match="no file"):
        reading.sources(str(tmp_path / "none.jsonl"))
    (tmp_path / "rows.xls").write_text("x")
    with pytest.raises(WrongRows, match="does not say its format"):
        reading.sources(str(tmp_path / "rows.xls"))
    twice = tmp_path / "twice.csv"
    twice.write_text("text,text\na,b\n")
    with pytest.raises(WrongRows, match="2 columns are called 'text'"):
        predict(model, twice)


def test_a_later_row_that_does_not_fit_a_table_is_no_loss_in_silence(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predicting, "_ROWS", 2)
    path = tmp_path / "rows.jsonl"
    rows: list[dict[str, Any]] = [{"text": "the cat", "n": 1}, {"text": "the dog"}, {"text": "the fish", "m": 2}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for kind in ("csv", "parquet"):
        with pytest.raises(WrongOutput, match=r"the column 'm', which the first rows have not; .*\.jsonl"):
            predict(model, path, kind)
    rows[2] = {"text": "the fish", "n": 1.5}
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(WrongOutput, match="'n' of a later row does not have the type of the first rows, int64"):
        predict(model, path, "parquet")
    assert [json.loads(line).get("n") for line in predict(model, path)[0].splitlines()] == [1, None, 1.5]


def test_rows_stream(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "WINDOW_ROWS", 16)
    read = 0

    def endless(_source: Any) -> Iterator[Fields]:
        nonlocal read
        while True:
            read += 1
            yield Fields(read, read, 0, {"text": f"the cat {read}"})

    monkeypatch.setattr(reading, "rows", endless)
    outcome = predicting.Outcome()
    found = predicting.predicted(model, [reading.Source(File("x", "x", 0), "jsonl", "x")], outcome)
    for number in range(1, 100):
        values, _ = next(found)
        assert values["text"] == f"the cat {number}"
    assert read <= 99 + 17


def test_texts_that_are_cut_are_counted(model: Model, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"text": "the cat " * 50}) + "\n" + json.dumps({"text": "the cat"}) + "\n")
    assert predict(model, path)[1].cut == 1
