"""A fine-tuned classifier as a stage of curation: directly, and distilled to fastText."""

from __future__ import annotations

import io
import json
import pickle
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from rich.console import Console
from scipy.stats import rankdata
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from flows.views.summary import summary_view
from pipeline import report
from pipeline.build.build import Build
from pipeline.curation import preflight
from pipeline.curation import recipe as recipes
from pipeline.curation.settings import with_settings
from pipeline.questions import whatif, why
from pipeline.report import sections, tables
from pipeline.stages.classifiers import fine_tuned, scoring
from pipeline.store import checksums, files, shards
from tests.helpers import building, foreign_models
from training.finetuning.finetune import run
from training.prediction.scorer import probabilities

KIND = ["thanks", "for", "kind", "helpful", "reply", "friend", "lovely", "day"]
RUDE = ["stupid", "awful", "idiot", "shut", "nobody", "rotten", "trash", "talk"]
SHARED = ["the", "a", "of", "to", "and", "in", "it", "is"]


def texts(words: Sequence[str], count: int, seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice([*words, *SHARED], rng.integers(4, 20))) for _ in range(count)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A classifier that has learned which texts are kind."""
    folder = tmp_path_factory.mktemp("models")
    base = foreign_models.bert(folder / "base", [" ".join([*KIND, *RUDE, *SHARED])])
    rows = [
        {"text": text, "label": label}
        for label, words in (("good", KIND), ("bad", RUDE))
        for text in texts(words, 60, 1)
    ]
    labelled = foreign_models.rows("classify", ["bad", "good"], rows[::2], rows[1::4], rows[3::4])
    optimiser = {"learning_rate": 3e-3, "schedule": "constant", "weight_decay": 0.0}
    job = foreign_models.job(folder / "edu", base, labelled, epochs=8, optimiser=optimiser)
    run(job)
    return job.result


@pytest.fixture(scope="module")
def values(model: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("documents")
    found = [*texts(KIND, 150, 2), *texts(RUDE, 150, 3), "\u200b"]
    (folder / "in.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in found), "utf-8")
    source = {"name": "in", "kind": "jsonl", "path": str(folder / "in.jsonl")}
    return {"name": "x", "sources": [source], "canaries": False, "quality": {"model": model, "label": "good"}}


def make(values: dict[str, Any], root: Path, **quality: Any) -> tuple[Build, dict[str, bool]]:
    """The build, and for each step with items whether all was there already."""
    recipe = recipes.Recipe.model_validate({**values, "quality": {**values["quality"], **quality}})
    build, outcomes = building.make(recipe, root, scorer=probabilities)
    return build, {name: all(item.reused for item in items) for name, items in outcomes.items() if items}


@pytest.fixture(scope="module")
def direct(values: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Build:
    return make(values, tmp_path_factory.mktemp("direct"), distilled=False)[0]


@pytest.fixture(scope="module")
def distilled(values: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Build:
    return make(values, tmp_path_factory.mktemp("distilled"), distilled={"texts": 200})[0]


def scores(build: Build) -> dict[str, Any]:
    return {
        text: score
        for shard in build.shards()
        for text, score in zip(
            build.documents(shard)["text"].to_pylist(),
            build.ledger("quality", shard)["quality_score"].to_pylist(),
            strict=True,
        )
    }


def test_the_stage_gives_the_probabilities_of_the_model_and_keeps_by_them(direct: Build, model: str):
    found = scores(direct)
    blank = found.pop("\u200b")
    tokenizer, classifier = (
        AutoTokenizer.from_pretrained(model),
        AutoModelForSequenceClassification.from_pretrained(model),
    )
    heat = files.read_json(str(Path(model, "summary.json")))["confidence"]["temperature"]
    with torch.no_grad():
        inputs = tokenizer(list(found), padding=True, truncation=True, max_length=32, return_tensors="pt")
        expected = (classifier(**inputs).logits / heat).softmax(1)[:, classifier.config.label2id["good"]]
    assert list(found.values()) == pytest.approx(expected.tolist(), abs=1e-5)
    assert blank is None
    assert np.ptp(list(found.values())) > 0.5
    kept = {text for text, _, _ in building.curated(direct).values()}
    assert kept == {text for text, score in found.items() if score >= 0.5} | {"\u200b"}


def test_a_score_is_the_same_in_any_shard_and_the_scorer_travels_to_workers(
    values: dict[str, Any], direct: Build, model: str, tmp_path: Path
):
    other, _ = make({**values, "shard_bytes": 4096}, tmp_path, distilled=False)
    assert len(other.shards()) > len(direct.shards())
    assert scores(other) == scores(direct)
    assert pickle.loads(pickle.dumps(direct)) == direct  # noqa: S301
    few = texts(KIND, 5, 9)
    assert probabilities(few, model, ["good"]).tolist() == probabilities(few[::-1], model, ["good"]).tolist()[::-1]


def test_a_changed_threshold_asks_no_model_and_a_changed_model_is_asked(
    values: dict[str, Any], model: str, tmp_path: Path
):
    shutil.copytree(model, tmp_path / "model")
    asked = {"distilled": False, "model": str(tmp_path / "model")}
    build, first = make(values, tmp_path / "build", **asked)
    assert not first["quality.teacher"]
    assert make(values, tmp_path / "build", **asked)[1]["quality.teacher"]
    stricter, reused = make(values, tmp_path / "build", **asked, minimum=0.9)
    assert (reused["quality.teacher"], reused["quality"]) == (True, False)
    assert len(building.curated(stricter)) < 301
    classifier = AutoModelForSequenceClassification.from_pretrained(model)
    with torch.no_grad():
        classifier.classifier.weight.mul_(-1)
    classifier.save_pretrained(tmp_path / "model")
    checksums.sidecar(tmp_path / "model" / "model.safetensors").unlink()  # another program's file has none
    before = scores(build)
    changed, reused = make(values, tmp_path / "build", **asked, minimum=0.9)
    assert not reused["quality.teacher"]
    assert scores(changed) != before


def unasked(_texts: Sequence[str], _folder: str, _labels: Sequence[str]) -> np.ndarray:
    raise AssertionError("the classifier was asked")


def test_whatif_answers_from_kept_scores_as_a_real_run_would_and_why_explains(
    values: dict[str, Any], direct: Build, tmp_path: Path
):
    wanted = with_settings(direct.recipe, {"quality.minimum": 0.9})
    answer = whatif.ask(replace(direct, scorer=unasked), wanted)
    assert set(answer.measured.values()) <= {0}
    real, _ = make(values, tmp_path, distilled=False, minimum=0.9)
    assert answer.after["stages"] == files.read_json(real.path("funnel.json"))["stages"]
    dropped = next(text for text, score in scores(direct).items() if score is not None and score < 0.5)
    shard = direct.shards()[0]
    ids = dict(zip(*(direct.documents(shard)[name].to_pylist() for name in ("text", "id")), strict=True))
    assert "quality.minimum" in str(why.why(direct, ids[dropped]))


def test_the_distilled_model_judges_as_fasttext_and_its_agreement_is_told(distilled: Build, direct: Build):
    path = distilled.path("models", "classifiers", "quality.bin")
    found = scores(distilled)
    folded = scoring.folded(pa.array(list(found)))
    assert list(found.values()) == scoring.probability(folded, path, ["positive"]).to_pylist()
    note = fine_tuned.agreement(distilled, "quality")
    assert note is not None
    held = note["heldout"]
    unseen = shards.read_table(distilled.path("work", "quality.distil", "heldout.arrow"))
    pair = [unseen[name].to_numpy() for name in ("score", "student")]
    alike = np.mean((pair[0] >= 0.5) == (pair[1] >= 0.5))
    assert held["agreement"] == pytest.approx(alike)
    assert held["low"] <= alike <= held["high"]
    assert held["rank_correlation"] == pytest.approx(np.corrcoef(*map(rankdata, pair))[0, 1])
    assert 20 < held["texts"] == len(unseen) < 100
    assert note["per_second"]["distilled"] > note["per_second"]["fine_tuned"]
    teacher = scores(direct)
    both = [
        (a >= 0.5) == (b >= 0.5)
        for a, b in ((found[text], teacher[text]) for text in found)
        if a is not None and b is not None
    ]
    assert np.mean(both) > 0.9
    (row,) = tables.distilled(sections.distilled(distilled) or []).rows
    assert row[0] == "Quality"


def test_the_report_and_the_terminal_show_the_agreement(distilled: Build):
    page = Path(report.render(distilled)).read_text("utf-8")
    assert "Distilled classifiers" in page
    console = Console(width=400, record=True, file=io.StringIO())
    console.print(summary_view(distilled))
    shown = console.export_text()
    assert "distilled to fastText: decides as" in shown
    assert "documents/s in place of" in shown


def test_the_distilled_model_is_the_same_for_any_shards(values: dict[str, Any], distilled: Build, tmp_path: Path):
    other, _ = make({**values, "shard_bytes": 4096}, tmp_path, distilled={"texts": 200})
    one, two = (Path(build.path("models", "classifiers", "quality.bin")).read_bytes() for build in (distilled, other))
    assert one == two


def test_a_changed_threshold_trains_no_distilled_model_again(values: dict[str, Any], distilled: Build, tmp_path: Path):
    shutil.copytree(distilled.root, tmp_path / "build")
    _, reused = make(values, tmp_path / "build", distilled={"texts": 200}, minimum=0.4)
    assert reused["quality.teacher"]
    assert reused["quality.distil"]
    assert not reused["quality.agreement"]
    answer = whatif.ask(replace(distilled, scorer=unasked), with_settings(distilled.recipe, {"quality.minimum": 0.4}))
    assert set(answer.measured.values()) <= {0}


def test_a_distilled_model_that_decides_otherwise_is_refused_unless_allowed(values: dict[str, Any], tmp_path: Path):
    hasty = {"texts": 200, "epochs": 1, "dimensions": 1, "minimum_agreement": 1.0}
    with pytest.raises(
        fine_tuned.TooDifferent, match=r"decide alike on .* of .* held-out documents.*minimum_agreement"
    ):
        make(values, tmp_path, distilled=hasty, minimum=0.97)
    make(values, tmp_path, distilled={**hasty, "minimum_agreement": 0.0}, minimum=0.97)


def damaged(model: str, folder: Path, **fields: Any) -> str:
    shutil.copytree(model, folder)
    config = files.read_json(str(folder / "config.json"))
    shutil.rmtree(folder / checksums.FOLDER)  # else the change is taken for damage
    (folder / "config.json").write_text(json.dumps({**config, **fields}))
    return str(folder)


def test_a_folder_that_cannot_be_a_stage_is_one_message_before_work(values: dict[str, Any], model: str, tmp_path: Path):
    def problems(**quality: Any) -> list[str]:
        recipe = recipes.Recipe.model_validate({**values, "quality": {**values["quality"], **quality}})
        return preflight.problems(Build(str(tmp_path / "build"), recipe))

    assert problems() == []
    (said,) = problems(label="fine")
    assert "no label 'fine'; correct `label`. It knows bad, good" in said
    (said,) = problems(model=damaged(model, tmp_path / "number", problem_type="regression"))
    assert "it gives a number (regression)" in said
    (said,) = problems(model=damaged(model, tmp_path / "encoder", architectures=["BertModel"]))
    assert "not a classifier of texts but BertModel" in said
    (Path(damaged(model, tmp_path / "pickled")) / "model.safetensors").rename(
        tmp_path / "pickled" / "pytorch_model.bin"
    )
    (said,) = problems(model=str(tmp_path / "pickled"))
    assert "no weights in safetensors, only pytorch_model.bin" in said
    pairs = damaged(model, tmp_path / "pairs")
    Path(pairs, "summary.json").write_text('{"config": {"pair": "second"}}')
    (said,) = problems(model=pairs)
    assert "it reads pairs of texts" in said
    (said,) = problems(model=str(tmp_path / "nothing"))
    assert "no such model" in said


def test_without_the_rooms_above_it_says_what_is_missing(values: dict[str, Any], tmp_path: Path):
    recipe = recipes.Recipe.model_validate({**values, "quality": {**values["quality"], "distilled": False}})
    with pytest.raises(fine_tuned.CannotScore, match="run `mill build`"):
        building.make(recipe, tmp_path)
