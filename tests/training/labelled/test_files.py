from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
import zstandard
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

from training.labelled import files
from training.labelled.rows import Labelled, WrongRows
from training.recipe.finetuning import FinetuneConfig


def config(path: Any, label: str = "topic", *, data: dict | None = None, **changed: Any) -> FinetuneConfig:
    given = {"train": str(path), **(data or {})}
    return FinetuneConfig.model_validate({"name": "x", "base": "b", "label": label, "data": given, **changed})


def load(path: Any, label: str = "topic", **changed: Any) -> Labelled:
    return files.load(config(path, label, **changed), 0)


def refused(path: Any, label: str = "topic", **changed: Any) -> str:
    with pytest.raises(WrongRows) as caught:
        load(path, label, **changed)
    return str(caught.value)


def rows(data: Labelled, *columns: str) -> list[tuple]:
    tables = [table.select(columns or ("text", "label")).to_pylist() for table in (data.train, data.dev, data.test)]
    return sorted((tuple(row.values()) for table in tables for row in table), key=repr)


THINGS = ("water, deep", 'a "hard" stone', "träge Luft 🙂")
TOPICS = [{"text": f"{THINGS[n % 3]} number {n} of many", "topic": "wha"[n % 3]} for n in range(60)]


def write(folder: Path, name: str, content: list[dict]) -> Path:
    path = folder / name
    if ".csv" in name or ".tsv" in name:
        delimiter = "\t" if ".tsv" in name else ","
        quoting: Any = csv.QUOTE_NONE if ".tsv" in name else csv.QUOTE_MINIMAL
        with path.open("w", newline="") as handle:
            writer = csv.DictWriter(
                handle,
                list(content[0]),
                delimiter=delimiter,
                quoting=quoting,
                quotechar=None if ".tsv" in name else '"',
            )
            writer.writeheader()
            writer.writerows(content)
    elif ".parquet" in name:
        pq.write_table(pa.Table.from_pylist(content), path)
    elif ".arrow" in name:
        pyarrow.feather.write_feather(pa.Table.from_pylist(content), str(path), compression="uncompressed")
    else:
        path.write_text("\n".join(json.dumps(row) for row in content))
    return path


def packed(path: Path) -> Path:
    """``path`` compressed as its name says."""
    data = path.read_bytes()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else zstandard.compress(data))
    return path


@pytest.mark.parametrize(
    "name", ["a.csv", "a.tsv", "a.jsonl", "a.json", "a.parquet", "a.arrow", "a.csv.gz", "a.tsv.gz", "a.jsonl.zst"]
)
def test_every_format_gives_the_same_rows(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, name, TOPICS)
    data = load(packed(path) if name.endswith((".gz", ".zst")) else path)
    assert rows(data) == sorted(((row["text"], row["topic"]) for row in TOPICS), key=repr)
    assert data.labels == ["a", "h", "w"]
    again = load(write(tmp_path, "b.jsonl", TOPICS))
    assert sorted(again.test["text"].to_pylist()) == sorted(data.test["text"].to_pylist())
    assert data.train["id"].to_pylist() == sorted(data.train["id"].to_pylist())


def test_places_are_lines_of_the_file_as_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "a.csv", TOPICS)
    data = load("a.csv")
    places = {row["place"]: row["text"] for table in (data.train, data.dev, data.test) for row in table.to_pylist()}
    lines = Path("a.csv").read_text().splitlines()
    assert len(places) == 60
    for place, text in places.items():
        name, _, line = place.partition(":")
        assert name == "a.csv"
        assert text.partition(",")[0].strip('"') in lines[int(line) - 1].replace('""', '"')


def test_given_sets_are_taken_as_they_are(tmp_path: Path) -> None:
    train = write(tmp_path, "train.jsonl", TOPICS[:30])
    dev, test = (str(write(tmp_path, f"{n}.jsonl", part)) for n, part in (("d", TOPICS[30:45]), ("t", TOPICS[45:])))
    data = load(train, data={"dev": dev, "test": test})
    assert [len(table) for table in (data.train, data.dev, data.test)] == [30, 15, 15]
    halves = load(train, data={"test": test})
    assert len(halves.test) == 15
    assert len(halves.train) + len(halves.dev) == 30
    assert len(halves.dev) > 0
    both = load(tmp_path / "?.jsonl")
    assert rows(both) == sorted(((row["text"], row["topic"]) for row in TOPICS[30:]), key=repr)


def test_a_folder_that_datasets_saved_keeps_its_splits_and_the_names_of_its_labels(tmp_path: Path) -> None:
    features = Features({"text": Value("string"), "topic": ClassLabel(names=["wet", "hard", "airy"])})
    content = [{**row, "topic": n % 3} for n, row in enumerate(TOPICS)]
    parts = {"train": content[:40], "validation": content[40:50], "test": content[50:], "unsupervised": content[:2]}
    saved = DatasetDict({name: Dataset.from_list(part, features=features) for name, part in parts.items()})
    saved.save_to_disk(str(tmp_path / "saved"))
    data = load(tmp_path / "saved")
    assert [len(table) for table in (data.train, data.dev, data.test)] == [40, 10, 10]
    assert data.labels == ["airy", "hard", "wet"]
    assert any("unsupervised" in note for note in data.audit["notes"])
    saved["train"].save_to_disk(str(tmp_path / "one"))
    assert len(rows(load(tmp_path / "one"))) == 40
    only = load(tmp_path / "one", data={"test": str(tmp_path / "saved")})
    assert len(only.test) == 10


CONLL = (
    "-DOCSTART- -X- O\n\nEU NNP I-ORG\nrejects VBZ O\nGerman JJ I-MISC\n\n\n"
    "Peter NNP I-PER\nBlackburn NNP I-PER\nPeter NNP B-PER\n"
)
SENTENCE = "{0} NNP I-PER\nsleeps{0} VBZ O\n\n"
MORE = "".join(SENTENCE.format(f"Ann{n}") + f"Bonn{n} NNP I-ORG\nand CC O\nJohn{n} NNP I-MISC\n\n" for n in range(40))


def test_conll_in_iob1_becomes_iob2_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "a.conll"
    path.write_text(CONLL + "\n" + MORE)
    data = load(path, "tags", task="tokens")
    found = rows(data, "words", "tags")
    assert (["EU", "rejects", "German"], ["B-ORG", "O", "B-MISC"]) in found
    assert (["Peter", "Blackburn", "Peter"], ["B-PER", "I-PER", "B-PER"]) in found
    assert len(found) == 82
    assert data.labels == ["B-MISC", "B-ORG", "B-PER", "I-MISC", "I-ORG", "I-PER", "O"]
    assert data.audit["passed_over"] == {"-DOCSTART- lines": {"rows": 1, "example": f"{path}:1"}}
    assert any(note.startswith("tags by IOB1: 123 tags were") for note in data.audit["notes"])
    assert f"{path}:3" in [row["place"] for table in (data.train, data.dev, data.test) for row in table.to_pylist()]
    path.write_text((CONLL + "\n" + MORE).replace(" ", "\t"))
    assert rows(load(path, "tags", task="tokens"), "words", "tags") == found
    lists = [{"words": words, "tags": tags} for words, tags in found]
    again = load(write(tmp_path, "a.jsonl", lists), "tags", text="words", task="tokens")
    assert rows(again, "words", "tags") == found


def test_a_prefix_of_every_word_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "a.conll"
    path.write_text("".join(f"en:a{n}\tB-LOC\nen::\tO\n\n" for n in range(40)))
    data = load(path, "tags", task="tokens")
    assert (["a7", ":"], ["B-LOC", "O"]) in rows(data, "words", "tags")
    assert any("'en:'" in note for note in data.audit["notes"])


CONTEXT = "Café 🙂 — the e\u0301clair of Nîmes, and the other éclair."


def squad(count: int = 40, **changed: Any) -> dict:
    def question(number: int) -> dict:
        answer = {"text": "Nîmes", "answer_start": CONTEXT.index("Nîmes") + len(str(number)) + 1}
        return {"id": f"q{number}", "question": f"where {number}?", "answers": [answer], **changed}

    paragraphs = [{"context": f"{n} {CONTEXT}", "qas": [question(n)]} for n in range(count)]
    return {"version": "1.1", "data": [{"title": "Food", "paragraphs": paragraphs}]}


def test_squad_gives_the_same_rows_as_tables_do(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    content = squad()
    content["data"][0]["paragraphs"][3]["qas"][0] |= {"is_impossible": True, "answers": [], "plausible_answers": [{}]}
    path.write_text(json.dumps(content))
    data = load(path, "answers", task="answers", allow_near_copies=True)
    found = rows(data, "id", "question", "context", "answers")
    assert len(found) == 40
    for id_, _, context, answers in found:
        assert [context[a["start"] :][: len(a["text"])] for a in answers] == ([] if id_ == "q3" else ["Nîmes"])
    assert any("plausible" in note for note in data.audit["notes"])
    assert sum(counts["without an answer"] for counts in data.audit["labels"].values()) == 1
    table = [
        {"id": id_, "question": question, "context": context}
        | {"answers": {"text": [a["text"] for a in given], "answer_start": [a["start"] for a in given]}}
        for id_, question, context, given in found
    ]
    for name in ("b.jsonl", "b.parquet"):
        again = load(write(tmp_path, name, table), "answers", task="answers", allow_near_copies=True)
        assert rows(again, "id", "question", "context", "answers") == found
    plain = [{"question": q, "context": c, "answers": ans[0]["text"]} for _, q, c, ans in found if ans]
    again = load(write(tmp_path, "b.csv", plain), "answers", task="answers", allow_near_copies=True)
    assert rows(again, "question", "answers") == [
        (q, a) for _, q, _, a in sorted(found, key=lambda f: repr((f[1], f[3]))) if a
    ]


@pytest.mark.parametrize(
    ("task", "content", "columns", "wanted"),
    [
        ("multi_label", {"topic": "b, a,b"}, ("labels",), (["a", "b"],)),
        ("multi_label", {"topic": ["b", "a"]}, ("labels",), (["a", "b"],)),
        ("multi_label", {"topic": ""}, ("labels",), ([],)),
        ("regression", {"topic": "2.5"}, ("score",), (2.5,)),
        ("regression", {"topic": 2}, ("score",), (2.0,)),
        ("similarity", {"topic": 0.25, "other": "b"}, ("pair", "score"), ("b", 0.25)),
        ("text2text", {"topic": "Wasser"}, ("target",), ("Wasser",)),
        ("classify", {"topic": 1.0, "other": "b"}, ("pair", "label"), ("b", "1")),
    ],
)
def test_each_task_has_its_columns(tmp_path: Path, task: str, content: dict, columns: tuple, wanted: tuple) -> None:
    others = [
        {
            **content,
            "topic": {"classify": n % 2 + 1, "regression": n, "multi_label": content["topic"] or ["x"]}.get(
                task, content["topic"]
            ),
        }
        for n in range(60)
    ]
    path = write(tmp_path, "a.jsonl", [{"text": f"text {n}", **row} for n, row in enumerate([content, *others])])
    pair = "other" if "other" in content else None
    data = load(path, task=task, pair=pair, allow_near_copies=True)
    found = {row["text"]: row for table in (data.train, data.dev, data.test) for row in table.to_pylist()}
    assert tuple(found["text 0"][name] for name in columns) == wanted


def changed(at: int, **values: Any) -> list[dict]:
    return [{**row, **(values if n == at else {})} for n, row in enumerate(TOPICS)]


def test_rows_that_take_no_part_are_counted(tmp_path: Path) -> None:
    content = [{**row, "kind": "news" if n % 2 else "blog"} for n, row in enumerate(changed(4, topic=None))]
    data = load(
        write(tmp_path, "a.jsonl", [*content, {"text": "rare", "topic": "z", "kind": "blog"}]),
        only={"kind": "blog"},
        smallest_class=2,
    )
    assert data.audit["passed_over"] == {
        "rows whose 'kind' is not 'blog' (`only`)": {"rows": 30, "example": f"{tmp_path}/a.jsonl:2"},
        "rows without a value in 'topic'": {"rows": 1, "example": f"{tmp_path}/a.jsonl:5"},
        "rows of labels with fewer than 2 rows (`smallest_class`)": {"rows": 1, "example": f"{tmp_path}/a.jsonl:61"},
    }
    assert sum(data.audit["rows"].values()) == 29


def test_hidden_words_are_cut_and_documents_are_a_sample(tmp_path: Path) -> None:
    content = [{**row, "shop": "Number"} for row in TOPICS]
    data = load(write(tmp_path, "a.jsonl", content), hide=["shop"], documents=40)
    assert len(rows(data)) == 40
    assert "40 of 60 rows, chosen by hash (`documents`)" in data.audit["notes"]
    assert data.hidden_words == 1
    assert not any("number" in text.lower() for text, _ in rows(data))
    again = load(write(tmp_path, "a.jsonl", content[::-1]), hide=["shop"], documents=40)
    assert rows(again) == rows(data)


@pytest.mark.parametrize(
    ("name", "content", "options", "message"),
    [
        ("a.csv", TOPICS, {"text": "sentence"}, "{path}: no column 'sentence', which `text` names"),
        ("a.jsonl", TOPICS, {"group": "author"}, "{path}: no column 'author', which `group` names"),
        ("a.parquet", TOPICS, {"label": "label"}, "{path}: no column 'label', which `label` names"),
        ("a.csv", changed(7, text=" "), {}, "{path}:9: 'text' is empty; correct the row, or leave it out"),
        ("a.jsonl", changed(7, text=5), {}, "{path}:8: 'text' is a number, not a text"),
        ("a.jsonl", changed(7, topic=["a"]), {}, "{path}:8: 'topic' is ['a'], and a label is one text"),
        ("a.csv", TOPICS, {"task": "regression"}, "{path}:2: 'topic' is 'w', no number; correct the row (and 59"),
        ("a.csv", TOPICS, {"task": "tokens"}, "{path}:2: 'text' and 'topic' must be lists"),
        ("a.csv", TOPICS, {"pair": "second"}, "no column 'second', which `pair` names"),
        ("a.csv", TOPICS, {"task": "similarity"}, "similarity is of two texts"),
        ("a.csv", TOPICS, {"label": "text"}, "and in no training row"),
        ("a.csv", [{**row, "topic": "x"} for row in TOPICS], {}, "have the one label 'x' in 'topic'"),
        ("a.csv", [{**row, "topic": 3} for row in TOPICS], {"task": "regression"}, "all have 3 in 'topic', and there"),
        ("a.jsonl", [{**row, "topic": []} for row in TOPICS], {"task": "multi_label"}, "have no label in 'topic', and"),
    ],
)  # fmt: skip
def test_faults_name_file_row_and_remedy(tmp_path: Path, name: str, content: list, options: dict, message: str) -> None:
    path = write(tmp_path, name, content)
    assert message.format(path=path) in refused(path, **options)


def test_every_kind_of_fault_is_told_at_once(tmp_path: Path) -> None:
    content = changed(7, text="")
    content[9]["topic"] = {"a": 1}
    content[11]["text"] = ""
    told = refused(write(tmp_path, "a.jsonl", content)).splitlines()
    assert [line.partition(" ")[0] for line in told] == [f"{tmp_path}/a.jsonl:8:", f"{tmp_path}/a.jsonl:10:"]
    assert "(and 1 more row with this fault)" in told[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a B-LOC\nb\n", ":2: 1 values between spaces, not 2 as in the lines before it: 'b'"),
        ("a\tB-LOC\nb\tx\tO\n", ":2: 3 values between tabs, not 2 as"),
        ("a B-LOC\nb NOUN\n", ":2: unknown tag 'NOUN' of 'b'"),
    ],
)
def test_faults_of_conll_name_the_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "a.conll"
    path.write_text(text)
    assert f"{path}{message}" in refused(path, "tags", task="tokens")


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ({"text": "Paris", "answer_start": 3}, "'Paris' (id 'q2') is not in its context; correct the answer"),
        ({"text": "Nîmes", "answer_start": 3}, "'Nîmes' (id 'q2') is not at character 3 of its context but at 26"),
        ({"text": "clair", "answer_start": 0}, "is not at character 0 of its context but at 17, 48; correct"),
        ({"answer_start": 0}, "write a list of answers, each with `text` and `answer_start`"),
    ],
)
def test_answers_that_are_not_where_they_are_said_to_be(tmp_path: Path, answer: dict, message: str) -> None:
    content = squad()
    content["data"][0]["paragraphs"][2]["qas"][0]["answers"] = [answer]
    path = tmp_path / "a.json"
    path.write_text(json.dumps(content))
    assert f"{path}:3: " in (told := refused(path, "answers", task="answers"))
    assert message in told


def test_questions_that_are_read_as_rows_are_pointed_at_their_task(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(squad()))
    assert "--task answers" in refused(path, "topic")


def test_labels_that_training_lacks_are_named_with_their_row(tmp_path: Path) -> None:
    train = write(tmp_path, "train.jsonl", TOPICS[:30])
    test = write(tmp_path, "test.jsonl", [*TOPICS[30:], {"text": "a new one", "topic": "new"}])
    told = refused(train, data={"test": str(test)})
    remedy = "add training rows with it, or leave its rows out"
    assert told == f"{test}:31: the label 'new' is in 1 test row and in no training row; {remedy}"


def test_damage_and_wrong_files_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "a.jsonl", TOPICS)
    path.write_text(path.read_text() + "\n{broken")
    assert f"{path}:61: invalid JSON" in refused(path)
    whole = write(tmp_path, "a.csv", TOPICS).read_bytes()
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(whole)[:-60])
    assert "not read after row" in refused(tmp_path / "a.csv.gz")
    assert "no file" in refused(tmp_path / "b.csv")
    (tmp_path / "a.txt").write_text("x")
    assert "does not say its format" in refused(tmp_path / "a.txt")
    assert "was not saved by `datasets`" in refused(tmp_path)
    (tmp_path / "b.parquet").write_bytes(b"PAR1 no")
    assert "b.parquet: not read after row 0" in refused(tmp_path / "b.parquet")
    (tmp_path / "twice.csv").write_text("text,text,topic\na,b,c\n")
    assert "2 columns are called 'text'" in refused(tmp_path / "twice.csv")


def test_quotes_of_a_tsv_are_characters_and_that_is_said(tmp_path: Path) -> None:
    path = write(tmp_path, "a.tsv", TOPICS)
    path.write_text(path.read_text() + '"quoted"\tw\n')
    data = load(path)
    assert ('"quoted"', "w") in rows(data)
    assert any("1 rows have values in double quotes" in note for note in data.audit["notes"])


@pytest.mark.parametrize("mark", [";", "\t", "|"])
def test_a_csv_is_read_by_the_delimiter_of_its_header(tmp_path: Path, mark: str) -> None:
    """Spreadsheets write semicolons where the comma is the decimal mark."""
    path = tmp_path / "a.csv"
    with path.open("w", newline="", encoding="utf-8-sig") as handle:
        writer = csv.writer(handle, delimiter=mark)
        writer.writerows([["text", "topic"], *([f"{row['text']}{mark}1,5", row["topic"]] for row in TOPICS)])
    assert rows(load(path)) == sorted((f"{row['text']}{mark}1,5", row["topic"]) for row in TOPICS)
    files.look(config(path))


def test_a_quoted_header_of_one_column_is_one_column(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('"text;topic"\n"a;b"\n')
    assert "there is text;topic" in refused(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no rows; give a file that has some"),
        (b"text,topic\n", "no rows; give a file that has some"),
        (b"text,topic\na,\nb,\n", "no row takes part: 2 rows without a value in 'topic', the first {path}:2"),
        (b"text,topic\ncaf\xe9,w\n", "invalid UTF-8: 'caf\\\\xe9,w'; write the file in UTF-8"),
        (b"a stone,h\na river,w\n", "if that is a row and no header, name the columns in order: `data.columns`"),
    ],
    ids=["nothing", "a header", "no labels", "latin-1", "no header"],
)
def test_files_without_rows_and_other_tables_say_what_to_do(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    assert message.format(path=path) in refused(path)
