"""Our training gives fastText's models: the same format, the same features, as good, and every time the same bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fasttext
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.stages.classifiers import features, scoring, train_model
from pipeline.stages.classifiers.features import Shape
from pipeline.text.buffers import text_buffers

SHAPES = [Shape(1, 0, 0, 0), Shape(2, 0, 0, 500), Shape(3, 2, 4, 700)]
SETTINGS: dict[str, Any] = {"dimensions": 8, "epochs": 10, "learning_rate": 0.5, "min_count": 1, "seed": 3}


def labelled(count: int, seed: int = 0) -> tuple[list[str], np.ndarray]:
    """Texts of words that lean to one side, and their sides."""
    rng = np.random.default_rng(seed)
    words = np.array([f"w{k}é" for k in range(200)])
    labels = rng.integers(0, 2, count)
    lean = np.array([np.linspace(2, 1, 200), np.linspace(1, 2, 200)])
    lean /= lean.sum(1, keepdims=True)
    return [" ".join(rng.choice(words, 20, p=lean[label])) for label in labels], labels


def trained(folder: Path, texts: list[str], labels: np.ndarray, shape: Shape, **changed) -> str:
    path = str(folder / "model.bin")
    train_model.train(pa.array(texts), labels, ["no", "yes"], path, shape=shape, **{**SETTINGS, **changed})
    return path


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_fasttext_reads_a_model_and_predicts_what_its_matrices_say(tmp_path: Path, shape: Shape):
    texts, labels = labelled(200)
    path = trained(tmp_path, texts, labels, shape)
    model: Any = fasttext.load_model(path)
    assert sorted(model.get_labels()) == ["__label__no", "__label__yes"]
    inner, outer = model.get_input_matrix(), model.get_output_matrix()
    data, offsets = text_buffers(pa.array(texts))
    known = features.dictionary(data, offsets, 1)
    assert model.get_words(include_freq=True)[0] == [word.decode() for word in known.words]
    unseen = [*texts[:20], "neu w1é", "", "w1é " * 300]
    data, offsets = text_buffers(pa.array(unseen))
    for number, text in enumerate(unseen):
        size = int(offsets[number + 1] - offsets[number])
        out = np.empty(features.most_rows(size, shape), np.int32)
        room = np.empty(size // 2 + 2, np.int32), np.empty(size + 4, np.uint8)
        span = data, offsets[number], offsets[number + 1]
        count = features.text_rows(*span, known.keys, known.rows, len(known.words), shape, *room, out)
        logits = outer @ inner[out[:count]].mean(0)
        expected = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
        names, values = model.predict(text, k=2)
        found = dict(zip(names, values, strict=True))
        assert [found["__label__no"], found["__label__yes"]] == pytest.approx(expected, abs=3e-5)


def test_the_same_texts_give_the_same_bytes_whatever_memory_held(tmp_path: Path):
    texts, labels = labelled(100)
    first = Path(trained(tmp_path, texts, labels, SHAPES[2])).read_bytes()
    filled = [np.full(1 << k, 3.0, np.float32) for k in range(8, 20) for _ in range(10)]
    del filled
    assert Path(trained(tmp_path, texts, labels, SHAPES[2])).read_bytes() == first
    assert Path(trained(tmp_path, texts, labels, SHAPES[2], seed=4)).read_bytes() != first


@pytest.mark.parametrize("shape", SHAPES[:2], ids=str)
def test_a_model_is_as_accurate_as_one_that_fasttext_trains(tmp_path: Path, shape: Shape):
    texts, labels = labelled(3000)
    unseen, truth = labelled(2000, seed=1)
    path = trained(tmp_path, texts, labels, shape)
    ours = scoring.probability(pa.array(unseen), path, ["yes"]).to_numpy() > 0.5
    lines = [f"__label__{('no', 'yes')[label]} {text}" for text, label in zip(texts, labels, strict=True)]
    (tmp_path / "train.txt").write_text("\n".join([*lines, ""]), "utf-8")
    # eleven threads: each sets a tenth of the weights, rounded down, and with fewer some stay uninitialised
    theirs: Any = fasttext.train_supervised(
        str(tmp_path / "train.txt"), dim=8, epoch=10, lr=0.5, wordNgrams=shape.word_ngrams, bucket=shape.buckets,
        thread=11, verbose=0,
    )  # fmt: skip
    named = np.array([names[0] for names in theirs.predict(unseen)[0]]) == "__label__yes"
    accuracy, reference = np.mean(ours == truth), np.mean(named == truth)
    assert accuracy > max(truth.mean(), 1 - truth.mean()) + 0.1
    assert accuracy >= reference - 0.02


@given(st.lists(st.text(alphabet="aé漢 ", max_size=8), min_size=1, max_size=6), st.integers(1, 3))
def test_the_dictionary_counts_words(texts: list[str], min_count: int):
    data, offsets = text_buffers(pa.array(texts))
    known = features.dictionary(data, offsets, min_count)
    words = " ".join(texts).split(" ")
    expected = {word: words.count(word) for word in words if word and words.count(word) >= min_count}
    assert dict(zip((w.decode() for w in known.words), known.counts.tolist(), strict=True)) == {
        **expected,
        features.END: len(texts),
    }


def test_scores_are_null_for_blank_texts_and_wrong_labels_are_named(tmp_path: Path):
    texts, labels = labelled(100)
    path = trained(tmp_path, texts, labels, SHAPES[0])
    assert scoring.probability(pa.array(["", "\n\t", texts[0]]), path, ["yes"]).is_null().to_pylist() == [1, 1, 0]
    assert scoring.probability(pa.array([], pa.string()), path, ["yes"]).to_pylist() == []
    with pytest.raises(scoring.NoSuchLabel, match=r"no label 'maybe'; correct `label`. It knows .*no.*yes|yes.*no"):
        scoring.probability(pa.array(texts), path, ["maybe"])


def test_folding_makes_one_line_of_lower_case_words():
    assert scoring.folded(pa.array(["You IDIOT!!\nGo 123", "", "漢字"])).to_pylist() == [
        "you idiot ! ! go 000",
        "",
        "漢 字",
    ]
