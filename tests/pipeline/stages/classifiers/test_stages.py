"""Toxicity and quality: trained in the build or brought, judged by probability, measured on texts held out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.build.build import Build
from pipeline.build.stage import Batch
from pipeline.curation import recipe as recipes
from pipeline.curation.settings import with_settings
from pipeline.questions import whatif
from pipeline.stages.classifiers import quality, steps, toxicity
from pipeline.store import files
from tests.helpers import building

KIND = ["thanks", "for", "the", "kind", "and", "helpful", "reply", "my", "friend", "have", "a", "lovely", "day"]
RUDE = ["you", "stupid", "awful", "idiot", "shut", "up", "nobody", "likes", "your", "rotten", "trash", "talk"]
SHARED = ["the", "a", "of", "to", "and", "in", "it", "is", "was", "on", "with", "as"]


def texts(words: list[str], count: int, seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(words + SHARED, 12)) for _ in range(count)]


def write(path: Path, found: list[str]) -> None:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in found), "utf-8")


def source(name: str, path: Path) -> dict[str, str]:
    return {"name": name, "kind": "jsonl", "path": str(path)}


@pytest.fixture(scope="module")
def values(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A recipe whose documents are 40 kind and 40 rude texts, and a classifier learned from others."""
    folder = tmp_path_factory.mktemp("classifiers")
    write(folder / "in.jsonl", texts(KIND, 40, 1) + texts(RUDE, 40, 2))
    for part in range(2):
        write(folder / f"kind-{part}.jsonl", texts(KIND, 150, 3 + part))
        write(folder / f"rude-{part}.jsonl", texts(RUDE, 150, 5 + part))
    train = {
        "positive": [source("rude", folder / "rude-*.jsonl")],
        "negative": [source("kind", folder / "kind-*.jsonl")],
        "dimensions": 8,
        "buckets": 1000,
    }
    return {"name": "x", "sources": [source("in", folder / "in.jsonl")], "toxicity": {"train": train}}


@pytest.fixture(scope="module")
def made(values: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Build:
    return make(values, tmp_path_factory.mktemp("made"))


def make(values: dict[str, Any], root: Path) -> Build:
    return building.make(recipes.Recipe.model_validate(values), root)[0]


def model(build: Build) -> bytes:
    return Path(build.path("models", "classifiers", "toxicity.bin")).read_bytes()


def test_a_classifier_trained_in_the_build_drops_what_is_like_its_positive_texts(made: Build):
    kept = [text for text, _, _ in building.curated(made).values()]
    rude = [text for text in kept if set(text.split()) & set(RUDE)]
    assert len(kept) == 40
    assert not rude
    dropped = files.read_json(made.path("funnel.json"))["stages"][1]["dropped"]
    assert dropped["toxicity.maximum"]["documents"] == 40


def test_it_is_measured_on_texts_that_it_has_not_seen(made: Build):
    found = steps.scores(made, "toxicity")
    assert found is not None
    assert 20 < found["texts"] < 120
    assert found["accuracy"] > found["majority"] + 0.3
    assert steps.scores(made, "quality") is None


def test_the_model_is_the_same_for_files_in_any_order_and_texts_given_twice(made: Build, values, tmp_path: Path):
    train = values["toxicity"]["train"]
    paths = [str(Path(train["positive"][0]["path"]).with_name(f"rude-{part}.jsonl")) for part in (1, 0, 1)]
    sources = [source(f"rude{number}", Path(path)) for number, path in enumerate(paths)]
    again = make({**values, "toxicity": {"train": {**train, "positive": sources}}}, tmp_path)
    assert model(again) == model(made)


def test_it_is_trained_again_only_when_its_texts_or_settings_change(values, tmp_path: Path):
    train = values["toxicity"]["train"]
    write(tmp_path / "rude.jsonl", texts(RUDE, 100, 9))
    changed = {**values, "toxicity": {"train": {**train, "positive": [source("rude", tmp_path / "rude.jsonl")]}}}
    recipe = recipes.Recipe.model_validate(changed)
    reused = lambda recipe: {  # noqa: E731
        name: all(outcome.reused for outcome in outcomes)
        for name, outcomes in building.make(recipe, tmp_path / "build")[1].items()
        if name.startswith("toxicity") and outcomes
    }
    assert reused(recipe) == {"toxicity.train": False, "toxicity": False}
    assert reused(recipe) == {"toxicity.train": True, "toxicity": True}
    stricter = recipe.model_copy(update={"toxicity": recipe.toxicity.model_copy(update={"maximum": 0.3})})  # type: ignore[union-attr]
    assert reused(stricter) == {"toxicity.train": True, "toxicity": False}
    write(tmp_path / "rude.jsonl", texts(RUDE, 101, 9))
    assert reused(recipe) == {"toxicity.train": False, "toxicity": False}


def test_a_changed_threshold_is_answered_from_the_ledger_as_a_real_run_would(made: Build, tmp_path: Path):
    recipe = with_settings(made.recipe, {"toxicity.maximum": 0.01})
    answer = whatif.ask(made, recipe)
    assert set(answer.measured.values()) == {0}
    real, _ = building.make(recipe, tmp_path)
    assert answer.after["stages"] == files.read_json(real.path("funnel.json"))["stages"]


def test_a_model_of_the_users_own_scores_by_the_label_that_is_named(made: Build):
    path = made.path("models", "classifiers", "toxicity.bin")
    batch = Batch(pa.array([" ".join(KIND), " ".join(RUDE), " "]), models={"classifier": path})
    bad = toxicity.measure(toxicity.Config(model=path, label="positive"), batch).signals["toxicity_score"]
    good = quality.measure(quality.Config(model=path, label="negative"), batch).signals["quality_score"]
    assert bad.type == good.type == pa.float32()
    assert bad[1].as_py() > 0.9 > 0.1 > bad[0].as_py()
    assert good[0].as_py() > 0.9 > 0.1 > good[1].as_py()
    assert (bad[2].as_py(), good[2].as_py()) == (None, None)
    assert toxicity.STAGE.models(toxicity.Config(model=path, label="positive")) == {"classifier": path}


def test_a_model_that_a_build_made_is_not_one_to_bring_since_it_reads_folded_text(made: Build, tmp_path: Path):
    path = made.path("models", "classifiers", "toxicity.bin")
    with pytest.raises(steps.MadeByABuild, match=r"reads folded text .* give the `train` section"):
        steps.require(path, ["positive"])
    (tmp_path / "other.bin").write_bytes(Path(path).read_bytes())
    steps.require(str(tmp_path / "other.bin"), ["positive"])


def test_a_bound_by_language_holds_for_that_language():
    (rule,) = toxicity.rules(toxicity.Config(model="x", label="y", maximum={"en": 0.2}))
    assert (rule.name, rule.maximum, rule.by) == ("toxicity.maximum", {"en": 0.2}, "language")
    (rule,) = quality.rules(quality.Config(model="x", label="y", minimum=0.7))
    assert (rule.name, rule.minimum, rule.by) == ("quality.minimum", 0.7, None)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({}, "give either `model`"),
        ({"model": "x"}, "`label` is missing"),
        ({"train": {"positive": [], "negative": []}}, "toxicity.train.positive"),
        ({"model": "x", "label": "y", "maximum": {"en": 0.5}}, "add a `language` section"),
        ({"model": "x", "label": "y", "maximum": 2}, "toxicity.maximum"),
    ],
    ids=str,
)
def test_a_wrong_section_is_refused_with_the_remedy(values, section: dict, message: str):
    text = recipes.yaml.safe_dump({**values, "toxicity": section})
    with pytest.raises(recipes.WrongRecipe) as error:
        recipes.parse(text, recipes.Recipe)
    assert message in str(error.value)


def test_labelled_texts_that_cannot_be_read_or_are_none_stop_the_build(values, tmp_path: Path):
    (tmp_path / "bad.jsonl").write_text('{"text": "you idiot"}\n{"no": 1}\n')
    train = {**values["toxicity"]["train"], "positive": [source("bad", tmp_path / "bad.jsonl")]}
    with pytest.raises(steps.BadLabelledTexts, match=r"(?s)'bad': 1 of 2 records are bad.*no field 'text'.*record 2"):
        make({**values, "toxicity": {"train": train}}, tmp_path / "one")
    write(tmp_path / "bad.jsonl", ["", " "])
    with pytest.raises(steps.BadLabelledTexts, match=r"toxicity.train.positive: there is no text"):
        make({**values, "toxicity": {"train": train}}, tmp_path / "two")


@given(st.lists(st.tuples(st.sampled_from([0.0, 0.2, 0.5, 0.6, 1.0]), st.booleans()), max_size=20))
def test_scores_of_held_out_texts_are_those_counted_by_hand(pairs: list[tuple[float, bool]]):
    scores, truth = np.array([score for score, _ in pairs]), np.array([side for _, side in pairs], bool)
    found = steps.evaluate(scores, truth)
    right = sum((score > 0.5) == side for score, side in pairs)
    good, bad = ([score for score, side in pairs if side is wanted] for wanted in (True, False))
    wins = sum((g > b) + (g == b) / 2 for g in good for b in bad)
    assert found["accuracy"] == (right / len(pairs) if pairs else None)
    assert found["auc"] == (pytest.approx(wins / len(good) / len(bad)) if good and bad else None)
    assert found["recall"] == (sum(g > 0.5 for g in good) / len(good) if good else None)
