"""What a published model says of rows is what it said when it was scored, however the rows come."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoTokenizer, pipeline

from pipeline.store.files import DamagedFile
from tests.helpers import foreign_models, published
from tests.training.conftest import sentences
from training.finetuning import usage
from training.finetuning.bases import WrongBase
from training.finetuning.tasks import task_of
from training.finetuning.usage import WrongUsage
from training.labelled.rows import Labelled
from training.prediction import model as opening
from training.prediction.model import WrongModel
from training.prediction.predictions import Answer, Label, Labels, Score, Tags, Text, Vector
from training.prediction.rows import Row, WrongRow, of_words, row_of, words_of


def asked(task: str, table: pa.Table) -> list[Row]:
    return [
        of_words(row["words"])
        if task == "tokens"
        else Row(row["question"], row["context"])
        if task == "answers"
        else Row(row["text"], row.get("pair"))
        for row in table.to_pylist()
    ]


def as_scored(found: list[Any], labelled: Labelled) -> Any:
    """Predictions as the task's measures take them, and its main measure's value of them."""
    first = found[0]
    if isinstance(first, Label):
        return np.array([labelled.labels.index(each.label) for each in found])
    if isinstance(first, Labels):
        return np.array([[label in each.labels for label in labelled.labels] for each in found])
    if isinstance(first, Score):
        return np.array([each.score for each in found])
    if isinstance(first, Tags):
        return [each.tags for each in found]
    return [each.output for each in found]


@pytest.mark.parametrize("task", [task for task in published.TASKS if task not in ("answers", "similarity")])
def test_the_score_of_its_predictions_is_that_of_the_summary(models: dict, task: str, tmp_path: Path) -> None:
    folder, labelled, summary = models[task]
    found = opening.open(folder).predict(asked(task, labelled.test))
    judge = task_of(foreign_models.job(tmp_path, folder, labelled).config, labelled)
    measures = {m.name: m.score for m in judge.measures(as_scored(found, labelled), labelled.test)}
    assert measures == pytest.approx({name: each["value"] for name, each in summary["scores"]["model"].items()})


def test_answers_are_scored_alike_and_stand_where_they_say(models: dict) -> None:
    from training.finetuning import squad

    folder, labelled, summary = models["answers"]
    model = opening.open(folder)
    found: Any = model.predict(asked("answers", labelled.test))
    gold = [[each["text"] for each in answers] for answers in labelled.test["answers"].to_pylist()]
    f1 = np.mean([squad.f1(each.answer, texts) for each, texts in zip(found, gold, strict=True)])
    assert f1 == pytest.approx(summary["scores"]["model"]["f1"]["value"])
    assert model.usage.no_answer_above == pytest.approx(summary["chosen"]["threshold_of_no_answer"])
    for answer, context in zip(found, labelled.test["context"].to_pylist(), strict=True):
        assert isinstance(answer, Answer)
        assert 0 < answer.score <= 1
        assert context[answer.start : answer.end] == answer.answer if answer.answer else answer.start is None


def test_cosines_are_those_of_both_texts_and_a_text_alone_has_its_vector(models: dict) -> None:
    folder, labelled, _ = models["similarity"]
    model = opening.open(folder)
    rows = asked("similarity", labelled.test)
    pairs = model.predict(rows)
    first = model.predict([Row(row.text) for row in rows])
    second = model.predict([Row(row.pair or "") for row in rows])
    for pair, one, other in zip(pairs, first, second, strict=True):
        assert isinstance(pair, Vector)
        assert isinstance(one, Vector)
        assert isinstance(other, Vector)
        assert one.cosine is None
        assert np.linalg.norm(np.array(one.vector)) == pytest.approx(1, abs=1e-6)
        assert pair.cosine == pytest.approx(np.dot(np.array(one.vector), np.array(other.vector)), abs=1e-6)


def numbers(value: Any) -> list[float]:
    if isinstance(value, dict | list | tuple):
        parts = value.values() if isinstance(value, dict) else value
        return [number for part in parts for number in numbers(part)]
    return [value] if isinstance(value, float) else []


def words(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: words(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [words(part) for part in value]
    return None if isinstance(value, float) else value


@pytest.mark.parametrize("task", published.TASKS)
def test_batches_order_and_windows_change_no_prediction(
    models: dict, task: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, labelled, _ = models[task]
    model = opening.open(folder)
    rows = asked(task, labelled.test)
    expected = [each.fields() for each in model.predict(rows)]
    monkeypatch.setattr(opening, "WINDOW_ROWS", 7)
    order = np.random.default_rng(1).permutation(len(rows))
    for size in (1, 5):
        found = list(model.stream((rows[at] for at in order), size))
        for at, each in zip(order, found, strict=True):
            assert words(each.fields()) == words(expected[at])
            assert numbers(each.fields()) == pytest.approx(numbers(expected[at]), rel=1e-6, abs=1e-6)


def test_rows_with_and_without_a_second_text_keep_their_places(models: dict) -> None:
    model = opening.open(models["classify"][0])
    rows = [Row("the cat"), Row("the dog", "a bird"), Row("the fish")]
    together = model.predict(rows)
    single = [model.predict([row])[0].fields() for row in rows]
    assert [each.fields()["label"] for each in together] == [each["label"] for each in single]
    alone = [numbers(each) for each in single]
    assert [numbers(each.fields()) for each in together] == [pytest.approx(each, abs=1e-6) for each in alone]


def test_rows_are_read_as_they_are_asked_for(models: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "WINDOW_ROWS", 4)
    read = 0

    def endless():
        nonlocal read
        while True:
            read += 1
            yield Row(f"the cat {read}")

    found = opening.open(models["classify"][0]).stream(endless())
    for _ in range(9):
        next(found)
    assert read <= 13


def test_no_window_holds_more_characters_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "WINDOW_CHARACTERS", 10)
    rows = [Row("a" * size) for size in (4, 6, 1, 30, 2, 2)]
    assert [[row.size for row in window] for window in opening.windows(rows)] == [[4, 6], [1], [30], [2, 2]]


def test_probabilities_are_calibrated_and_sets_are_conformal(models: dict) -> None:
    folder, labelled, summary = models["classify"]
    model = opening.open(folder)
    confidence = summary["confidence"]
    texts = labelled.test["text"].to_pylist()
    plain = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for text, found in zip(texts, model.predict([Row(text) for text in texts]), strict=True):
        assert isinstance(found, Label)
        with torch.no_grad():
            logits = plain(**tokenizer(text, truncation=True, max_length=32, return_tensors="pt")).logits[0]
        expected = (logits / confidence["temperature"]).softmax(-1).tolist()
        assert list(found.scores.values()) == pytest.approx(expected, abs=1e-5)
        limit = confidence["conformal"]["quantile"]
        assert found.set == [label for label, share in found.scores.items() if 1 - share <= limit]


def test_probabilities_are_mapped_by_the_curve_that_the_model_has(models: dict, tmp_path: Path) -> None:
    folder = shutil.copytree(models["classify"][0], tmp_path / "model")
    texts = [Row(text) for text in models["classify"][1].test["text"].to_pylist()]
    plain = [list(found.fields()["scores"].values()) for found in opening.open(folder).predict(texts)]
    summary = json.loads((folder / "summary.json").read_text())
    summary["confidence"]["curve"] = [[0.0, 0.25], [1.0, 0.75]]
    usage.write(folder, usage.of_summary(summary))
    mapped = [list(found.fields()["scores"].values()) for found in opening.open(folder).predict(texts)]
    raised = 0.9 * (0.25 + 0.5 * np.array(plain)) + 0.1 * np.array(plain)
    assert np.array(mapped) == pytest.approx(raised / raised.sum(1, keepdims=True))


def test_labels_are_those_of_the_least_expected_cost_where_costs_are_known(models: dict, tmp_path: Path) -> None:
    folder = shutil.copytree(models["classify"][0], tmp_path / "model")
    summary = json.loads((folder / "summary.json").read_text())
    summary["config"]["costs"] = {"pet": {"wild": 3}}
    shutil.rmtree(folder / ".sums", ignore_errors=True)
    texts = [Row(text) for text in models["classify"][1].test["text"].to_pylist()]
    plain = opening.open(folder).predict(texts)
    shares = [found.fields()["scores"]["wild"] for found in plain]
    between = float(np.median(shares))
    for threshold, limit in ((None, 0.75), (between, between)):
        summary["costs"] = {"threshold": threshold}
        usage.write(folder, usage.of_summary(summary))
        shutil.rmtree(folder / ".sums", ignore_errors=True)
        model = opening.open(folder)
        found = model.predict(texts)
        assert [each.fields()["scores"] for each in found] == [each.fields()["scores"] for each in plain]
        assert [each.fields()["label"] for each in found] == ["wild" if s >= limit else "pet" for s in shares]


def test_each_label_has_its_own_threshold(models: dict, tmp_path: Path) -> None:
    folder = shutil.copytree(models["multi_label"][0], tmp_path / "model")
    told = json.loads((folder / usage.NAME).read_text())
    assert told["thresholds"] == models["multi_label"][2]["chosen"]["thresholds"]
    row = [Row("the cat sees the dog .")]
    (found,) = opening.open(folder).predict(row)
    assert isinstance(found, Labels)
    told["thresholds"] = {label: share if label == "cat" else 1.0 for label, share in found.scores.items()}
    shutil.rmtree(folder / ".sums", ignore_errors=True)
    usage.write(folder, usage.Usage.model_validate(told))
    assert opening.open(folder).predict(row)[0].fields()["labels"] == ["cat"]


def test_spans_are_characters_of_a_text_with_emoji_and_combining_marks(models: dict) -> None:
    model = opening.open(models["tokens"][0])
    text = '👩‍🚀 "the cat", cafe\u0301 sees  the\u00a0fish… (the dog)!'
    split, places = words_of(Row(text))
    expected = [
        "👩‍🚀",
        '"',
        "the",
        "cat",
        '"',
        ",",
        "cafe\u0301",
        "sees",
        "the",
        "fish",
        "…",
        "(",
        "the",
        "dog",
        ")",
        "!",
    ]
    assert split == expected
    assert [text[start:end] for start, end in places] == expected
    (found,) = model.predict([Row(text)])
    assert isinstance(found, Tags)
    assert found.spans
    for span in found.spans:
        assert text[span.start : span.end] == span.text
    assert found.tags == model.predict([of_words(split)])[0].fields()["tags"]


@pytest.mark.parametrize("strategy", [{"kind": "prefix", "tokens": 3}, {"kind": "lora", "rank": 2, "merge": False}])
def test_an_adapter_alone_predicts_on_its_base(tmp_path: Path, strategy: dict) -> None:
    folder, labelled, summary = published.publish(tmp_path, "classify", strategy=strategy)
    assert not list(Path(folder).glob("model*.safetensors"))
    rows = asked("classify", labelled.test)
    found: Any = opening.open(folder).predict(rows)
    right = [each.label == label for each, label in zip(found, labelled.test["label"].to_pylist(), strict=True)]
    assert np.mean(right) == pytest.approx(summary["scores"]["model"]["accuracy"]["value"])
    moved = shutil.move(str(tmp_path / "base"), str(tmp_path / "moved"))
    with pytest.raises(WrongBase, match="base"):
        opening.open(folder)
    assert opening.open(folder, moved).predict(rows) == found


@pytest.mark.parametrize("reading", ["head_tail", {"kind": "chunks", "pooling": "attention"}])
def test_long_texts_are_read_as_in_training(tmp_path: Path, reading: Any) -> None:
    folder, labelled, summary = published.publish(tmp_path, "classify", long_text=reading, sequence_length=12)
    model = opening.open(folder)
    found: Any = model.predict(asked("classify", labelled.test))
    right = [each.label == label for each, label in zip(found, labelled.test["label"].to_pylist(), strict=True)]
    assert np.mean(right) == pytest.approx(summary["scores"]["model"]["accuracy"]["value"])
    plain = model.predict([Row("the cat sees the dog ." * 9 + end) for end in ("", " the fish hears")])
    assert plain[0].fields() != plain[1].fields()  # the end is read
    assert model.is_cut(Row("the cat sees the dog . " * 9)) == (reading == "head_tail")


def test_an_adapter_alone_writes_as_it_was_told(tmp_path: Path) -> None:
    folder, labelled, _ = published.publish(tmp_path, "text2text", strategy={"kind": "prompt", "tokens": 2})
    model = opening.open(folder)
    assert model.model.generation_config.max_new_tokens == 8
    assert all(isinstance(each, Text) for each in model.predict(asked("text2text", labelled.test)))


def test_samples_are_drawn_by_the_text_alone(tmp_path: Path) -> None:
    options = {"prefix": "", "target_length": 8, "method": "sample"}
    folder, labelled, _ = published.publish(tmp_path, "text2text", text2text=options, epochs=1)
    rows = asked("text2text", labelled.test)
    model = opening.open(folder)
    assert model.predict(rows[::-1])[::-1] == [model.predict([row])[0] for row in rows]


def test_a_model_of_an_earlier_version_is_known_by_its_summary(models: dict, tmp_path: Path) -> None:
    for task in published.TASKS:
        folder = Path(models[task][0])
        assert usage.of_summary(json.loads((folder / "summary.json").read_text())) == usage.read(str(folder))
    older = shutil.copytree(models["answers"][0], tmp_path / "older", ignore=shutil.ignore_patterns(usage.NAME, ".*"))
    rows = asked("answers", models["answers"][1].test)
    assert opening.open(older).predict(rows) == opening.open(models["answers"][0]).predict(rows)


def foreign(folder: Path, kind: Any, **fields: Any) -> Path:
    """A model of transformers' alone with the head ``kind``; its weights are drawn."""
    base = foreign_models.bert(folder / "base", sentences(100))
    torch.manual_seed(3)
    kind(AutoConfig.from_pretrained(base, initializer_range=0.5, **fields)).save_pretrained(folder / "model")
    AutoTokenizer.from_pretrained(base).save_pretrained(folder / "model")
    return folder / "model"


def test_a_classifier_of_others_says_what_their_pipeline_says(tmp_path: Path) -> None:
    folder = foreign(tmp_path, transformers.BertForSequenceClassification, id2label={0: "a", 1: "b", 2: "c"})
    texts = sentences(20)
    found = opening.open(folder).predict([Row(text) for text in texts])
    theirs: Any = pipeline("text-classification", str(folder), top_k=None)
    for ours, other in zip(found, theirs(texts, truncation=True), strict=True):
        assert isinstance(ours, Label)
        assert ours.scores == pytest.approx({each["label"]: each["score"] for each in other}, abs=1e-5)


@pytest.mark.parametrize(
    ("kind", "fields", "task"),
    [
        ("BertForSequenceClassification", {"num_labels": 1}, "regression"),
        ("BertForSequenceClassification", {"problem_type": "multi_label_classification"}, "multi_label"),
        ("BertForTokenClassification", {"num_labels": 3}, "tokens"),
        ("BertForQuestionAnswering", {}, "answers"),
    ],
)
def test_the_task_of_a_model_of_others_is_known_by_its_head(tmp_path: Path, kind: str, fields: dict, task: str) -> None:
    model = opening.open(foreign(tmp_path, getattr(transformers, kind), **fields))
    assert model.usage.task == task
    assert model.predict([Row("the cat sees the dog .", "the dog" if task == "answers" else None)])[0].fields()


def test_tags_that_mark_no_entities_are_spans_of_a_word_each(tmp_path: Path) -> None:
    labels = {0: "DET", 1: "NOUN", 2: "VERB"}
    model = opening.open(foreign(tmp_path, transformers.BertForTokenClassification, id2label=labels))
    (found,) = model.predict([Row("the cat sees")])
    assert isinstance(found, Tags)
    assert [(span.label, span.text) for span in found.spans] == list(
        zip(found.tags, ["the", "cat", "sees"], strict=True)
    )


def test_a_folder_that_cannot_predict_says_why(models: dict, tmp_path: Path) -> None:
    base = foreign_models.bert(tmp_path / "base", sentences(100))
    with pytest.raises(WrongModel, match="BertForMaskedLM has no head of a task; fine-tune it"):
        opening.open(base)
    with pytest.raises(WrongModel, match=r"no config\.json"):
        opening.open(tmp_path)
    headless = foreign(tmp_path / "headless", transformers.BertForSequenceClassification)
    weights = load_file(headless / "model.safetensors")
    kept = {name: tensor for name, tensor in weights.items() if "classifier" not in name}
    save_file(kept, headless / "model.safetensors", {"format": "pt"})
    with pytest.raises(WrongModel, match=r"its weights lack classifier\.bias, classifier\.weight"):
        opening.open(headless)
    pickled = tmp_path / "pickled"
    pickled.mkdir()
    shutil.copy(headless / "config.json", pickled)
    torch.save({}, pickled / "pytorch_model.bin")
    with pytest.raises(WrongModel, match="no weights in safetensors"):
        opening.open(pickled)
    changed = shutil.copytree(models["classify"][0], tmp_path / "changed")
    (changed / usage.NAME).write_text("{}")
    with pytest.raises(DamagedFile, match=r"corpusmill\.json"):
        opening.open(changed)
    foreigner = foreign(tmp_path / "told", transformers.BertForSequenceClassification)
    (foreigner / usage.NAME).write_text('{"name": "x", "task": "guess", "sequence_length": 8}')
    with pytest.raises(WrongUsage, match=r"corpusmill\.json: task: "):
        opening.open(foreigner)


def test_a_text_that_is_longer_than_the_model_reads_is_known(models: dict) -> None:
    model = opening.open(models["classify"][0])
    assert not model.is_cut(Row("the cat " * 15))
    assert model.is_cut(Row("the cat " * 16))
    reader = opening.open(models["answers"][0])
    assert not reader.is_cut(Row("what swims ?", "the cat " * 100))
    assert reader.is_cut(Row("what swims ? " * 10, "the cat"))


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ({"label": "x"}, "no column"),
        ({"text": " \n"}, "empty"),
        ({"text": None}, "empty"),
        ({"text": 3}, "no text"),
        ({"text": ["a", "b"]}, "no text"),
    ],
)
def test_a_row_without_a_text_is_none(values: dict, kind: str) -> None:
    used = usage.Usage(name="x", task="classify", sequence_length=8)
    with pytest.raises(WrongRow, match="'text'") as raised:
        row_of(used, values)
    assert raised.value.kind == kind


def test_words_are_taken_as_they_are_given() -> None:
    used = usage.Usage(name="x", task="tokens", sequence_length=8, text="words")
    row = row_of(used, {"words": ["(the", "cat)"]})
    assert words_of(row) == (["(the", "cat)"], [(0, 4), (5, 9)])
    with pytest.raises(WrongRow, match="list of words"):
        row_of(used, {"words": ["the", 3]})
    assert words_of(row_of(used, {"words": "(the cat)"}))[0] == ["(", "the", "cat", ")"]
