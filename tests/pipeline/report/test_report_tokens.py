"""The way back from packed tokens to the balance plan: what is measured, and what the recipe makes of it."""

from __future__ import annotations

import json
import pydoc_data.topics
import random
import re
from pathlib import Path

import pytest
import yaml

from pipeline import report
from pipeline.build.build import Build
from pipeline.curation import recipe as recipes
from pipeline.report import render, steps, tables, tokens
from pipeline.store.packed_tokens import PackedTokens
from tests.helpers.building import make

BUDGET = 80_000


def recipe_over(folder: Path, **balance) -> recipes.Recipe:
    """English prose, and rows of digits, whose tokens are far shorter; as much of each is asked for."""
    source = random.Random(5)
    numbers = [" ".join(str(source.getrandbits(60)) for _ in range(20)) for _ in range(400)]
    for name, texts in (("prose", list(pydoc_data.topics.topics.values())), ("numbers", numbers)):
        lines = "".join(json.dumps({"text": text}) + "\n" for text in texts)
        (folder / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    return recipes.Recipe.model_validate(
        {
            "name": "mixed",
            "sources": [
                {"name": name, "kind": "jsonl", "path": str(folder / f"{name}.jsonl"), "domain": name}
                for name in ("prose", "numbers")
            ],
            "balance": {"strategy": "unimax", "tokens": BUDGET, **balance},
            "tokenizers": [{"name": "bpe", "algorithm": "bpe", "vocab_size": 2000}],
            "canaries": False,
        }
    )


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Build]:
    folder = tmp_path_factory.mktemp("tokens")
    return folder, make(recipe_over(folder), folder / "build")[0]


def test_tokens_by_domain_are_those_of_the_packed_documents(built):
    _, build = built
    found = tokens.by_domain(build)
    counted = {}
    for split in ("train", "heldout"):
        for row in PackedTokens(build.path("tokens", "bpe", split)).documents.to_pylist():
            counted[row["domain"]] = counted.get(row["domain"], 0) + row["length"]
    assert found is not None
    assert {row["domain"]: row["tokens"] for row in found["rows"]} == counted
    assert found["total"]["tokens"] == sum(counted.values())


def test_the_advice_put_into_the_recipe_makes_the_budget_one_of_real_tokens(built):
    folder, build = built
    before = tokens.by_domain(build)
    assert before is not None
    assert before["advice"] is not None
    assert {row["domain"]: row["assumed"] for row in before["rows"]} == {"prose": 4.0, "numbers": 4.0}
    missed = max(abs(row["read"] / (BUDGET / 2) - 1) for row in before["rows"])
    again, _ = make(recipe_over(folder, **yaml.safe_load(before["advice"])), folder / "again")
    after = tokens.by_domain(again)
    assert after is not None
    assert max(abs(row["read"] / (BUDGET / 2) - 1) for row in after["rows"]) < 0.1 < missed


def test_tokens_of_an_earlier_corpus_are_not_shown(built):
    folder, build = built
    changed = build.recipe.model_copy(update={"tokenizers": []})
    make(changed.model_copy(update={"balance": None}), folder / "build")
    assert tokens.by_domain(Build(build.root, build.recipe)) is None
    make(build.recipe, folder / "build")
    assert tokens.by_domain(build) is not None


def test_a_recipe_that_names_its_tokenizer_is_given_no_advice(built):
    folder, build = built
    recipe = recipe_over(folder, tokenizer=build.path("tokenizers", "bpe"))
    found = tokens.by_domain(make(recipe, folder / "named")[0])
    assert found is not None
    assert found["advice"] is None


def test_ratios_that_the_recipe_gives_for_other_domains_stay_in_the_advice(built):
    folder, _ = built
    found = tokens.by_domain(make(recipe_over(folder, bytes_per_token={"*": 3.5, "law": 5.0}), folder / "given")[0])
    assert found is not None
    ratios = yaml.safe_load(found["advice"])["bytes_per_token"]
    assert set(ratios) == {"*", "law", "prose", "numbers"}
    assert (ratios["*"], ratios["law"]) == (3.5, 5.0)


def test_the_page_tells_the_tokens_of_each_domain_and_the_advice(built):
    _, build = built
    found = tokens.by_domain(build)
    assert found is not None
    for step in report.steps():
        for item in step.items(build):
            step.work(build, item)
    page = Path(report.render(build)).read_text(encoding="utf-8")
    for row in tables.tokens_by_domain(found).rows:
        assert all(cell in page for cell in row)
    assert found["advice"] in page


def test_the_account_of_tokens_begins_a_paragraph(built):
    build = built[1]
    for step in steps():
        for item in step.items(build):
            step.work(build, item)
    page = Path(render(build)).read_text("utf-8")
    assert re.findall(r"<p[^>]*>Tokens of (\w+): [\d,]+ of text", page) == ["bpe"]
