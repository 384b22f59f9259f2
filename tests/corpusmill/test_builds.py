from __future__ import annotations

import shutil

import pytest

import corpusmill
from tests.helpers import building


def test_the_corpus_is_the_same_by_document_by_table_and_as_a_dataset(built):
    build = corpusmill.open_build(built.root)
    documents = list(corpusmill.documents(build))
    assert {row["id"]: (row["text"], row["domain"], row["repeats"]) for row in documents} == building.curated(built)
    assert [row for table in corpusmill.tables(build) for row in table.to_pylist()] == documents
    assert corpusmill.dataset(build).to_list() == documents


def test_an_opened_build_has_the_recipe_that_it_ran(built):
    build = corpusmill.open_build(built.root)
    assert build.stages == built.stages
    assert build.recipe.minhash == built.recipe.minhash


def test_why_and_whatif_answer_of_an_opened_build(built):
    build = corpusmill.open_build(built.root)
    kept = next(iter(building.curated(built)))
    assert corpusmill.why(build, kept).dropped_by is None
    answer = corpusmill.whatif(build, {"gopher_quality.min_words": 100_000})
    assert answer.before["stages"][-1]["documents"] == len(building.curated(built))
    assert answer.after["stages"][-1]["documents"] == 0


def test_what_a_user_can_put_right_is_a_mill_error(built, tmp_path):
    build = corpusmill.open_build(built.root)
    with pytest.raises(corpusmill.MillError, match="no finished build here"):
        corpusmill.open_build(tmp_path)
    with pytest.raises(corpusmill.MillError, match="Nearest: "):
        corpusmill.why(build, "topics/no#1")
    with pytest.raises(corpusmill.MillError, match="min_wrds"):
        corpusmill.whatif(build, {"heuristics.gopher_quality.min_wrds": 3})


def test_a_shard_that_is_gone_is_named(built, tmp_path):
    shutil.copytree(built.root, tmp_path / "copy", ignore=shutil.ignore_patterns("data-00000*"))
    with pytest.raises(corpusmill.MillError, match="data-00000"):
        list(corpusmill.documents(corpusmill.open_build(tmp_path / "copy")))
