"""Fine-tuning tasks of plug-ins in a recipe: checked as the program's own are."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest

from pipeline.curation import recipe as recipes
from tests.helpers import plugins
from training.finetuning.tasks import task_of
from training.labelled import files
from training.labelled.rows import WrongRows
from training.recipe.finetuning import FinetuneConfig, with_task
from training.recipe.sections import BuildRecipe

TASK = """
from training.finetuning.tasks.base import FinetuningTask
from training.finetuning.tasks.regression import Regression
class Stars(Regression):
    main = "pearson"
stars = FinetuningTask("stars", like="regression", make=Stars)
"""
ROWS = """
import pyarrow as pa
from training.labelled.kinds.texts import Scores
class Thumbs(Scores):
    name = "thumbs"
    columns = {"text": pa.string(), "score": pa.float64(), "up": pa.bool_()}
    def labelled(self, config, at, record, label, texts, found):
        if label not in ("up", "down"):
            found.fault("thumb", record.place, f"{label!r} is no thumb; write up or down")
            return None
        return {"score": float(label == "up"), "up": label == "up"}
    def counts(self, table):
        return {"up": sum(table["up"].to_pylist())}
"""
OWN_ROWS = TASK + ROWS + 'thumbs = FinetuningTask("thumbs", like="regression", make=Stars, rows=Thumbs())\n'
RECIPE = """name: mine
plugins: [mine.py]
sources: [{name: a, kind: text, path: a.txt}]
tokenizers: [{name: bpe, algorithm: wordpiece, vocab_size: 300}]
pretrain: [{name: bert, objective: mlm, model: bert-demo, tokenizer: bpe, steps: 1}]
finetune: [{name: f, base: bert, task: stars, label: score, data: {train: rows.jsonl}}]
"""


def load(folder: Path, text: str = RECIPE, code: str = TASK) -> BuildRecipe:
    (folder / "mine.py").write_text(code)
    return recipes.parse(text, BuildRecipe, "mine.yaml", folder)


def rows(path: Path, *labels: object) -> str:
    lines = [{"text": f"{n} {'abcdefgh'[n % 8] * 9} {n * n}", "score": labels[n % len(labels)]} for n in range(60)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)


def test_a_run_has_the_task_of_the_plug_in_and_the_rows_of_the_one_it_is_like(tmp_path):
    path = rows(tmp_path / "rows.jsonl", 1, 2.5, 3)
    (run,) = load(tmp_path, RECIPE.replace("rows.jsonl", path)).finetune
    data = files.load(run, 0)
    assert (data.task, data.train.column_names) == ("regression", ["id", "group", "place", "text", "score"])
    assert task_of(run, data).main == "pearson"
    plain = FinetuneConfig.model_validate({**run.model_dump(mode="json"), "task": "regression"})
    assert run.of_result() == {**plain.of_result(), "task": "stars", "made_by": run.added["stars"].made_by}
    assert pickle.loads(pickle.dumps(run)) == run  # noqa: S301
    rows(tmp_path / "rows.jsonl", "many")
    with pytest.raises(WrongRows, match="'score' is 'many', no number"):
        files.load(run, 0)


def test_a_task_may_bring_its_own_rows_which_say_what_they_need_and_are_counted_by_it(tmp_path):
    path = rows(tmp_path / "rows.jsonl", "up", "down")
    (run,) = load(tmp_path, RECIPE.replace("stars", "thumbs").replace("rows.jsonl", path), OWN_ROWS).finetune
    data = files.load(run, 0)
    assert data.task == "thumbs"
    assert {row["score"] == row["up"] for row in data.train.to_pylist()} == {True}
    assert sum(part["up"] for part in data.audit["labels"].values()) == 30
    rows(tmp_path / "rows.jsonl", "up", "sideways")
    with pytest.raises(WrongRows, match=r"rows\.jsonl:2: 'sideways' is no thumb; .*and 29 more rows"):
        files.load(run, 0)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("task: stars", "task: stats", "'stats' is not known; did you mean `stars`?"),
        ("task: stars", "task: stars, per_class: 8", "`per_class` counts rows of labels, which stars has not"),
        ("task: stars", "task: stars, answers: {longest: 3}", "`answers` sets options of the task answers"),
        (", data: {train: rows.jsonl}", "", "go by columns of files; name them in `data`"),
    ],
)
def test_a_run_that_does_not_fit_it_is_refused(tmp_path, old, new, said):
    with pytest.raises(recipes.WrongRecipe, match=r"mine\.yaml, line 6: ") as raised:
        load(tmp_path, RECIPE.replace(old, new))
    assert said in str(raised.value)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (TASK.replace('"stars"', '"classify"'), "the name 'classify' is taken; give the task another name"),
        (TASK.replace('like="regression", ', ""), "task 'stars' needs `like`, one of classify, multi_label"),
        (TASK.replace('like="regression"', 'like="regresion"'), "task 'stars' needs `like`, one of classify"),
        (TASK + 'more = FinetuningTask("stars", like="tokens", make=Stars)\n', "the name 'stars' is taken"),
    ],
)
def test_a_task_that_does_not_fit_is_refused(tmp_path, code, said):
    with pytest.raises(recipes.WrongRecipe, match=r"mine\.yaml, line 2: plugins\[0\]: ") as raised:
        load(tmp_path, code=code)
    assert said in str(raised.value)


def test_rows_that_are_no_kind_are_refused(tmp_path):
    path = rows(tmp_path / "rows.jsonl", 1, 2)
    wrong = TASK.replace("make=Stars", "make=Stars, rows=['text', 'score']")
    (run,) = load(tmp_path, RECIPE.replace("rows.jsonl", path), wrong).finetune
    with pytest.raises(WrongRows, match=r"mine\.py: `rows` of task 'stars' is no Kind"):
        files.load(run, 0)


def test_a_task_of_an_installed_package_is_known_by_its_name(tmp_path, monkeypatch):
    plugins.install(tmp_path / "p", "7", TASK, "corpusmill.tasks: stars = starry_parts:stars", name="starry")
    monkeypatch.syspath_prepend(str(tmp_path / "p"))
    recipe = load(tmp_path, RECIPE.replace("plugins: [mine.py]\n", ""))
    assert recipe.plugins == ["starry==7#corpusmill.tasks:stars"]
    assert recipe.finetune[0].plugin is not None
    assert with_task("stars", []) is type(recipe.finetune[0])  # of a run without a recipe


def test_a_file_without_a_task_is_refused_where_there_is_no_recipe(tmp_path):
    (tmp_path / "mine.py").write_text("x = 1\n")
    with pytest.raises(ValueError, match="it makes no FinetuningTask at module level"):
        with_task("stars", [str(tmp_path / "mine.py")])
