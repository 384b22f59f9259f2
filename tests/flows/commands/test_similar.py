"""`mill similar` on a small build."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from flows import cli
from pipeline.build.build import Build
from pipeline.curation.recipe import Recipe
from pipeline.stages.dedup import minhash
from pipeline.store import files
from tests.helpers.dedup_corpus import run, write_documents

TEXTS = [
    "the first text has these eight plain words",
    "the first text has these eight plain words",
    "another text of quite other words than that one",
]


@pytest.fixture
def mill(tmp_path):
    source = {"name": "web", "kind": "jsonl", "path": "web.jsonl"}
    recipe = Recipe.model_validate({"name": "near", "sources": [source], "minhash": {"ngram": 2}, "canaries": False})
    build = Build(str(tmp_path / "near"), recipe)
    write_documents(build, TEXTS, shard_size=1)
    run(build, minhash.steps())
    files.write_json(build.path("recipe.json"), recipe.model_dump(mode="json"))
    files.write_json(build.path("build.json"), {"recipe": "near.yaml", "runs": []})
    options = ["--builds", str(tmp_path)]
    return lambda *words: CliRunner().invoke(cli.app, ["similar", *words, *options], env={"COLUMNS": "120"})


def test_a_near_copy_is_listed_with_its_exact_similarity(mill, tmp_path):
    (tmp_path / "near.txt").write_text(TEXTS[0] + " more", "utf-8")  # 7 pairs of words, and one of its own
    shown = mill(str(tmp_path / "near.txt")).output
    assert "doc-00000" in shown
    assert "0.8750" in shown
    assert "in the corpus" in shown
    assert "dropped by" in shown  # its copy
    assert "doc-00002" not in shown
    assert "no document" in mill("--text", "nothing like it anywhere at all").output


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        ([], "give either a FILE or --text"),
        (["--text", ""], "give a longer text"),
        (["--text", "one"], "give a longer text"),
        (["--text", "two words", "--threshold", "2"], "at most 1"),
    ],
)
def test_mistakes_are_one_message(mill, words, remedy):
    done = mill(*words)
    assert done.exit_code == 1
    assert remedy in " ".join(done.output.split())
