from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForQuestionAnswering, AutoTokenizer

from tests.helpers.foreign_models import job, rows
from tests.training.conftest import NAMES, VERBS
from training.finetuning import bases
from training.finetuning.finetune import run
from training.finetuning.tasks import task_of
from training.finetuning.tasks.answers import Answers, best_spans, span_of


def question(draw: np.random.Generator, none: float = 0.0) -> dict:
    """What swims? is answered by the fish, if there is one."""
    names = [NAMES[at] for at in draw.integers(3, size=3)]
    if draw.random() >= none:
        names[draw.integers(3)] = "fish"
    context = " ".join(f"the {name} {VERBS[draw.integers(4)]} ." for name in names)
    answers = [{"text": "fish", "start": context.index("fish")}] if "fish" in names else []
    return {"question": "what swims ?", "context": context, "answers": answers}


def made(count: int, seed: int, none: float = 0.0) -> list[dict]:
    draw = np.random.default_rng(seed)
    return [question(draw, none) for _ in range(count)]


def task(given: list[dict], base: str, tmp_path: Path, **config) -> Answers:
    labelled = rows("answers", [], given, given, given)
    found = task_of(job(tmp_path, base, labelled, **{"answers": {"overlap": 8}, **config}).config, labelled)
    assert isinstance(found, Answers)
    return found


def test_the_best_span_is_that_of_trying_all() -> None:
    draw = np.random.default_rng(0)
    for _ in range(50):
        logits = draw.normal(size=(12, 2)).astype(np.float32)
        places = np.stack([np.arange(12) * 2, np.arange(12) * 2 + 1], axis=1)
        places[:3] = -1  # the question and special tokens
        tried = sorted(
            (-(float(logits[i, 0]) + float(logits[j, 1])), i, j) for i in range(3, 12) for j in range(i, min(12, i + 4))
        )
        found = best_spans(logits, places, longest=4, count=5)
        assert [(start // 2, end // 2) for start, end, _ in found] == [(i, j) for _, i, j in tried[:5]]
        assert [score for _, _, score in found] == pytest.approx([-score for score, _, _ in tried[:5]])


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_answers_are_exact_characters_of_texts_with_emoji_and_combining_marks(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    base = request.getfixturevalue(kind)
    context = "👩‍🚀 the cafe\u0301 👍🏽 (cat) \u05e9\u05dc\u05d5\u05dd, naïve\u00a0dog 𝒳 end."
    answers = ["cafe\u0301", "cat", "\u05e9\u05dc\u05d5\u05dd", "naïve", "dog", "end"]
    given = [
        {"question": "what ?", "context": context, "answers": [{"text": text, "start": context.index(text)}]}
        for text in answers
    ]
    questions = task(given, base, tmp_path)
    found = questions.encode(bases.reader(base, base, 64), questions.rows.test)
    logits = []
    for first, last, tokens in zip(found.targets["first"], found.targets["last"], found.tokens, strict=True):
        sure = np.zeros((len(tokens), 2), np.float32)
        sure[first, 0] = sure[last, 1] = 9
        logits.append(sure)
    predicted = questions.predictions(logits, found, questions.rows.test)
    assert [answer.spans[0].text for answer in predicted] == answers
    for answer in predicted:
        span = answer.spans[0]
        assert context[span.start : span.end] == span.text
        assert [s.score for s in answer.spans] == sorted((s.score for s in answer.spans), reverse=True)


def test_windows_overlap_and_an_answer_in_any_of_them_is_found(bert: str, tmp_path: Path) -> None:
    context = "the cat sees the dog . " * 12 + "the bird follows the fish ."
    answer = {"text": "bird", "start": context.index("bird")}
    questions = task([{"question": "follows ?", "context": context, "answers": [answer]}], bert, tmp_path)
    found = questions.encode(bases.reader(bert, bert, 32), questions.rows.test)
    room = 32 - 5  # two words of the question and three special tokens
    assert len(found) == 1 + -(-(78 - room) // (room - 8))
    assert found.row.tolist() == [0] * len(found)
    assert found.unread == {}
    parts = [place[place[:, 0] >= 0] for place in found.places]
    for before, after in itertools.pairwise(parts):
        assert before[-8:].tolist() == after[:8].tolist()
    held = [span_of(place, answer["start"], answer["start"] + 4) for place in found.places]
    assert [first.item() for first in found.targets["first"]] == [span[0] if span else 0 for span in held]
    assert any(held)


def test_every_row_is_answered_though_no_window_holds_its_answer(bert: str, tmp_path: Path) -> None:
    context = "the cat sees the dog . " * 20
    given = [
        {"question": "what ? " * 40, "context": context, "answers": [{"text": context.strip(), "start": 0}]},
        {"question": "what ?", "context": "\u200b", "answers": []},
    ]
    questions = task(given, bert, tmp_path)
    found = questions.encode(bases.reader(bert, bert, 32), questions.rows.test)
    assert found.unread == {
        "questions cut to half of sequence_length": 1,
        "answers that no window holds whole": 1,
    }
    logits = [np.zeros((len(tokens), 2), np.float32) for tokens in found.tokens]
    first, second = questions.predictions(logits, found, questions.rows.test)
    assert first.text(np.inf)
    assert second.text(np.inf) == ""
    assert all(measure.interval() for measure in questions.measures([first, second], questions.rows.test))


def test_answers_and_their_absence_are_learned(bert: str, tmp_path: Path) -> None:
    given = rows("answers", [], made(200, 0, 0.4), made(40, 1, 0.4), made(60, 2, 0.4))
    summary = run(job(tmp_path, bert, given, epochs=6, answers={"overlap": 8, "longest": 2}))
    scores = summary["scores"]
    assert scores["model"]["f1"]["value"] > 0.9
    assert scores["majority"]["f1"]["value"] < 0.7
    assert set(summary["parts"]) == {"with an answer", "without an answer"}
    assert np.isfinite(summary["chosen"]["threshold_of_no_answer"])
    folder = str(tmp_path / "model")
    assert "pipeline_tag: question-answering" in Path(folder, "README.md").read_text()
    model = AutoModelForQuestionAnswering.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    row = made(1, 3)[0]
    encoded = tokenizer(row["question"], row["context"], return_tensors="pt")
    assert encoded["token_type_ids"].unique().tolist() == [0, 1]
    with torch.no_grad():
        assert model(**encoded).start_logits.shape == encoded["input_ids"].shape


def test_windows_that_cannot_move_on_are_refused(bert: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"lower `answers.overlap` to 8"):
        task(made(2, 0), bert, tmp_path, answers={"overlap": 9}, sequence_length=32)
    with pytest.raises(ValueError, match="raise `sequence_length` to 32 or more"):
        task(made(2, 0), bert, tmp_path, answers={}, sequence_length=31)


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_the_shortest_windows_hold_a_question_and_move_on(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    base = request.getfixturevalue(kind)
    given = [{"question": "what ? " * 40, "context": "the cat sees the dog . " * 20, "answers": []}]
    questions = task(given, base, tmp_path, answers={}, sequence_length=32)
    reader = bases.reader(base, base, 32)
    found = questions.encode(reader, questions.rows.test)
    read = {at for place in found.places for start, end in place[place[:, 0] >= 0] for at in range(start, end)}
    assert read == {at for at, letter in enumerate(given[0]["context"]) if not letter.isspace()}
    assert all(len(ids) <= 32 for ids in found.tokens)
