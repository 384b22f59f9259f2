"""The docs site builds without a warning, and what its pages show is right."""

from __future__ import annotations

import html
import os
import pydoc_data.topics
import re
import shlex
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
from typer.testing import CliRunner

import corpusmill
from flows.cli import app
from flows.views import recipe_fields
from pipeline.curation import recipe as recipes
from pipeline.store import recipe_file
from tests.pipeline.sources.test_warc import archive
from training.recipe.schema import schema
from training.recipe.sections import BuildRecipe

ROOT = Path(__file__).parents[1]
PAGES = [(ROOT / "docs" / name).read_text("utf-8") for name in ("recipes.md", "laptop.md")]
RECIPES = [recipe for page in PAGES for recipe in re.findall(r"^```yaml\n(.*?)^```", page, re.M | re.S)]


@pytest.mark.slow
def test_the_site_builds_without_a_warning_and_loads_nothing_from_elsewhere(tmp_path):
    pytest.importorskip("mkdocs")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", tmp_path / "site"],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    pages = {path.parent.name: path.read_text("utf-8") for path in (tmp_path / "site").glob("*/index.html")}
    assert {path.stem for path in (ROOT / "docs").glob("*.md")} - {"index"} | {"fields"} <= pages.keys()
    for field in (field.name for section in ("minhash", "heuristics") for field in recipe_fields.fields(section)):
        assert f"<code>{field}</code>" in pages["fields"]
    for name in set(corpusmill.__all__) - {"__version__"}:
        place = getattr(corpusmill, name)
        assert f'id="{place.__module__}.{place.__qualname__}"' in pages["api"]
    for name, page in pages.items():
        assert re.findall(r'<(?:script|img|iframe)[^>]+src="(?:https?:)?//[^"]+', page) == [], name
        assert re.findall(r'<link rel="(?!canonical)[^>]+href="(?:https?:)?//[^"]+', page) == [], name


@pytest.mark.slow
def test_the_first_ten_minutes_go_as_they_say(tmp_path, monkeypatch):
    page = (ROOT / "docs" / "index.md").read_text("utf-8").partition("## Your own data")[2]
    lines = re.findall(r"^mill .*$", page, re.MULTILINE)
    assert len(lines) == 6
    texts = tmp_path / "texts"
    texts.mkdir()
    for name, (_, text) in zip("abcdefgh", sorted(pydoc_data.topics.topics.items()), strict=False):
        (texts / f"{name}.txt").write_text(text, "utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")  # a build does not depend on it
    for line in lines:
        words = shlex.split(line, comments=True)[1:]
        done = CliRunner().invoke(app, [word for word in words if word != "--open"])
        assert done.exit_code == 0, f"{line}: {done.output}"
    assert (tmp_path / "data" / "builds" / "texts" / "report" / "index.html").is_file()


def prose() -> list[str]:
    """Paragraphs of Python's language reference that are sentences."""
    parts = [part for _, text in sorted(pydoc_data.topics.topics.items()) for part in text.split("\n\n")]
    return [part for part in parts if len(part) > 200 and part.rstrip().endswith(".")]


@pytest.mark.slow
def test_the_way_from_a_crawl_file_to_a_model_goes_as_its_page_says(tmp_path, monkeypatch):
    """In small, and by `mill build` where the page serves a form, which tests/flows/test_served_runs.py fills in."""
    (page, text), models = (PAGES[-1], RECIPES[-1]), str(Path("data/models").resolve())
    smaller = {
        "vocab_size: 16384": "vocab_size: 512",
        "n_layer: 6, n_embd: 288, n_head: 6": "n_layer: 1, n_embd: 16, n_head: 2",
    }
    smaller |= {
        "sequence_length: 256": "sequence_length: 32",
        "batch_size: 32": "batch_size: 16",
        "epochs: 4": "epochs: 1",
    }
    for before, after in smaller.items():
        assert text.count(before) == 1
        text = text.replace(before, after)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CORPUSMILL_MODELS", models)
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    Path("laptop.yaml").write_text(text, "utf-8")
    Path("data", "drop").mkdir(parents=True)
    paragraphs = ["<p>" + html.escape(" ".join(part.split())) + "</p>" for part in prose()]
    bodies = ["".join(paragraphs[first : first + 8]).encode() for first in range(0, len(paragraphs), 8)]
    records = [("response", {"Content-Type": "text/html"}, body) for body in bodies]
    Path("data", "drop", "crawl.warc.gz").write_bytes(archive(records, compressed=True))
    lines = re.findall(r"^mill .*$", page, re.MULTILINE)
    served = ("mill models pull", "mill ui", "mill serve", "mill watch")
    ended = [line for line in lines if not line.startswith(served)]
    assert (len(lines), len(ended)) == (8, 3)
    for line in [ended[0], "mill build laptop.yaml --workers 1", *ended[1:]]:
        words = shlex.split(line, comments=True)[1:]
        done = CliRunner().invoke(app, [word for word in words if word != "--open"])
        assert done.exit_code == 0, f"{line}: {done.output}"
    from transformers import AutoModelForCausalLM  # with torch: not what the other tests of this file need

    AutoModelForCausalLM.from_pretrained(Path("data/builds/laptop/models/ten-million"))


@pytest.mark.parametrize("text", RECIPES, ids=lambda text: text.split()[1])
def test_the_recipes_are_ones(text):
    _, values = recipe_file.read(text, "recipes.md")
    assert [error.message for error in jsonschema.Draft202012Validator(schema()).iter_errors(values)] == []
    recipes.checked(values, BuildRecipe)


def test_there_is_a_recipe_for_each_heading():
    headings = re.findall(r"^## ", (ROOT / "docs" / "recipes.md").read_text("utf-8"), re.MULTILINE)
    assert (len(RECIPES), len(headings)) == (5, 4)  # and the one of the page laptop.md


def test_the_model_of_the_laptop_page_has_ten_million_parameters():
    _, values = recipe_file.read(RECIPES[-1], "laptop.md")
    (run,), (tokenizer,) = values["pretrain"], values["tokenizers"]
    width, layers = run["model"]["n_embd"], run["model"]["n_layer"]
    embeddings = (tokenizer["vocab_size"] + run["sequence_length"]) * width
    assert 10e6 < embeddings + layers * (12 * width**2 + 13 * width) + 2 * width < 11e6  # GPT-2, tied


def test_every_section_of_the_report_is_explained():
    page = (ROOT / "pipeline" / "report" / "page.html").read_text("utf-8")
    explained = re.findall(r"^\| ([^|]+?) \|", (ROOT / "docs" / "report.md").read_text("utf-8"), re.MULTILINE)
    assert explained[1:] == re.findall(r"<h2>([^<]+)", page)
