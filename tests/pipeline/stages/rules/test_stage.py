"""Own rules are rules like any other: judged, accounted for, explained, and asked about."""

from __future__ import annotations

import pytest

from pipeline.build.build import Build
from pipeline.curation import recipe as recipes
from pipeline.curation.settings import with_settings
from pipeline.questions import whatif, why
from pipeline.questions.overlap import overlap
from pipeline.questions.sample import sample
from pipeline.store import files
from tests.helpers import asking, building

RULES = {
    "short": "word_count < 150",
    "dense": "characters / word_count > 6.6",
    "german_or_linked": 'language == "de" or ("site2" in url and stop_word_count <= 7)',
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Build:
    root = tmp_path_factory.mktemp("rules")
    return asking.make(asking.values(root, rules=RULES, language={"keep": {"*": 0}}), root / "base")


def dropped(build: Build) -> dict[str, list[str]]:
    """The ids that each rule of the stage dropped."""
    found: dict[str, list[str]] = {}
    for shard in build.shards():
        ids, names = build.documents(shard)["id"].to_pylist(), build.ledger("rules", shard)["dropped_by"].to_pylist()
        for document, name in zip(ids, names, strict=True):
            if name:
                found.setdefault(name, []).append(document)
    return found


def test_each_rule_drops_and_every_document_is_accounted_for(made: Build):
    found = dropped(made)
    assert set(found) == {f"rules.{name}" for name in RULES}
    stage = next(entry for entry in files.read_json(made.path("funnel.json"))["stages"] if entry["stage"] == "rules")
    assert {name: entry["documents"] for name, entry in stage["dropped"].items()} == {
        name: len(ids) for name, ids in found.items()
    }


def test_why_shows_the_expression_its_value_and_the_threshold(made: Build):
    found = dropped(made)
    last = why.why(made, found["rules.short"][0]).passages[-1]
    assert (last.stage, last.dropped_by, last.threshold) == ("rules", "rules.short", 150)
    assert last.value is not None
    assert last.value < 150
    last = why.why(made, found["rules.dense"][0]).passages[-1]
    check = next(check for check in last.checks if check.rule == "rules.dense")
    assert (check.signal, check.threshold) == ("characters / word_count", 6.6)
    assert check.value == last.value > 6.6  # type: ignore[operator]
    last = why.why(made, found["rules.german_or_linked"][0]).passages[-1]
    assert (last.value, last.threshold) == (1, 0)
    assert "language == 'de' or ('site2' in url and stop_word_count <= 7)" in last.signals


def test_sample_and_overlap_know_them(made: Build):
    near = sample(made, "rules.short", 3, near_threshold=True)
    assert [entry.kept for entry in near] == [False] * 3 + [True] * 3
    assert all((entry.value < 150) != entry.kept for entry in near)
    assert {entry.rule for entry in overlap(made).rules} >= {f"rules.{name}" for name in RULES}


@pytest.mark.parametrize(
    "settings",
    [
        {"rules.short": "word_count < 250"},
        {"rules.dense": "characters / stop_word_count > 400"},
        {"rules.long": "bytes > 5000 and word_count is not None"},
        {"language.keep": {"en": 0.85}, "rules.dense": "characters > 5000"},
    ],
    ids=str,
)
def test_a_changed_rule_is_answered_as_a_real_run_would(made: Build, tmp_path, settings: dict):
    recipe = with_settings(made.recipe, settings)
    answer = whatif.ask(made, recipe)
    real, _ = building.make(recipe, tmp_path)
    assert answer.after["stages"] == files.read_json(real.path("funnel.json"))["stages"]
    assert answer.after["stages"] != answer.before["stages"]
    assert "Own rules" not in answer.measured


def refused(**sections) -> str:
    source = {"name": "x", "kind": "jsonl", "path": "x.jsonl"}
    with pytest.raises(recipes.WrongRecipe) as error:
        recipes.parse(
            recipes.yaml.safe_dump({"name": "x", "sources": [source], **sections}, sort_keys=False), recipes.Recipe
        )
    return str(error.value)


def test_a_wrong_rule_is_refused_before_any_work():
    message = refused(heuristics={"gopher_quality": {}}, rules={"short": "word_cuont < 3"})
    assert (
        "line 9: recipe: `rules.short`: no signal 'word_cuont' is measured before this rule; did you mean word"
        in message
    )
    assert "rules.short: not an expression" in refused(rules={"short": "a b"})
    assert "rules.Short" in refused(rules={"Short": "bytes < 3"})
    assert "rules: Dictionary should have at least 1 item" in refused(rules={})


def test_only_signals_that_this_recipe_measures_may_be_named():
    heuristics = {"gopher_quality": {}, "gopher_repetition": {"max_top_ngram_characters": {2: None}}}
    recipes.Recipe.model_validate(
        {
            "name": "x",
            "sources": [{"name": "x", "kind": "jsonl", "path": "x.jsonl"}],
            "heuristics": heuristics,
            "rules": {"a": "top_2gram_character_fraction > .2 or bytes < 3 or id == domain"},
        }
    )
    assert "no signal 'top_3gram_character_fraction'" in refused(
        heuristics=heuristics, rules={"a": "top_3gram_character_fraction > .2"}
    )
    assert "no signal 'languages'" in refused(language={}, rules={"a": "languages == 'en'"})
    assert "no signal 'perplexity'" in refused(language={}, rules={"a": "perplexity > 3"})
