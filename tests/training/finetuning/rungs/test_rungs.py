from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from pipeline.store import files
from training.finetuning.rungs import classical, head, overlap, word_vectors
from training.finetuning.rungs.base import Examples, Fit, joined, parted
from training.models import publish

ORDER = ("the cat sees {}", "{} sees the cat")


def made(rows: int, seed: int = 0, wrong: float = 0.0) -> Examples:
    """Two classes, told apart by the pairs of words alone, and a third by a word."""
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, 3, rows)
    texts = ["a dog barks" if label == 2 else ORDER[label].format(f"n{draw.integers(40)}") for label in labels.tolist()]
    noisy = np.where(draw.random(rows) < wrong, draw.integers(0, 3, rows), labels)
    return Examples(texts, noisy, [str(row) for row in range(rows)])


@pytest.mark.parametrize("fit", [classical.tf_idf, classical.fasttext])
def test_words_and_pairs_are_learned_and_the_answer_is_the_same_again(fit: Fit, tmp_path: Path) -> None:
    train, dev, test = made(300), made(60, 1), made(100, 2)
    found = fit(train, dev, 3).predict_proba(test.texts)
    assert found.shape == (100, 3)
    assert found.sum(1) == pytest.approx(1)
    assert (found.argmax(1) == test.labels).mean() > 0.97
    again = fit(train, dev, 3)
    assert (again.predict_proba(test.texts) == found).all()
    again.save(str(tmp_path))
    assert any(tmp_path.iterdir())


@pytest.mark.parametrize("fit", [classical.tf_idf, classical.fasttext])
def test_a_text_without_a_known_word_has_an_answer(fit: Fit) -> None:
    found = fit(made(60), made(30, 1), 3).predict_proba(["", "\n\n"])
    assert np.isfinite(found).all()
    assert found.sum(1) == pytest.approx(1)


def pairs_of_words(rows: int, seed: int) -> Examples:
    """The second text is a part of the first (class 1), or of other words (class 0); the words alone say nothing."""
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, 2, rows)
    texts = []
    for label in labels.tolist():
        first, other = draw.permutation(200)[:24].reshape(2, 12)
        second = (first if label else other)[:5]
        texts.append(joined(*("\n".join(f"w{word}" for word in words) for words in (first, second))))
    return Examples(texts, labels, [str(row) for row in range(rows)])


def test_words_that_both_texts_share_tell_what_a_bag_of_words_cannot(tmp_path: Path) -> None:
    train, dev, test = (pairs_of_words(rows, seed) for seed, rows in enumerate((300, 100, 200)))
    found = overlap.fit(train, dev, 2)
    assert (found.predict_proba(test.texts).argmax(1) == test.labels).mean() > 0.97
    assert (classical.tf_idf(train, dev, 2).predict_proba(test.texts).argmax(1) == test.labels).mean() < 0.65
    assert (overlap.fit(train, dev, 2).predict_proba(test.texts) == found.predict_proba(test.texts)).all()
    assert np.isfinite(found.predict_proba(["", "\n", "only one"])).all()
    found.save(str(tmp_path))
    assert files.read_json(str(tmp_path / "idf.json"))["words"] == found.idf


def test_the_second_text_of_a_pair_is_the_last_line() -> None:
    assert parted(joined("a\nb", "c\nd")) == ("a\nb", "c d")
    assert parted("alone") == ("", "alone")


def test_the_majority_gives_the_shares_of_training() -> None:
    train = Examples(["a"] * 4, np.array([2, 1, 2, 2]), list("abcd"))
    assert classical.majority(train, train, 3).predict_proba(["x"]).tolist() == [[0, 0.25, 0.75]]


def test_tf_idf_is_scikit_learns_and_its_files_hold_all_of_it(tmp_path: Path) -> None:
    train, dev, test = made(200, wrong=0.1), made(60, 1, 0.1), made(50, 2)
    fitted = classical.tf_idf(train, dev, 3)
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"\w+")
    model = LogisticRegression(C=fitted.head.strength, max_iter=1_000)
    model.fit(vectorizer.fit_transform(train.texts), train.labels)
    expected = model.predict_proba(vectorizer.transform(test.texts))
    assert fitted.predict_proba(test.texts) == pytest.approx(expected, abs=2e-3)
    fitted.save(str(tmp_path))
    stored = load_file(tmp_path / "model.safetensors")
    assert json.loads((tmp_path / "vocabulary.json").read_text()) == vectorizer.get_feature_names_out().tolist()
    assert stored["idf"] == pytest.approx(vectorizer.idf_, rel=1e-5)
    assert (stored["weights"] == fitted.head.weights).all()


def test_the_penalty_is_chosen_by_the_development_rows() -> None:
    draw = np.random.default_rng(0)
    noise = draw.normal(size=(60, 200))
    labels = draw.integers(0, 2, 60)  # of which the features know nothing
    weak = head.fit(noise, labels, draw.normal(size=(200, 200)), draw.integers(0, 2, 200), 2)
    assert weak.strength == min(head.STRENGTHS)
    clear = sparse.csr_matrix(np.eye(2)[labels] + 0.01 * noise[:, :2])
    strong = head.fit(clear, labels, clear, labels, 2)
    assert (strong.predict_proba(clear).argmax(1) == labels).all()


@pytest.mark.parametrize("seen", [[1], [0, 2], [0, 1, 2]])
def test_classes_that_training_lacks_are_all_but_impossible(seen: list[int]) -> None:
    labels = np.array(seen * 10)
    features = np.eye(3)[labels]
    found = head.fit(features, labels, features, labels, 3).predict_proba(features)
    assert (found.argmax(1) == labels).all()
    lacking = [label for label in range(3) if label not in seen]
    assert (found[:, lacking] < 1e-9).all()


def test_word_vectors_are_weighted_by_idf(tmp_path: Path) -> None:
    stored = np.array([[1, 0], [0, 1], [1, 1]], np.float32)
    with files.replacing_folder(str(tmp_path / "vectors")) as aside:
        save_file({"vectors": stored}, aside / "vectors.safetensors")
        (aside / "words.txt").write_text("the\ncat\ndog\n")
        publish.write_summary(aside, {"method": "word2vec", "lowercase": True})
    texts = ["The cat", "the dog", "the cat", "the dog dog"] * 5
    train = Examples(texts, np.array([0, 1] * 10), [str(row) for row in range(20)])
    fitted = word_vectors.fit(str(tmp_path / "vectors"))(train, train, 2)
    assert isinstance(fitted, word_vectors.Static)
    rare = np.log(21 / 11) + 1
    assert fitted.idf == pytest.approx([1.0, rare, rare])  # "the" is in every text
    mean = (stored[0] + rare * stored[1]) / (1 + rare)
    assert fitted.features(["the cat"])[0] * fitted.spread + fitted.centre == pytest.approx(mean)
    assert fitted.predict_proba(["cat", "DOG"]).argmax(1).tolist() == [0, 1]
    assert fitted.predict_proba(["nothing known"]).sum() == pytest.approx(1)
