"""Words of scripts without spaces: in the Declaration of Human Rights, the same content whatever the language, and in
sentences of newspapers."""

from __future__ import annotations

import gzip
from collections import defaultdict
from pathlib import Path

import pyarrow as pa
import pytest

from benchmarks.language import Labelled, labelled
from pipeline.build.stage import Batch
from pipeline.stages.heuristics import families
from pipeline.stages.heuristics import stage as heuristics
from pipeline.store import ledger
from pipeline.text import spans


@pytest.fixture(scope="module")
def declarations(shared: Path) -> dict[str, str]:
    found: dict[str, list[str]] = defaultdict(list)
    with gzip.open(shared / "langid" / "udhr_paragraphs.tsv.gz", "rt", encoding="utf-8", newline="\n") as lines:
        for line in lines:
            language, text = line.removesuffix("\n").split("\t", 1)
            found[language].append(text)
    return {language: "\n".join(paragraphs) for language, paragraphs in found.items()}


@pytest.fixture(scope="module")
def texts(shared: Path) -> Labelled:
    assert shared.is_dir()
    return labelled()


UNSPACED = ("cmn_hans", "cmn_hant", "jpn", "tha")
CONFIG = families.Config.model_validate({"gopher_quality": {"min_stop_words": None}, "gopher_repetition": {}})


def measured(texts: list[str]) -> dict[str, pa.Array]:
    return heuristics.measure(CONFIG, Batch(pa.array(texts))).signals


def dropped(texts: list[str]) -> list[str | None]:
    return ledger.judge(heuristics.rules(CONFIG), measured(texts), len(texts)).columns()["dropped_by"].to_pylist()


def test_a_text_has_as_many_words_as_its_translation_into_english_to_four_times_as_many(declarations: dict[str, str]):
    """A word is one to four characters or syllables; a splitter at spaces would count less than half of the words."""
    english = measured([declarations["eng"]])["word_count"][0].as_py()
    for language in UNSPACED:
        text = declarations[language]
        assert english <= measured([text])["word_count"][0].as_py() <= 4 * english, language
        assert len(text.split()) < english / 2, language


def test_a_short_text_in_an_unspaced_script_is_too_short_as_its_translation_is(declarations: dict[str, str]):
    texts = [declarations[language].split("\n")[0][:60] for language in ("eng", *UNSPACED)]
    assert dropped([text[:40] for text in texts]) == ["gopher_quality.min_words"] * len(texts)


@pytest.mark.parametrize("language", ["zh", "ja", "th"])
def test_documents_in_unspaced_scripts_pass_the_rules_on_words_and_repetition(texts: Labelled, language: str):
    """Sentences of newspapers, put together: nothing is wrong with them."""
    verdicts = dropped(texts["document"][language])
    assert verdicts.count(None) >= 0.9 * len(verdicts), verdicts


def test_repeated_sentences_in_unspaced_scripts_are_dropped(declarations: dict[str, str]):
    repeated = [(declarations[language].split("\n")[0] + " ") * 30 for language in UNSPACED]
    assert all(name and name.startswith("gopher_repetition") for name in dropped(repeated))


@pytest.mark.parametrize("language", UNSPACED)
def test_c4_keeps_the_lines_of_unspaced_scripts_that_it_keeps_of_their_translation(
    declarations: dict[str, str], language: str
):
    """Whole articles in a line, and one line without a space that is longer than the longest word may be."""
    config = families.Config.model_validate({"c4": {"end_punctuation": False}})
    long = "".join(declarations[language].split())
    assert len(long) > 1000
    left = {}
    for name in ("eng", language):
        text = declarations[name] + ("\n" + long if name == language else "")
        found = heuristics.measure(config, Batch(pa.array([text]))).spans
        assert found is not None
        left[name] = len(spans.cut(pa.array([text]), found)[0].as_py()) / len(text)
    assert left[language] >= left["eng"] > 0.95
