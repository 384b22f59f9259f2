"""Our prediction beside fastText's own, for every kind of classifier that it writes."""

from __future__ import annotations

import itertools
import threading
from pathlib import Path
from typing import Any, NamedTuple

import fasttext
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import MillError
from pipeline.store import fasttext_model
from pipeline.text.fasttext_prediction import predict

WORDS = ["the", "cat", "sleeps", "die", "Katze", "schläft", "猫が寝ている", "кошка", "спит", "été", "🙂🙂", "a" * 80]
BLANKS = [" ", "  ", "\n", "\t", "\r\n", "\v", "\0", "</s>", " </s> "]
ODD = ["", "\n", "</s>", "x</s>y", "__label__c1 cat", "x__label__", "<", ">", "<cat>", "\ufeffcat", "-", "ß", "ḑ̇a"]
TEXTS = st.lists(
    st.tuples(st.sampled_from(WORDS + ODD) | st.text(max_size=12), st.sampled_from(BLANKS)).map("".join), max_size=12
).map("".join)

#: Loss, letters of an n-gram, words of an n-gram, and how the model is compressed (None: it is not).
KINDS = {
    "tree": ("hs", (2, 4), 1, None),
    "words and pairs": ("softmax", (0, 0), 2, None),
    "each label by itself": ("ova", (1, 3), 3, None),
    "quantised": ("ns", (3, 6), 1, {}),
    "quantised output": ("softmax", (2, 4), 1, {"qnorm": True, "qout": True}),
    "pruned": ("hs", (2, 4), 2, {"cutoff": 300, "qnorm": True}),
}
MOST_LABELS = 300  # fastText quantises no smaller output
#: How far apart fastText's sigmoid is at two steps of its table next to one another, at most: a score that lies where
#: they meet is either, by the last digit of a sum. Few do.
STEP = 0.25 * 16 / 512


class Both(NamedTuple):
    ours: fasttext_model.Model
    theirs: Any


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> str:
    return written(tmp_path_factory.mktemp("lines") / "lines.txt", 7)


def written(path: Path, labels: int) -> str:
    rng = np.random.default_rng(1)
    rows = [
        f"__label__c{label} " + " ".join(rng.choice(WORDS[label % 7 : label % 7 + 6], 6)) + f" w{k}"
        for k, label in itertools.product(range(60), range(labels))
        if k % (label + 1) == 0  # labels of different sizes make a tree that is no full one
    ]
    path.write_text("\n".join([*rows, ""]), "utf-8")
    return str(path)


@pytest.fixture(scope="module", params=KINDS, ids=str)
def both(request: pytest.FixtureRequest, lines: str, tmp_path_factory: pytest.TempPathFactory) -> Both:
    loss, (smallest, largest), word_ngrams, compression = KINDS[request.param]
    path = str(tmp_path_factory.mktemp("model") / "model.bin")
    if request.param == "quantised output":
        lines = written(tmp_path_factory.mktemp("lines") / "many.txt", MOST_LABELS)
    # Eleven threads, because each sets a tenth of the weights, rounded down: with fewer some stay uninitialised.
    model = fasttext.train_supervised(
        lines, loss=loss, minn=smallest, maxn=largest, wordNgrams=word_ngrams, dim=20, bucket=3000, epoch=5, lr=0.3,
        thread=11, verbose=0,
    )  # fmt: skip
    if compression is not None:
        model.quantize(input=lines, retrain="cutoff" in compression, thread=11, verbose=0, **compression)
    model.save_model(path)
    return Both(fasttext_model.load(path), fasttext.load_model(path))


def assert_equal(both: Both, texts: list[str]) -> None:
    size = len(both.ours.labels)
    labels, scores = predict(both.ours, pa.array(texts, pa.string()), size)
    _, best = predict(both.ours, pa.array(texts, pa.string()))
    between, seen = 0, 0
    for text, row, values, first in zip(texts, labels, scores, best, strict=True):
        names, theirs = both.theirs.predict(text.replace("\n", " ").replace("</s>", " "), k=size)
        ours = {both.ours.labels[label]: score for label, score in zip(row, values, strict=True) if label >= 0}
        wanted = {name.removeprefix("__label__"): score for name, score in zip(names, theirs, strict=True)}
        assert ours == pytest.approx(wanted, abs=1e-5 if both.ours.loss == fasttext_model.SOFTMAX else STEP), text
        between += sum(abs(ours[name] - score) > 1e-5 for name, score in wanted.items())
        seen += len(wanted)
        assert first[0] == (max(ours.values()) if ours else 0)
        assert list(values) == sorted(values, reverse=True)
    assert between <= 1 + seen // 200


@given(st.lists(TEXTS, max_size=6))
def test_every_text_gets_the_labels_and_scores_that_fasttext_gives_it(both: Both, texts: list[str]):
    assert_equal(both, texts)


def test_more_words_than_are_remembered_change_nothing(both: Both):
    numbers = [" ".join(f"w{k} {k}" for k in range(start, start + 400)) for start in range(0, 40_000, 400)]
    assert_equal(both, ODD + numbers + ODD)
    together = predict(both.ours, pa.array(numbers))
    alone = predict(both.ours, pa.array(numbers[-1:]))
    assert [values[-1:].tobytes() for values in together] == [values.tobytes() for values in alone]


def test_threads_share_one_model_and_get_what_one_of_them_gets(both: Both):
    texts = pa.array([f"the cat {k} schläft" for k in range(2000)])
    alone, found = predict(both.ours, texts, 2), []
    threads = [threading.Thread(target=lambda: found.append(predict(both.ours, texts, 2))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    for labels, scores in found:
        np.testing.assert_array_equal(labels, alone[0])
        np.testing.assert_array_equal(scores, alone[1])


def test_a_file_that_is_cut_or_is_none_is_named(both: Both, lines: str, tmp_path: Path):
    path = tmp_path / "model.bin"
    both.theirs.save_model(str(path))
    whole = path.read_bytes()
    for size in {0, 3, 40, 63, 100, len(whole) // 3, len(whole) // 2, len(whole) - 1}:
        path.write_bytes(whole[:size])
        with pytest.raises(MillError, match=f"{path.name}: not a fastText model"):
            fasttext_model.load(str(path))
    with pytest.raises(MillError, match="not a fastText model"):
        fasttext_model.load(lines)


def test_a_model_without_labels_is_refused(lines: str, tmp_path: Path):
    path = str(tmp_path / "vectors.bin")
    fasttext.train_unsupervised(lines, dim=20, bucket=100, epoch=1, thread=11, verbose=0).save_model(path)
    with pytest.raises(MillError, match="no labels"):
        fasttext_model.load(path)
