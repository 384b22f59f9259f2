"""Objectives of plug-ins in a recipe: checked as the program's own are."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.curation import recipe as recipes
from tests.helpers import plugins
from training import objectives
from training.recipe.sections import BuildRecipe

OBJECTIVE = """
from dataclasses import replace
from training.objectives.causal import OBJECTIVE
objective = replace(OBJECTIVE, name="smoothed", like="causal")
"""
RECIPE = """name: mine
plugins: [mine.py]
sources: [{name: a, kind: text, path: a.txt}]
tokenizers: [{name: bpe, algorithm: bpe, vocab_size: 300}]
pretrain: [{name: gpt, objective: smoothed, model: gpt2-demo, tokenizer: bpe, steps: 1}]
"""


def load(folder: Path, text: str = RECIPE, code: str = OBJECTIVE) -> BuildRecipe:
    (folder / "mine.py").write_text(code)
    return recipes.parse(text, BuildRecipe, "mine.yaml", folder)


def test_a_run_has_the_objective_of_the_plug_in(tmp_path):
    (run,) = load(tmp_path).pretrain  # its file holds the program's own, too, which it was made from
    found = objectives.of(run)
    assert (found.name, found.examples) == ("smoothed", objectives.load("causal").examples)
    assert found.made_by != objectives.load("causal").made_by


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("gpt2-demo", "bert-demo", "objective 'smoothed' trains gpt2, llama, qwen3, not 'bert'"),
        ("objective: smoothed", "objective: smooth", "'smooth' is not known; did you mean `smoothed`?"),
        ("steps: 1", "steps: 1, electra: {weight: 2}", "'electra' has no effect on objective 'smoothed'"),
        ("steps: 1}]", "steps: 1}]\nfinetune: [{name: f, base: gpt, label: domain}]", "a classifier needs an encoder"),
    ],
)
def test_a_run_that_does_not_fit_it_is_refused(tmp_path, old, new, said):
    with pytest.raises(recipes.WrongRecipe, match=r"mine\.yaml, line [56]: ") as raised:
        load(tmp_path, RECIPE.replace(old, new))
    assert said in str(raised.value)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (
            OBJECTIVE.replace('"smoothed"', '"mlm"'),
            "the name 'mlm' is taken; give the objective another name",
        ),
        (OBJECTIVE.replace(', like="causal"', ""), "objective 'smoothed' needs `like`, one of causal, mlm"),
        (OBJECTIVE.replace('like="causal"', 'like="casual"'), "objective 'smoothed' needs `like`, one of causal, mlm"),
    ],
)
def test_an_objective_that_does_not_fit_is_refused(tmp_path, code, said):
    with pytest.raises(recipes.WrongRecipe, match=r"mine\.yaml, line 2: plugins\[0\]: ") as raised:
        load(tmp_path, code=code)
    assert said in str(raised.value)


def test_an_objective_of_an_installed_package_is_known_by_its_name(tmp_path, monkeypatch):
    entry = "corpusmill.objectives: smoothed = smooth_parts:objective"
    plugins.install(tmp_path / "p", "7", OBJECTIVE, entry, name="smooth")
    monkeypatch.syspath_prepend(str(tmp_path / "p"))
    recipe = load(tmp_path, RECIPE.replace("plugins: [mine.py]\n", ""))
    assert recipe.plugins == ["smooth==7#corpusmill.objectives:smoothed"]
    assert objectives.of(recipe.pretrain[0]).plugin is not None
