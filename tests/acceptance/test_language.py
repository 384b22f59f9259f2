"""Accuracy of language identification on labelled sentences and documents; `pytest -s` prints the table."""

from __future__ import annotations

import gzip
from collections import defaultdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from benchmarks.documents import prose
from pipeline.stage import Batch
from pipeline.stages.language import Config, measure, rules
from pipeline.store import ledger

#: Percent of these very sentences that fastText got right in the comparison that they come from
#: (github.com/pemistahl/lingua-py, accuracy-reports/fasttext at commit f0f31ce).
PUBLISHED = {
    **{"ar": 99.7, "de": 99.8, "en": 100.0, "es": 99.5, "fr": 99.2},
    **{"pl": 99.9, "ru": 99.6, "sv": 98.3, "tr": 99.7, "vi": 99.6},
}
#: Points that lid.176.ftz, the model compressed from 126 MB to 0.9 MB, may lose of that.
COMPRESSION = 3.0
#: Languages of the set that lid.176 does not know; it has no Bokmål, only Norwegian.
UNKNOWN = {"lg", "mi", "nb", "sn", "st", "tn", "ts", "xh", "zu"}


@pytest.fixture(scope="module")
def sentences(shared: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    with gzip.open(shared / "langid" / "lingua_sentences.tsv.gz", "rt", encoding="utf-8", newline="\n") as lines:
        for line in lines:
            language, text = line.removesuffix("\n").split("\t", 1)
            found[language].append(text)
    assert len(found) == 75
    return {language: texts for language, texts in sorted(found.items()) if language not in UNKNOWN}


def identify(shared: Path, texts: list[str], **config) -> tuple[list[str], np.ndarray]:
    model = str(shared / "models" / "lid.176.ftz")
    signals = measure(Config(model=model, **config), Batch(pa.array(texts), models={"language": model})).signals
    return signals["language"].to_pylist(), signals["language_score"].to_numpy()


def accuracy(shared: Path, labelled: dict[str, list[str]], **config) -> dict[str, float]:
    """Percent of the texts of each language that are named right."""
    return {
        language: 100 * float(np.mean(np.array(identify(shared, texts, **config)[0]) == language))
        for language, texts in labelled.items()
    }


def test_sentences_are_named_as_well_as_published(shared: Path, sentences: dict[str, list[str]]):
    found = accuracy(shared, sentences)
    print("\nlanguage  sentences  right %  published %")
    for language, percent in sorted(found.items(), key=lambda item: -item[1]):
        print(f"{language:8}  {len(sentences[language]):9}  {percent:7.1f}  {PUBLISHED.get(language, '')!s:>11}")
    print(f"macro average over {len(found)} languages: {np.mean(list(found.values())):.1f} %")
    short = {name: (found[name], wanted) for name, wanted in PUBLISHED.items() if found[name] < wanted - COMPRESSION}
    assert not short


def test_excerpts_name_documents_as_well_as_the_whole_text_does(shared: Path, sentences: dict[str, list[str]]):
    """Documents of about 3 KB, made of a language's sentences in their order."""
    documents = {}
    for language, texts in sentences.items():
        joined = "\n".join(texts).encode()
        pieces = [joined[at : at + 3000].decode("utf-8", "ignore") for at in range(0, len(joined) - 2999, 3000)]
        documents[language] = pieces[:40]
    whole = accuracy(shared, documents, max_bytes=None)
    excerpt = accuracy(shared, documents)
    print(f"\nmacro average of documents: whole {np.mean(list(whole.values())):.2f} %", end="")
    print(f", excerpts of {Config().max_bytes} bytes {np.mean(list(excerpt.values())):.2f} %")
    assert np.mean(list(excerpt.values())) >= np.mean(list(whole.values())) - 0.5
    assert all(excerpt[language] >= 99 for language in PUBLISHED)


@pytest.mark.parametrize("domain", ["books", "encyclopedia", "news", "science", "speech"])
@pytest.mark.usefixtures("shared")
def test_english_prose_passes_the_default_threshold(shared: Path, domain: str):
    texts = prose(2, domain)
    model = str(shared / "models" / "lid.176.ftz")
    signals = measure(Config(model=model), Batch(texts, models={"language": model})).signals
    kept = ledger.judge(rules(Config()), signals, len(texts)).rule < 0
    assert kept.mean() >= 0.95
