"""Toxicity, spam and bad words on labelled tweets, messages and word lists; `pytest -s` prints the scores."""

from __future__ import annotations

import csv
import gzip
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from benchmarks.language import labelled as labelled_languages
from pipeline.build.build import Build
from pipeline.build.stage import Batch
from pipeline.curation import recipe as recipes
from pipeline.stages import bad_words
from pipeline.stages.classifiers import steps
from pipeline.text import phrases


def tweets(shared: Path) -> tuple[list[str], list[bool]]:
    """Tweets, and which of them annotators found offensive or hateful."""
    raw = gzip.decompress((shared / "quality" / "hate_offensive_davidson.csv.gz").read_bytes()).decode()
    rows = list(csv.DictReader(io.StringIO(raw, newline="")))
    return [row["tweet"] for row in rows], [row["class"] != "2" for row in rows]


def messages(shared: Path) -> tuple[list[str], list[bool]]:
    """Text messages, and which of them are spam."""
    raw = gzip.decompress((shared / "quality" / "sms_spam.tsv.gz").read_bytes()).decode()
    rows = [line.split("\t", 1) for line in raw.split("\n") if "\t" in line]
    return [text for _, text in rows], [label == "spam" for label, _ in rows]


@pytest.mark.parametrize("labelled_texts", [tweets, messages], ids=lambda read: read.__name__)
def test_a_classifier_trained_in_a_build_halves_the_errors_of_the_majority(
    shared: Path, tmp_path: Path, labelled_texts: Any
):
    """On the fifth of the texts that is held out; with the defaults, for texts the classifier has not seen."""
    texts, positive = labelled_texts(shared)
    sources = {}
    for side in (True, False):
        path = tmp_path / f"{side}.jsonl"
        lines = [json.dumps({"text": text}) for text, label in zip(texts, positive, strict=True) if label is side]
        path.write_text("\n".join(lines), "utf-8")
        sources[side] = [{"name": str(side), "kind": "jsonl", "path": str(path)}]
    train = {"positive": sources[True], "negative": sources[False], "heldout": 0.2}
    values = {"name": "x", "sources": sources[False], "toxicity": {"train": train}}
    build = Build(str(tmp_path / "build"), recipes.Recipe.model_validate(values))
    step = steps.step("toxicity", "Toxicity classifier")
    for item in step.items(build):
        step.work(build, item)
    found = steps.scores(build, "toxicity")
    assert found is not None
    print(f"\n{labelled_texts.__name__}: {found}")
    assert found["texts"] > 500
    assert 1 - found["accuracy"] < (1 - found["majority"]) / 2
    assert found["auc"] > 0.95


def test_bad_words_tell_offensive_tweets_from_others(shared: Path):
    texts, positive = tweets(shared)
    lists = {"*": str(shared / "quality" / "ldnoobw" / "en.txt")}
    signals = bad_words.measure(bad_words.Config(lists=lists), Batch(pa.array(texts), models=lists)).signals
    flagged = signals["bad_word_count"].to_numpy() > 0
    rates = flagged[np.array(positive)].mean(), flagged[~np.array(positive)].mean()
    print(f"\ntweets with a word of the list: {rates[0]:.1%} of the offensive, {rates[1]:.1%} of the others")
    assert rates[0] > 5 * rates[1]


@pytest.mark.usefixtures("shared")
def test_every_word_of_every_list_is_found_between_other_words(shared: Path):
    for path in sorted((shared / "quality" / "ldnoobw").glob("*.txt")):
        words = [line for line in path.read_text("utf-8").split("\n") if line.strip()]
        known = phrases.prepare(words)
        again = [word.upper() if word.upper().lower() == word else word for word in known.phrases]  # not ß, nor ı
        found = phrases.count(pa.array([f"so, {word}. And" for word in again]), known)
        assert (np.diff(found.offsets) >= 1).all(), path.name


@pytest.mark.parametrize("language", ["zh", "ja", "th", "en", "de", "ru"])
def test_few_plain_sentences_hold_a_bad_word(shared: Path, language: str):
    """In scripts without spaces a phrase is found inside words, too; sentences of newspapers should not suffer."""
    path = shared / "quality" / "ldnoobw" / f"{language}.txt"
    words = [line for line in path.read_text("utf-8").split("\n") if line.strip()]
    found = phrases.count(pa.array(labelled_languages()["sentence"][language]), phrases.prepare(words))
    assert (np.diff(found.offsets) > 0).mean() < 0.02
