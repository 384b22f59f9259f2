"""What-if answers against real runs of the changed recipe, on Python's own documentation."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from pipeline import report
from pipeline.build.build import Build, measure_view
from pipeline.curation import recipe as recipes
from pipeline.curation.settings import with_settings
from pipeline.questions import whatif
from pipeline.store import files
from tests.helpers import asking, building


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> tuple[Build, dict[str, Any]]:
    """A finished build of topics, halves of them (near-duplicates of the whole), copies, and a few other languages."""
    root = tmp_path_factory.mktemp("whatif")
    values = asking.values(root)
    return asking.make(values, root / "base"), values


def kept(build: Build) -> dict[str, tuple[str, int]]:
    """Text and repeats of every document that the stages leave."""
    found = {}
    for shard in build.shards():
        view = build.view(shard)
        columns = (view.documents["id"], view.texts, view.signals["repeats"])
        found |= {name: rest for name, *rest in zip(*(column.to_pylist() for column in columns), strict=True)}
    return found


def changed(build: Build, **settings: Any) -> recipes.Recipe:
    return with_settings(build.recipe, {name.replace("__", "."): value for name, value in settings.items()})


THRESHOLDS = st.fixed_dictionaries(
    {},
    optional={
        "urls__max_banned_words": st.integers(0, 1),
        "language__keep": st.fixed_dictionaries(
            {"en": st.floats(0, 1)}, optional={"de": st.just(0.1), "*": st.just(0.2)}
        ),
        "heuristics__gopher_quality__min_words": st.integers(0, 600),
        "heuristics__gopher_quality__min_stop_words": st.integers(0, 8),
        "heuristics__gopher_repetition__max_duplicate_line_characters": st.floats(0, 0.3),
        "heuristics__c4__min_sentences": st.integers(0, 40),
        "heuristics__c4__drop_curly_bracket": st.booleans(),
        "heuristics__c4__min_words_per_line": st.integers(0, 6),
        "heuristics__fineweb__max_newlines_per_word": st.floats(0, 1),
        "minhash__threshold": st.floats(0.6, 0.95),
    },
)


@pytest.mark.slow
@settings(max_examples=8)
@given(THRESHOLDS)
def test_the_answer_is_what_a_real_run_makes(base, tmp_path_factory, thresholds):
    same_as_a_real_run(base[0], thresholds, tmp_path_factory)


def same_as_a_real_run(build: Build, thresholds: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> None:
    recipe = changed(build, **thresholds)
    with whatif.trial(build, recipe) as made:
        made.run()
        assert list(made.notes()) == []
        answer = kept(made.new)
    real = Build(str(tmp_path_factory.mktemp("real")), recipe)
    for step in building.steps(real):
        if step.name == "corpus":
            break
        for item in step.items(real):
            step.work(real, item)
    assert answer == kept(real)


@pytest.fixture(scope="module")
def on_page(base) -> dict[str, dict[str, Any]]:
    """What the page of the report says of each setting whose threshold can be dragged."""
    for step in report.steps():
        for shard in step.items(base[0]):
            step.work(base[0], shard)
    page = Path(report.render(base[0])).read_text("utf-8")
    curves = [json.loads(html.unescape(curve)) for curve in re.findall(r'data-curve="([^"]*)"', page)]
    return {curve["setting"]: curve for curve in curves}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("setting", "near"),
    [
        ("language.keep.en", 0.45),
        ("language.keep.en", 0.9),
        ("heuristics.gopher_quality.min_words", 200),  # the default is another in some languages
        ("heuristics.gopher_quality.max_mean_word_length", 4.95),
        ("heuristics.gopher_repetition.max_duplicate_ngram_characters.5", 0.035),
        ("heuristics.fineweb.max_newlines_per_word", 0.12),
    ],
)
def test_a_dragged_threshold_of_the_report_is_the_row_of_its_stage(base, on_page, setting: str, near: float):
    curve = on_page[setting]
    index = min(range(len(curve["at"])), key=lambda index: abs(curve["at"][index] - near))
    answer = whatif.ask(base[0], with_settings(base[0].recipe, {setting: curve["at"][index]}))
    rows = {entry["stage"]: (entry["documents"], entry["bytes"]) for entry in answer.after["stages"]}
    told = list(zip(curve["documents"], curve["bytes"], strict=True))
    assert told[index] == rows[setting.partition(".")[0]]
    assert told[index] != told[curve["at"].index(curve["value"])], "the threshold decides nothing: this proves little"


@pytest.fixture(scope="module")
def classified(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """The same documents through the stages of words, classifiers, lines and own rules, each dropping some."""
    root = tmp_path_factory.mktemp("classified")
    (root / "bad.txt").write_text("class\nexception handler\nraise\n", "utf-8")
    values = asking.values(root)
    sides = {"code": [], "prose": []}
    for number, text in enumerate(asking.TOPICS.values()):
        sides["code" if text.count("(") > len(text) / 150 else "prose"].append({"id": str(number), "text": text[:2000]})
    for side, texts in sides.items():
        (root / f"{side}.jsonl").write_text("".join(json.dumps(text) + "\n" for text in texts), "utf-8")
    code, prose = ([{"name": n, "kind": "jsonl", "path": str(root / f"{n}.jsonl")}] for n in ("code", "prose"))
    small = {"dimensions": 8, "buckets": 1000, "heldout": 0}
    values |= {
        "normalise": {},
        "language": {"keep": {"en": 0.3}, "lines": {"keep": ["en"], "min_fraction": 0.5}},
        "heuristics": {"gopher_quality": {"min_words_with_letter": 0.5}},
        "bad_words": {"lists": {"en": str(root / "bad.txt")}, "max_count": 20},
        "toxicity": {"train": {"positive": code, "negative": prose, **small}, "maximum": 0.3},
        "quality": {"train": {"positive": prose, "negative": code, **small}, "minimum": 0.72},
        "pii": {},
        "rules": {"shouting": "hashes_per_word > 0.05", "long": "characters / word_count > 6 and bytes > 3000"},
        "passages": {},
    }
    return asking.make(values, root / "base")


CLASSIFIED = st.fixed_dictionaries(
    {},
    optional={
        "language__keep": st.fixed_dictionaries({"en": st.floats(0, 1)}, optional={"*": st.just(0.2)}),
        "language__lines__min_fraction": st.none() | st.floats(0, 1),
        "language__lines__keep": st.sampled_from([None, ["en", "de", "fr"], ["de"]]),
        "heuristics__gopher_quality__min_words": st.integers(0, 400),
        "bad_words__max_count": st.none() | st.integers(0, 8),
        "bad_words__max_fraction": st.none() | st.floats(0, 0.02),
        "toxicity__maximum": st.floats(0.2, 0.4),
        "quality__minimum": st.floats(0.6, 0.8),
        "rules": st.fixed_dictionaries(
            {"long": st.integers(5, 8).map("characters / word_count > {}".format)},
            optional={"either": st.just("toxicity_score > 0.28 or bad_word_count > 3 and bytes < 2500")},
        ),
    },
)  # fmt: skip


def test_every_stage_of_that_build_drops_something(classified: Build):
    stages = {entry["stage"]: entry["dropped"] for entry in files.read_json(classified.path("funnel.json"))["stages"]}
    for name in ("language", "bad_words", "toxicity", "quality", "rules"):
        assert stages[name], f"{name} dropped nothing: the test below would prove little"


@pytest.mark.slow
@settings(max_examples=6)
@given(CLASSIFIED)
def test_the_answer_is_a_real_runs_for_words_classifiers_lines_and_own_rules(classified, tmp_path_factory, thresholds):
    same_as_a_real_run(classified, thresholds, tmp_path_factory)


@pytest.mark.slow
def test_only_documents_that_come_alive_are_measured(base):
    build, _ = base
    unchanged = whatif.ask(build, build.recipe)
    assert set(unchanged.measured.values()) == {0}
    assert unchanged.before == unchanged.after
    stricter = whatif.ask(build, changed(build, heuristics__gopher_quality__min_words=300))
    assert set(stricter.measured.values()) == {0}
    looser = whatif.ask(build, changed(build, language__keep={"*": 0.0}))
    dropped = sum(entry["documents"] for entry in looser.before["stages"][2]["dropped"].values())
    assert looser.before["stages"][2]["stage"] == "language"
    assert looser.measured["Language ID"] == 0
    assert looser.measured["Heuristic filters"] == dropped > 0


def test_the_account_of_the_build_is_its_funnel(base):
    build, _ = base
    funnel = files.read_json(build.path("funnel.json"))
    assert whatif.ask(build, build.recipe).before["stages"] == funnel["stages"]


def test_a_question_writes_nothing_into_the_build(base):
    build, _ = base
    before = building.contents(Path(build.root))
    whatif.ask(build, changed(build, language__keep={"*": 0.0}, exact__normalise="none"))
    assert building.contents(Path(build.root)) == before
    assert [path.name for path in Path(build.root).iterdir() if path.name.startswith(".whatif")] == []


@pytest.mark.slow
def test_a_field_that_only_rules_read_changes_no_measurement(base):
    """Each threshold by itself: were it read by ``measure``, too, stored signals would be out of date."""
    build, _ = base
    shard = build.shards()[0]
    for name in ("urls", "language", "heuristics"):
        stage, config = whatif.stage_of(build, name), getattr(build.recipe, name)
        assert stage is not None
        view = build.view(shard, name)
        stored = measure_view(stage, build, view)
        tried = 0
        for path, value in leaves(config):
            change = (path, other(value))
            if value is None or not whatif.only_judges(stage, config, change):
                continue
            tried += 1
            again = Build(build.root, build.recipe.model_copy(update={name: whatif.replaced(config, *change)}))
            found = measure_view(stage, again, view)
            assert {key: found[key].to_pylist() for key in stored} == {k: v.to_pylist() for k, v in stored.items()}
        assert tried > 0


def leaves(config: Any, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    if not isinstance(config, BaseModel):
        return [(path, config)]
    return [leaf for name in type(config).model_fields for leaf in leaves(getattr(config, name), (*path, name))]


def other(value: Any) -> Any:
    match value:
        case bool():
            return not value
        case int() | float():
            return value * 2 + 1
        case dict():
            return {key: other(limit) for key, limit in value.items()}
        case _:
            return value


def test_a_rule_name_stands_for_its_field_and_an_unknown_field_is_refused_with_the_nearest(base):
    build, _ = base
    recipe = with_settings(build.recipe, {"gopher_quality.min_words": 80, "language.keep.de": 0.4})
    assert recipe.heuristics.gopher_quality.min_words == 80  # type: ignore[union-attr]
    assert recipe.language.keep == {"en": 0.5, "de": 0.4}  # type: ignore[union-attr]
    wrong = r"^heuristics.gopher_quality.min_wrods: unknown field; did you mean `min_words`\?$"
    with pytest.raises(recipes.WrongRecipe, match=wrong):
        with_settings(build.recipe, {"heuristics.gopher_quality.min_wrods": 80})


def test_other_documents_or_an_unfinished_build_are_refused(base, tmp_path):
    build, _ = base
    with pytest.raises(whatif.CannotAnswer, match="seed: the build has other documents"):
        whatif.ask(build, build.recipe.model_copy(update={"seed": 6}))
    with pytest.raises(whatif.CannotAnswer, match="not finished"):
        whatif.ask(Build(str(tmp_path), build.recipe), build.recipe)


def test_models_trained_in_the_build_stay_and_the_answer_says_so(base, tmp_path):
    _build, values = base
    values = {**values, "perplexity": {"order": 2, "estimator": "own"}, "minhash": None, "heuristics": None}
    made, _ = building.make(recipes.Recipe.model_validate(values), tmp_path / "trained")
    dropped = changed(made, perplexity__drop={"lowest": 0.1, "highest": 0.3})
    answer = whatif.ask(made, dropped)
    assert (answer.notes, set(answer.measured.values())) == ((), {0})
    real, _ = building.make(dropped, tmp_path / "again")
    assert answer.after["stages"] == files.read_json(real.path("funnel.json"))["stages"]
    looser = whatif.ask(made, changed(made, language__keep={"en": 0.0}))
    assert looser.notes[0].startswith("Perplexity is that of the language models as this build trained them")
