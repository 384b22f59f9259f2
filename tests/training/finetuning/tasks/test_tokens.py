from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from seqeval import metrics, scheme
from transformers import AutoTokenizer, pipeline

from tests.helpers.foreign_models import job, rows
from tests.training.conftest import NAMES, VERBS
from training.finetuning import bases
from training.finetuning.finetune import run
from training.finetuning.tasks import task_of
from training.finetuning.tasks.tokens import Tokens, first_pieces

TAGS = ["B-A", "B-B", "I-A", "I-B", "O"]


def sentence(draw: np.random.Generator) -> dict:
    """`the cat sees the dog .`: a cat or a dog with its article is an A, a bird or a fish a B."""
    first, second = draw.integers(4, size=2)
    kinds = ["AABB"[at] for at in (first, second)]
    return {
        "words": ["the", NAMES[first], VERBS[draw.integers(4)], "the", NAMES[second], "."],
        "tags": [f"B-{kinds[0]}", f"I-{kinds[0]}", "O", f"B-{kinds[1]}", f"I-{kinds[1]}", "O"],
    }


def made(count: int, seed: int) -> list[dict]:
    draw = np.random.default_rng(seed)
    return [sentence(draw) for _ in range(count)]


def task(predicted_of: list[dict], base: str, tmp_path: Path) -> Tokens:
    given = rows("tokens", TAGS, predicted_of, predicted_of, predicted_of)
    found = task_of(job(tmp_path, base, given).config, given)
    assert isinstance(found, Tokens)
    return found


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_the_first_piece_of_each_word_is_labelled_and_nothing_else(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    base = request.getfixturevalue(kind)
    words = ["the", "unbelievable", "cat's", "émigré\u0301", "👩‍🚀x", "."]
    tags = ["B-A", "I-A", "O", "B-B", "I-B", "O"]
    tokens = task([{"words": words, "tags": tags}], base, tmp_path)
    reader = bases.reader(base, base, 60)
    found = tokens.encode(reader, tokens.rows.test)
    (labels,) = found.targets["tags"]
    assert [TAGS[label] for label in labels if label >= 0] == tags
    pieces = reader.tokenizer.encode(" ".join(words))
    expected = [-100] * len(pieces.ids)
    word_of = np.cumsum([0, *(len(word) + 1 for word in words)])
    seen = set()
    for at, (start, end) in enumerate(pieces.offsets):
        word = int(np.searchsorted(word_of, start + (" ".join(words)[start:end][:1] == " "), "right")) - 1
        if end > start and word not in seen:
            seen.add(word)
            expected[at] = TAGS.index(tags[word])
    assert labels.tolist() == expected
    assert len(labels) > len(words) + 2  # some words are of several pieces


def test_pieces_are_those_of_transformers_for_words(bert: str, tmp_path: Path) -> None:
    given = made(20, 0)
    tokens = task(given, bert, tmp_path)
    found = tokens.encode(bases.reader(bert, bert, 32), tokens.rows.test)
    tokenizer = AutoTokenizer.from_pretrained(bert)
    for row, ids, place in zip(given, found.tokens, found.places, strict=True):
        expected = tokenizer(row["words"], is_split_into_words=True)
        assert ids.tolist() == expected["input_ids"]
        of = expected.word_ids()
        first = [-1 if word is None or word == before else word for before, word in zip([None, *of], of, strict=False)]
        assert place.tolist() == first


def test_words_that_are_cut_off_are_counted_and_missed(bert: str, tmp_path: Path) -> None:
    tokens = task([{"words": ["the", "cat", "."] * 10, "tags": ["B-A", "I-A", "O"] * 10}], bert, tmp_path)
    found = tokens.encode(bases.reader(bert, bert, 11), tokens.rows.test)  # nine words and two special tokens
    assert found.unread == {"words cut off by sequence_length": 21}
    right = [np.array([TAGS.index("O"), *[TAGS.index(tag) for tag in ["B-A", "I-A", "O"] * 3], TAGS.index("O")])]
    predicted = tokens.predictions(right, found, tokens.rows.test)
    assert predicted == [["B-A", "I-A", "O"] * 3 + ["O"] * 21]
    scores = {measure.name: measure.score for measure in tokens.measures(predicted, tokens.rows.test)}
    assert (scores["precision"], scores["recall"]) == (1, 0.3)


def test_words_without_a_token_are_counted(bert: str, tmp_path: Path) -> None:
    tokens = task([{"words": ["the", "\u200b", "cat"], "tags": ["O", "O", "B-A"]}], bert, tmp_path)
    found = tokens.encode(bases.reader(bert, bert, 11), tokens.rows.test)
    assert found.unread == {"words that have no token of their own": 1}
    assert found.places[0].tolist() == [-1, 0, 2, -1]


def test_entities_are_counted_as_seqeval_counts_them(bert: str, tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    lengths = draw.integers(1, 12, 300)
    true, predicted = ([list(draw.choice(TAGS, length)) for length in lengths] for _ in range(2))
    given = [{"words": ["x"] * len(tags), "tags": tags} for tags in true]
    tokens = task(given, bert, tmp_path)
    test = tokens.rows.test
    found = {measure.name: measure.score for measure in tokens.measures(predicted, test)}
    assert found["entity_f1"] == pytest.approx(metrics.f1_score(true, predicted))
    assert found["precision"] == pytest.approx(metrics.precision_score(true, predicted))
    assert found["recall"] == pytest.approx(metrics.recall_score(true, predicted))
    assert found["word_accuracy"] == pytest.approx(metrics.accuracy_score(true, predicted))
    strict = metrics.f1_score(true, predicted, mode="strict", scheme=scheme.IOB2)
    assert found["strict_f1"] == pytest.approx(strict)
    assert strict != pytest.approx(found["entity_f1"])
    report: Any = metrics.classification_report(true, predicted, output_dict=True)
    for kind, measures in tokens.parts(predicted, test).items():
        assert measures[0].score == pytest.approx(report[kind]["f1-score"])


@pytest.mark.slow
def test_entities_are_learned_and_the_published_model_finds_them(bert: str, tmp_path: Path) -> None:
    given = rows("tokens", TAGS, made(300, 0), made(20, 1), made(30, 2))
    summary = run(job(tmp_path, bert, given, epochs=10))
    scores = summary["scores"]
    assert summary["main"] == "entity_f1"
    assert scores["model"]["entity_f1"]["value"] > 0.9
    assert scores["majority"]["entity_f1"]["value"] < scores["seen_words"]["entity_f1"]["value"]
    assert set(summary["parts"]) == {"A", "B"}
    folder = str(tmp_path / "model")
    tagger: Any = pipeline("token-classification", model=folder, aggregation_strategy="first")
    found = tagger("the cat sees the fish .")
    assert [(entity["entity_group"], entity["start"], entity["end"]) for entity in found] == [
        ("A", 0, 7),
        ("B", 13, 21),
    ]
    told = Path(folder, "README.md").read_text()
    assert "pipeline_tag: token-classification" in told
    assert "## Scores by part" in told


def test_a_token_across_words_is_of_the_first() -> None:
    from tokenizers import Tokenizer, models

    vocabulary = {"a": 0, " ": 1, "b": 2, " b": 3, "a b": 4, "c": 5}
    tokenizer = Tokenizer(models.BPE(vocabulary, [(" ", "b"), ("a", " b")]))
    encoding = tokenizer.encode("a b c")
    assert encoding.tokens == ["a b", " ", "c"]
    assert first_pieces(["a", "b", "c"], encoding).tolist() == [0, -1, 2]


def test_tags_that_mark_no_entities_are_judged_word_by_word(bert: str, tmp_path: Path) -> None:
    kinds = {"the": "DET", ".": "PUNCT", **dict.fromkeys(NAMES, "NOUN"), **dict.fromkeys(VERBS, "VERB")}
    parts = [{"words": row["words"], "tags": [kinds[word] for word in row["words"]]} for row in made(120, 0)]
    given = rows("tokens", sorted(set(kinds.values())), parts[:80], parts[80:100], parts[100:])
    summary = run(job(tmp_path, bert, given))
    assert summary["main"] == "word_accuracy"
    assert summary["scores"]["model"].keys() == {"word_accuracy", "exact_match"}
    assert (
        summary["scores"]["model"]["word_accuracy"]["value"] > summary["scores"]["majority"]["word_accuracy"]["value"]
    )
    assert summary["scores"]["seen_words"]["word_accuracy"]["value"] == 1
    tokens = task_of(job(tmp_path, bert, given).config, given)
    assert isinstance(tokens, Tokens)
    true = given.test["tags"].to_pylist()
    predicted = [["NOUN", *row[1:]] for row in true]
    found = {measure.name: measure.score for measure in tokens.measures(predicted, given.test)}
    assert found == {"word_accuracy": pytest.approx(5 / 6), "exact_match": 0}
    of_tags = {tag: measures[0].score for tag, measures in tokens.parts(predicted, given.test).items()}
    assert of_tags == pytest.approx({"DET": 2 / 3, "NOUN": 4 / 5, "PUNCT": 1, "VERB": 1})
