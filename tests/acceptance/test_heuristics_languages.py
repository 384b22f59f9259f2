"""Good text of each language passes the heuristic rules, and what is no good text does not.

The lists were computed from the sentences that the first test reads, so that it alone would say little: others read
texts that no list was counted in.
"""

from __future__ import annotations

import gzip
import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from benchmarks.language import DATA, _rows, labelled, short
from pipeline.build.stage import Batch
from pipeline.stages import language
from pipeline.stages.heuristics import families
from pipeline.stages.heuristics import stage as heuristics
from pipeline.store import ledger

COMMON = ("ar", "cs", "de", "es", "fa", "fr", "hi", "hu", "id", "it", "ja", "ko", "nl", "pl", "pt", "ru", "sv")
COMMON += ("th", "tr", "uk", "vi", "zh", "fi", "el", "he")


def kept(texts: list[str], named: list[str] | None) -> np.ndarray:
    """bool [n]: whether `heuristics: {}` keeps the text."""
    config = families.Config()
    signals = {} if named is None else {"language": pa.array(named).dictionary_encode()}
    measured = heuristics.measure(config, Batch(pa.array(texts), signals=signals)).signals
    return ledger.judge(heuristics.rules(config), {**signals, **measured}, len(texts)).rule < 0


@pytest.fixture(scope="module")
def named(shared: Path):
    """Names the languages of texts as the language stage does."""
    model = str(shared / "models" / "lid.176.ftz")

    def name(texts: list[str]) -> list[str]:
        batch = Batch(pa.array(texts), models={"language": model})
        return language.measure(language.Config(model=model), batch).signals["language"].to_pylist()

    return name


@pytest.fixture(scope="module")
def articles(shared: Path) -> dict[str, list[str]]:
    """The Declaration of Human Rights in ten pieces: a list counts no word of it."""
    assert shared
    paragraphs = defaultdict(list)
    for code, text in _rows(DATA / "udhr_paragraphs.tsv.gz"):
        paragraphs[code].append(text)
    found: dict[str, list[str]] = {}
    for code, texts in paragraphs.items():
        found[short(code.split("_")[0])] = ["\n".join(texts[at : at + 10]) for at in range(3, len(texts) - 5, 10)]
    return found


@pytest.mark.usefixtures("shared")
def test_most_documents_of_the_common_languages_are_kept(named):
    documents = labelled()["document"]
    shares = {name: kept(documents[name], named(documents[name])).mean() for name in COMMON}
    assert {name: share for name, share in shares.items() if share < 0.8} == {}


def test_articles_of_the_declaration_are_kept_in_the_common_languages_as_in_english(articles, named):
    english = kept(articles["en"], None).mean()
    assert english > 0.5
    shares = {name: kept(articles[name], named(articles[name])).mean() for name in COMMON if name in articles}
    assert len(shares) > 20
    assert {name: share for name, share in shares.items() if share < english - 0.2} == {}


def test_german_paragraphs_of_wikipedia_are_kept_as_the_english_ones_that_they_translate(shared: Path, named):
    found = {}
    for name in ("en", "de"):
        with gzip.open(shared / "finetune" / "xquad" / f"xquad.{name}.json.gz", "rt", encoding="utf-8") as lines:
            pages = json.load(lines)["data"]
        found[name] = ["\n".join(part["context"] for part in page["paragraphs"]) for page in pages]
    german, english = (kept(found[name], named(found[name])) for name in ("de", "en"))
    assert english.mean() > 0.8
    assert german.mean() >= english.mean() - 0.05
    assert kept(found["de"], None).mean() < 0.2  # by the rules for English


def test_english_prose_is_judged_as_it_always_was(named):
    documents = labelled()["document"]["en"]
    assert (kept(documents, named(documents)) == kept(documents, None)).all()


@pytest.mark.usefixtures("shared")
def test_menus_and_lists_are_dropped_in_every_language():
    words = labelled()["word"]
    lost = {}
    for name in COMMON:
        menus = ["\n".join(words[name][at : at + 100]) for at in range(0, 900, 100)]
        share = kept(menus, [name] * len(menus)).mean()
        if share > 0:
            lost[name] = share
    assert lost == {}


@pytest.mark.usefixtures("shared")
@pytest.mark.parametrize("name", ["ja", "th", "zh", "en"])
def test_a_page_that_says_one_sentence_again_and_again_is_dropped(name: str):
    sentences = labelled()["sentence"][name]
    again = sentences[399]
    pages = ["\n".join(f"{sentence} {again}" for sentence in sentences[at : at + 10]) for at in range(0, 300, 10)]
    assert kept(pages, [name] * len(pages)).sum() == 0
