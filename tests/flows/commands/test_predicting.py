"""`mill predict` and `mill serve-model`, as they are typed."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import fsspec
import httpx
import pytest
from typer.testing import CliRunner, Result

from flows import cli
from tests.helpers import published
from training.finetuning import usage


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return published.publish(tmp_path_factory.mktemp("classify"), "classify")[0]


def mill(*arguments: object, stdin: bytes | None = None) -> Result:
    run = CliRunner().invoke(cli.app, list(map(str, arguments)), input=stdin, env={"COLUMNS": "200"})
    assert run.exception is None or isinstance(run.exception, SystemExit), run.exception
    return run


def lines(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


def test_a_file_becomes_a_file_with_predictions(model: str, tmp_path: Path) -> None:
    data = tmp_path / "rows.csv"
    data.write_text("text,n\n" + "".join(f"the cat {n},{n}\n" for n in range(200)) + "only one field\n")
    out = tmp_path / "out.jsonl"
    run = mill("predict", model, data, "-o", out)
    assert run.exit_code == 0, run.output
    assert run.stdout == ""
    assert "predicted: 200 rows, in " in run.stderr
    assert "left out: 1 bad row\n" in run.stderr
    assert "1 x not 2 fields, as there are columns (first: " in run.stderr
    assert len(lines(out.read_text())) == 200
    (bad,) = lines((tmp_path / "out.jsonl.quarantine.jsonl").read_text())
    assert (bad["file"], bad["row"]) == (str(data), 201)


def test_too_many_bad_rows_leave_no_output_but_their_list(model: str, tmp_path: Path) -> None:
    data, out = tmp_path / "rows.jsonl", tmp_path / "out.parquet"
    data.write_text('{"text": "the cat"}\n{"text": ""}\n')
    run = mill("predict", model, data, "-o", out)
    assert run.exit_code == 1
    assert "1 of 2 rows are bad (50.00%), more than the error budget of 1.00%" in run.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.parquet.quarantine.jsonl", "rows.jsonl"]
    assert mill("predict", model, data, "-o", out, "--error-budget", 0.5).exit_code == 0
    assert out.exists()


@pytest.mark.usefixtures("store_cache")
def test_a_model_may_lie_in_a_store_and_what_is_written_may_not(model: str, tmp_path: Path) -> None:
    fsspec.filesystem("memory").put(model, "/bucket/model", recursive=True)
    said = mill("predict", "memory://bucket/model", "--text", "the cat").stdout
    assert said == mill("predict", model, "--text", "the cat").stdout
    assert (
        "'memory://bucket/no' is not the folder of a model"
        in mill("predict", "memory://bucket/no", "--text", "a").stderr
    )
    for arguments in (
        ("predict", model, "--text", "the cat", "-o", "memory://bucket/out.csv"),
        ("export", model, "--onnx", "--out", "memory://bucket/onnx"),
        ("train-lm", tmp_path, "-o", "memory://bucket/lm.arpa"),
        ("build", "memory://bucket/recipe.yaml"),
        ("init", "memory://bucket/text"),
    ):
        run = mill(*arguments)
        assert (run.exit_code, "is an address; give a path of this machine" in run.stderr) == (2, True), run.stderr
    assert "name one by --out" in mill("export", "memory://bucket/model", "--onnx").stderr


def test_data_goes_to_stdout_and_all_else_to_stderr(model: str) -> None:
    run = mill(
        "predict",
        model,
        "-",
        stdin=b'{"body": "the cat", "n": 1}\n',
    )
    assert run.exit_code == 1
    assert "there is body, n; name the column by --text-column" in " ".join(run.stderr.split())
    run = mill("predict", model, "-", "--text-column", "body", stdin=b'{"body": "the cat", "n": 1}\n')
    (row,) = lines(run.stdout)
    assert (row["body"], row["n"]) == ("the cat", 1)
    assert row["label"] in row["scores"]
    assert "predicted: 1 row" in run.stderr
    run = mill("predict", model, "-", "--format", "csv", stdin=b"text\nthe cat\n")
    assert lines(run.stdout)[0]["scores"] == row["scores"]


def test_a_table_without_a_header_has_its_columns_named(model: str, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("the cat,1\nthe dog,2\n")
    assert "there is the cat, 1" in " ".join(mill("predict", model, tmp_path / "rows.csv").stderr.split())
    run = mill("predict", model, tmp_path / "rows.csv", "--columns", "text, n")
    assert [(row["text"], row["n"]) for row in lines(run.stdout)] == [("the cat", "1"), ("the dog", "2")]
    read = mill("predict", model, "-", "--format", "tsv", "--columns", "n,text", stdin=b"1\tthe cat\n")
    assert lines(read.stdout)[0]["scores"] == pytest.approx(lines(run.stdout)[0]["scores"], abs=1e-6)


def test_the_guide_does_what_it_says(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    guide = Path(__file__).parents[3] / "docs" / "guide.md"
    block = guide.read_text("utf-8").partition("### Predictions\n")[2].partition("```sh\n")[2].partition("```")[0]
    commands = [line for line in block.splitlines() if "serve-model" not in line]
    assert len(commands) == 3
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "reviews").symlink_to(model)
    (tmp_path / "new.csv").write_text("text,n\nthe cat,1\n")
    (tmp_path / "new.jsonl").write_text('{"text": "the cat"}\n')
    monkeypatch.chdir(tmp_path)
    for command in commands:
        *before, typed = command.partition(" > ")[0].split(" | ")
        stdin = Path(before[0].removeprefix("cat ")).read_bytes() if before else None
        run = mill(*shlex.split(typed)[1:], stdin=stdin)
        assert run.exit_code == 0, run.output
        assert "predicted: 1 row" in run.stderr
    assert (tmp_path / "predicted.parquet").exists()


def test_a_text_is_predicted(model: str) -> None:
    run = mill("predict", model, "--text", "the cat", "--text", "the dog")
    assert [row["text"] for row in lines(run.stdout)] == ["the cat", "the dog"]
    assert "cost" not in run.stderr


def test_a_model_with_costs_says_that_it_answers_by_them(model: str, tmp_path: Path) -> None:
    folder = shutil.copytree(model, tmp_path / "model")
    shutil.rmtree(folder / ".sums", ignore_errors=True)
    told = usage.read(str(folder))
    assert told is not None
    usage.write(folder, told.model_copy(update={"costs": {"pet": {"wild": 1e9}}}))
    run = mill("predict", folder, "--text", "the cat", "--text", "the dog")
    assert {row["label"] for row in lines(run.stdout)} == {"pet"}
    assert "labels are those of the least expected cost by the `costs` of the model's recipe" in run.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "give a FILE to predict, or --text"),
        (("x.jsonl", "--text", "x"), "give a FILE to predict, or --text"),
        (("x.jsonl",), "no file 'x.jsonl'"),
        (("x.jsonl", "-o", "x.jsonl"), "is the file that is read"),
        (("x.jsonl", "-o", "out.xlsx"), "predictions are written as .jsonl, .csv, .tsv or .parquet"),
        (("-", "--format", "xml"), "--format xml is not read"),
        (("--text", "a", "--pair", "b", "--pair", "c"), "1 --text and 2 --pair"),
        (("--text", "a", "--pair", "b"), "the model reads no second text"),
        (("--text", "a", "--columns", "text"), "--columns are those of a FILE without a header"),
        (("-", "--columns", "text"), "stdin: a jsonl file names its columns itself; leave out --columns"),
    ],
)
def test_wrong_use_is_one_message(model: str, arguments: tuple, said: str) -> None:
    run = mill("predict", model, *arguments)
    assert run.exit_code == 1
    assert said in " ".join(run.stderr.split())
    assert run.stdout == ""


@pytest.mark.slow
def test_a_model_is_served_where_its_command_says(model: str) -> None:
    command = [sys.executable, "-m", "flows.cli", "serve-model", model, "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        told = process.stderr.readline()
        url = told.split(" at ")[1].split(";")[0]
        assert url.startswith("http://127.0.0.1:")
        found = httpx.post(f"{url}/predict", json={"rows": [{"text": "the cat"}]}, timeout=60).json()
        process.terminate()
        process.wait(30)
    (row,) = lines(mill("predict", model, "--text", "the cat").stdout)
    assert found["predictions"][0]["label"] == row["label"]
    assert found["predictions"][0]["scores"] == pytest.approx(row["scores"], abs=1e-6)


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> str:
    return published.publish(tmp_path_factory.mktemp("answers"), "answers", epochs=1)[0]


def test_questions_are_read_as_squad_has_them(reader: str, tmp_path: Path) -> None:
    """Answers are not needed; a context may have an emoji before the answer."""
    contexts = {"a": "🙂 the cat sees . the fish sees .", "b": "the dog hears ."}
    paragraphs = [
        {"context": context, "qas": [{"id": f"{name}{n}", "question": "what swims ?"} for n in range(2)]}
        for name, context in contexts.items()
    ]
    path = tmp_path / "asked.json"
    path.write_text(json.dumps({"version": "2.0", "data": [{"title": "t", "paragraphs": paragraphs}]}, indent=1))
    run = mill("predict", reader, path)
    assert run.exit_code == 0, run.output
    made = lines(run.stdout)
    assert [row["id"] for row in made] == ["a0", "a1", "b0", "b1"]
    for row in made:
        assert row["context"] == contexts[row["id"][0]]
        assert row["answer"] == ("" if row["start"] is None else row["context"][row["start"] : row["end"]])
    assert lines(mill("predict", reader, "-", "--format", "squad", stdin=path.read_bytes()).stdout) == made
    path.write_text('{"question": "what swims ?"}\n{"question": "what swims ?"}\n')
    run = mill("predict", reader, path)
    assert run.exit_code == 1
    assert "asked.json" in run.stderr


def test_a_text_without_its_second_one_is_refused_by_the_option(reader: str) -> None:
    run = mill("predict", reader, "--text", "what swims ?")
    assert run.exit_code == 1
    assert "--pair is missing: the model reads two texts; give the context of each question by it" in run.stderr


def test_of_texts_read_in_chunks_the_whole_reach_is_stated(tmp_path: Path) -> None:
    """Two chunks of 12 tokens, the second 4 further on, so that each token is once in the middle half: 16."""
    chunks = {"kind": "chunks", "most": 2}
    folder, *_ = published.publish(tmp_path, "classify", long_text=chunks, sequence_length=12, epochs=1)
    run = mill("predict", folder, "--text", "cat " * 14, "--text", "cat " * 15)
    assert run.exit_code == 0, run.output
    assert "1 row has more than the 16 tokens that the model reads" in run.stderr


def test_kinds_of_bad_rows_beyond_those_that_are_shown_are_counted(model: str, tmp_path: Path) -> None:
    data = tmp_path / "rows.jsonl"
    data.write_text('{"text": "the cat"}\n{"text": 5}\n{"text": ""}\n{"n": 1}\nno json\n[1]\n[2]\n')
    run = mill("predict", model, data, "--error-budget", 1)
    assert run.exit_code == 0, run.output
    assert "left out: 6 bad rows\n" in run.stderr
    shown = [line.split() for line in run.stderr.splitlines() if " x " in line]
    assert sum(int(line[0]) for line in shown) == 6
    assert shown[-1] == ["2", "x", "other", "faults"]
