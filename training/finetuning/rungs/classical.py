"""The rungs without a network: the most frequent label, tf-idf with a logistic head, fastText."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from sklearn.feature_extraction.text import TfidfVectorizer

from pipeline.stages.classifiers import train_model
from pipeline.stages.classifiers.features import Shape
from pipeline.stages.classifiers.scoring import folded
from pipeline.store import fasttext_model, files
from pipeline.text.fasttext_prediction import predict
from training.batches import random_streams
from training.finetuning import deadline
from training.finetuning.rungs import head
from training.finetuning.rungs.base import Examples, development_loss

MOST_FEATURES = 200_000


@dataclass(frozen=True)
class Majority:
    """The shares of the training labels, whatever the text."""

    shares: np.ndarray

    def predict_proba(self, texts: list[str]) -> np.ndarray:
        return np.tile(self.shares, (len(texts), 1))

    def save(self, folder: str) -> None:
        files.write_json(files.join(folder, "shares.json"), self.shares.tolist())


def majority(train: Examples, dev: Examples, classes: int) -> Majority:  # noqa: ARG001
    return Majority(np.bincount(train.labels, minlength=classes) / len(train))


@dataclass(frozen=True)
class TfIdf:
    vectorizer: TfidfVectorizer
    head: head.Head

    def features(self, texts: list[str]):
        """scipy csr [n, width]: rows of unit length, or zero where no word is known."""
        return self.vectorizer.transform(texts)

    def predict_proba(self, texts: list[str]) -> np.ndarray:
        return self.head.predict_proba(self.features(texts))

    def save(self, folder: str) -> None:
        names = self.vectorizer.get_feature_names_out().tolist()
        files.write_json(files.join(folder, "vocabulary.json"), names)
        self.head.save(Path(folder) / "model.safetensors", idf=self.vectorizer.idf_.astype(np.float32))


def tf_idf(train: Examples, dev: Examples, classes: int) -> TfIdf:
    """Words and pairs of neighbouring words, 1 + ln(count) times idf, unit length, under a logistic head.

    A word is a run of letters, digits and _, lower-cased; the MOST_FEATURES most frequent take part.
    """
    vectorizer = TfidfVectorizer(
        ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"\w+", max_features=MOST_FEATURES
    )
    features = vectorizer.fit_transform(train.texts)
    return TfIdf(vectorizer, head.fit(features, train.labels, vectorizer.transform(dev.texts), dev.labels, classes))


@dataclass(frozen=True)
class FastText:
    """``file`` is in fastText's own format; it lives as long as ``folder`` does."""

    folder: tempfile.TemporaryDirectory
    classes: int
    epochs: int

    @property
    def file(self) -> str:
        return files.join(self.folder.name, "model.bin")

    def predict_proba(self, texts: list[str]) -> np.ndarray:
        model = fasttext_model.load(self.file)
        places, values = predict(model, folded(pa.array(texts, pa.string())), self.classes)
        shares = np.zeros((len(texts), self.classes))
        rows, ranks = np.nonzero(places >= 0)
        shares[rows, np.array(model.labels, int)[places[rows, ranks]]] = values[rows, ranks]
        sums = shares.sum(1, keepdims=True)  # of a text without words: nothing
        return np.where(sums > 0, shares / np.where(sums > 0, sums, 1), 1 / self.classes)

    def save(self, folder: str) -> None:
        shutil.copy(self.file, folder)


#: Joulin et al. 2016, "Bag of Tricks", section 3.1: 10 dimensions, pairs of words, rates chosen on development rows;
#: 25 epochs are what small sets need. The rows for pairs are fewer than theirs (ten million), as the texts are.
DIMENSIONS, RATE, EPOCHS, BUCKETS = 10, 0.5, (5, 25), 1 << 17


def fasttext(train: Examples, dev: Examples, classes: int) -> FastText:
    """fastText's supervised classifier by our own trainer of it, which gives the same model each time.

    Rows are learned from in an order that is drawn once: files are often sorted by label.
    """
    train = train.take(random_streams.generator("fasttext", len(train)).permutation(len(train)))
    texts = folded(pa.array(train.texts, pa.string()))
    names = [str(label) for label in range(classes)]
    fitted = []
    for epochs in deadline.paced(EPOCHS):
        model = FastText(tempfile.TemporaryDirectory(prefix="mill-fasttext-"), classes, epochs)
        train_model.train(
            texts, train.labels, names, model.file, dimensions=DIMENSIONS, epochs=epochs, learning_rate=RATE,
            min_count=1, shape=Shape(2, 0, 0, BUCKETS), seed=0,
        )  # fmt: skip
        fitted.append(model)
    losses = [development_loss(model.predict_proba(dev.texts), dev.labels) for model in fitted]
    return fitted[int(np.argmin(losses))]
