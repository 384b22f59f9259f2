"""`mill init` writes a recipe that works: the corpus that it builds holds the texts of the files."""

from __future__ import annotations

import csv
import gzip
import json
import pydoc_data.topics
import re
from pathlib import Path
from typing import Any

import jsonschema
import pyarrow as pa
import pyarrow.parquet
import pytest
import yaml

from flows.commands import starting
from pipeline.curation import recipe as recipes
from tests.flows.commands.test_cli import offline
from tests.helpers import building
from training.recipe.sections import BuildRecipe

ROOT = Path(__file__).parents[3]
TOPICS = dict(sorted(pydoc_data.topics.topics.items())[:24])
ROWS = [
    {
        "doc_id": f"topic-{at}",
        "title": f"On {name}",
        "body": text,
        "link": f"https://docs.python.org/{name}",
        "section": ["language", "library"][at % 2],
        "published": f"2024-01-{at + 1:02d}",
    }
    for at, (name, text) in enumerate(TOPICS.items())
]


def jsonl(folder: Path) -> None:
    with gzip.open(folder / "part-0.jsonl.gz", "wt", encoding="utf-8") as packed:
        packed.writelines(json.dumps(row) + "\n" for row in ROWS[:12])
    with gzip.open(folder / "part-1.jsonl.gz", "wt", encoding="utf-8") as packed:
        packed.writelines(json.dumps(row) + "\n" for row in ROWS[12:])


def parquet(folder: Path) -> None:
    pyarrow.parquet.write_table(pa.Table.from_pylist(ROWS), folder / "part.parquet")


def table(folder: Path) -> None:
    with (folder / "topics.csv").open("w", newline="", encoding="utf-8") as out:
        writer = csv.DictWriter(out, ROWS[0], delimiter=";")
        writer.writeheader()
        writer.writerows(ROWS)


def text(folder: Path) -> None:
    for row in ROWS:
        inner = folder / row["section"]
        inner.mkdir(exist_ok=True)
        (inner / f"{row['doc_id']}.txt").write_text(row["body"], encoding="utf-8")
    (folder / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0")


def warc(folder: Path) -> None:
    with (folder / "crawl.warc").open("wb") as out:
        for row in ROWS:
            body = row["body"].encode()
            head = "\r\n".join(
                ["WARC/1.0", "WARC-Type: conversion", f"WARC-Target-URI: {row['link']}", "Content-Type: text/plain", ""]
            )
            out.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body + b"\r\n\r\n")


def init(*arguments: str | Path) -> dict[str, Any]:
    """Run the command; the recipe that it wrote, as values."""
    found = offline("init", *arguments)
    assert found.exit_code == 0, found.stderr
    return yaml.safe_load(Path(found.stdout.partition(":")[0]).read_text())


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "topics").mkdir()
    return tmp_path / "topics"


@pytest.mark.parametrize(
    ("make", "fields"),
    [
        (jsonl, {"kind": "jsonl", "path": "topics/**/*.jsonl.gz"}),
        (parquet, {"kind": "parquet", "path": "topics/**/*.parquet"}),
        (table, {"kind": "csv", "path": "topics/**/*.csv", "delimiter": ";"}),
        (text, {"kind": "text", "path": "topics/**/*.txt"}),
        (warc, {"kind": "warc", "path": "topics/**/*.warc"}),
    ],
)
def test_the_recipe_of_a_folder_builds_its_corpus(folder, tmp_path, make, fields):
    make(folder)
    values = init("topics")
    (source,) = values["sources"]
    if fields["kind"] in ("jsonl", "parquet", "csv"):
        named = {"text_field": "body", "id_field": "doc_id", "url_field": "link", "domain_field": "section"}
        assert {name: source.get(name) for name in named} == named
    assert {name: source[name] for name in fields} == fields
    assert "exact" in values
    assert "minhash" in values
    written = Path("topics.yaml").read_text()
    assert written.startswith("# yaml-language-server: $schema=recipe.schema.json\n")
    schema = json.loads(Path("recipe.schema.json").read_text())
    assert not list(jsonschema.Draft202012Validator(schema).iter_errors(values))
    assert offline("check", "topics.yaml").exit_code == 0
    build, _ = building.make(recipes.load(Path("topics.yaml"), BuildRecipe), tmp_path / "build")
    kept = {entry[0].strip() for entry in building.curated(build).values()}
    assert kept
    assert kept <= {row["body"].strip() for row in ROWS}
    assert len(kept) > 20


def test_reasons_and_remarks_stand_beside_the_choices(folder):
    jsonl(folder)
    text(folder)
    values = init("topics")
    assert [source["name"] for source in values["sources"]] == ["topics-jsonl.gz", "topics-txt"]
    written = Path("topics.yaml").read_text()
    assert "text_field: body" in written
    assert "characters on average in the first 24 records" in written
    assert "# a value of its own in each record" in written
    assert "2 values in the first 24 records: language, library" in written
    assert "`published` looks like a date (2024-01-01)" in written
    assert "left out: 1 x *.png (binary data)" in written


def test_a_repeated_id_is_switched_off_and_another_text_field_can_be_named(folder):
    rows = [{"id": 1, "text": "short words", "body": row["body"]} for row in ROWS]
    (folder / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (source,) = init("topics/a.jsonl")["sources"]
    assert (source["text_field"], source["id_field"]) == ("body", None)
    (source,) = init("topics/a.jsonl", "--text-field", "text", "--force")["sources"]
    assert source["text_field"] == "text"
    refused = offline("init", "topics/a.jsonl", "--text-field", "txt", "-o", "b.yaml")
    assert refused.exit_code == 1
    assert "there is id, text, body" in " ".join(refused.stderr.split())
    assert not Path("b.yaml").exists()


def test_single_words_are_a_text_only_by_the_name_of_their_field(folder):
    (folder / "a.jsonl").write_text('{"text": "x", "b": "y"}\n' * 3)
    (source,) = init("topics/a.jsonl")["sources"]
    assert source["text_field"] == "text"
    (folder / "b.jsonl").write_text('{"a": "x", "b": "y"}\n' * 3)
    refused = offline("init", "topics/b.jsonl")
    assert "no field with text in the first 3 records; there is a, b" in " ".join(refused.stderr.split())


def test_texts_inside_objects_are_found(folder):
    rows = [{"meta": {"lang": "en"}, "data": {"text": row["body"], "url": row["link"]}} for row in ROWS]
    (folder / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (source,) = init("topics/a.jsonl")["sources"]
    assert (source["text_field"], source["url_field"]) == ("data.text", "data.url")


def test_names_that_are_hostile_to_yaml_stay_names(folder):
    field, name = "text: #\n- x\x07\u202e'\"", "a: [b] # é\x1b.jsonl"
    rows = [{field: row["body"], "url: *": row["link"]} for row in ROWS]
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    (source,) = init("topics/" + name, "--name", "Café: #1")["sources"]
    assert source["text_field"] == field
    written = Path("caf-1.yaml").read_text()
    assert all(character.isprintable() or character == "\n" for character in written)
    loaded = recipes.load(Path("caf-1.yaml"), BuildRecipe)
    assert loaded.sources[0].text_field == field  # type: ignore[union-attr]
    assert offline("check", "caf-1.yaml").exit_code == 0


def test_a_folder_that_datasets_saved(folder):
    import datasets

    datasets.Dataset.from_list(ROWS).save_to_disk(str(folder / "saved"))
    (source,) = init("topics/saved")["sources"]
    assert (source["kind"], source["text_field"]) == ("parquet", "body")
    assert offline("check", "saved.yaml").exit_code == 0


def test_nothing_is_overwritten_without_force(folder):
    text(folder)
    Path("topics.yaml").write_text("mine")
    refused = offline("init", "topics")
    assert refused.exit_code == 1
    assert "topics.yaml: it is there already" in refused.stderr
    assert Path("topics.yaml").read_text() == "mine"
    assert not Path("recipe.schema.json").exists()
    Path("recipe.schema.json").write_text('{"title": "Another"}')
    assert offline("init", "topics", "-o", "other.yaml").exit_code == 1
    assert Path("recipe.schema.json").read_text() == '{"title": "Another"}'
    init("topics", "--force")
    assert Path("topics.yaml").read_text() != "mine"


def test_a_model_has_the_size_that_the_text_suits(folder):
    text(folder)
    values = init("topics", "--model", "--language", "en")
    (run,) = values["pretrain"]
    size = sum(len(row["body"].encode()) for row in ROWS)
    assert run["model"] == "gpt2-demo"  # there is none smaller
    assert run["tokens"] <= 4 * size / 4 * 1.06  # four passes at four bytes a token
    assert values["language"] == {"keep": {"en": 0.5}}
    recipes.load(Path("topics.yaml"), BuildRecipe)


def test_without_files_it_asks_on_a_terminal_only(folder, monkeypatch):
    jsonl(folder)
    refused = offline("init")
    assert refused.exit_code == 1
    assert "name the files or folders with text" in refused.stderr
    monkeypatch.setattr(starting, "_on_terminal", lambda: True)
    from typer.testing import CliRunner

    from flows import cli

    asked = CliRunner().invoke(cli.app, ["init"], input="topics\ny\ntitle\n")
    assert asked.exit_code == 0, asked.output
    values = yaml.safe_load(Path("topics.yaml").read_text())
    assert values["sources"][0]["text_field"] == "title"
    assert values["pretrain"]


@pytest.mark.parametrize(
    ("data", "words"),
    [(b"\x89PNG\0", "is binary data"), (b"", "is empty"), (b'[{"a": "b"}]', "is one JSON document")],
)
def test_files_without_text_are_refused(folder, data, words):
    (folder / "x").write_bytes(data)
    refused = offline("init", "topics/x")
    assert refused.exit_code == 1
    assert words in " ".join(refused.stderr.split())


def test_the_commands_of_the_guide_run_as_they_stand(folder):
    guide = (ROOT / "docs" / "guide.md").read_text("utf-8")
    (block,) = re.findall(r"^```sh\n(mill init .*?)^```", guide, re.M | re.S)
    text(folder)
    folder.rename("texts")
    for line in block.splitlines():
        command, _, _ = line.partition("#")
        command, _, target = command.partition(">")
        _, *arguments = command.split()
        found = offline(*arguments)
        assert found.exit_code == 0, found.stderr
        if target:
            Path(target.strip()).write_text(found.stdout)
    assert Path("texts.yaml").exists()
    assert json.loads(Path("recipe.schema.json").read_text())["title"] == "Recipe"


def test_languages_are_found_where_the_model_is_there(folder, monkeypatch):
    monkeypatch.setenv("CORPUSMILL_MODELS", str(ROOT / "data" / "models"))
    text(folder)
    values = init("topics")
    assert values["language"] == {"keep": {"en": 0.5}}
    assert set(values["heuristics"]) == {"gopher_quality", "gopher_repetition", "c4", "fineweb"}
    assert re.search(r"^# en [0-9.]+ %.* of 24 documents looked at", Path("topics.yaml").read_text(), re.M)
    assert offline("check", "topics.yaml").exit_code == 0
    (folder / "short.jsonl").write_text('{"text": "Ein kurzer Satz in deutscher Sprache."}\n' * 30)
    values = init("topics/short.jsonl")
    assert values["language"] == {"keep": {"de": 0.5}}
    assert "heuristics" not in values
