"""Documents are searched for the words of their language, and the ledger says which were found."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.build.stage import Batch
from pipeline.curation import recipe as recipes
from pipeline.stages.bad_words import STAGE, Config
from pipeline.store import ledger

TEXTS = ["darn heck darn you", "du Mist Kerl", "darn Mist", "heck", "", "spam eggs"]
LANGUAGES = ["en", "de", "fr", None, "en", "en"]


@pytest.fixture
def lists(tmp_path: Path) -> dict[str, str]:
    words = {"en": "# mild\ndarn\nHeck\r\n", "de": "mist\n", "*": "spam\n\n"}
    for name, content in words.items():
        (tmp_path / f"list-{ord(name[0])}.txt").write_text(content, "utf-8")
    return {name: str(tmp_path / f"list-{ord(name[0])}.txt") for name in words}


def measured(lists: dict[str, str], languages: list | None = LANGUAGES) -> dict[str, list]:
    signals = {} if languages is None else {"language": pa.array(languages, pa.string()).dictionary_encode()}
    found = STAGE.measure(Config(lists=lists), Batch(pa.array(TEXTS), signals=signals, models=lists)).signals
    assert {name: array.type for name, array in found.items()} == STAGE.signals
    return {name: array.to_pylist() for name, array in found.items()}


def test_each_document_is_searched_for_the_words_of_its_language(lists: dict[str, str]):
    found = measured(lists)
    assert found["bad_word_count"] == [3, 1, 0, 0, 0, 1]
    assert found["bad_word_fraction"] == [0.75, 1 / 3, 0, 0, None, 0.5]
    assert found["bad_words"][0] == [{"word": "darn", "count": 2}, {"word": "heck", "count": 1}]
    assert found["bad_words"][5] == [{"word": "spam", "count": 1}]


def test_a_language_without_a_list_is_not_searched_and_stays(lists: dict[str, str]):
    del lists["*"]
    found = measured(lists)
    assert found["bad_word_count"] == [3, 1, None, None, 0, 0]
    signals = {name: pa.array(found[name]) for name in ("bad_word_count", "bad_word_fraction")}
    config = Config(lists=lists, max_count=1, max_fraction=0.3)
    columns = ledger.judge(STAGE.rules(config), signals, len(TEXTS)).columns()
    assert columns["dropped_by"].to_pylist() == ["bad_words.max_count", "bad_words.max_fraction", *[None] * 4]


def test_without_languages_the_list_for_all_is_searched(lists: dict[str, str]):
    found = measured({"*": lists["en"]}, None)
    assert found["bad_word_count"] == [3, 0, 1, 1, 0, 0]


def test_lists_by_language_need_languages(lists: dict[str, str]):
    with pytest.raises(ValueError, match="add a `language` section"):
        recipes.Recipe.model_validate(
            {
                "name": "x",
                "sources": [{"name": "x", "kind": "jsonl", "path": "x.jsonl"}],
                "bad_words": {"lists": {"en": lists["en"]}},
            }
        )
