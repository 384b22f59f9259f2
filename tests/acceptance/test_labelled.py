"""Labelled sets of the field are read whole, as their authors count them, and what is wrong in them is seen."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pytest
from seqeval import metrics, scheme

from training.finetuning.tasks.tokens import Tokens
from training.labelled import files
from training.labelled.rows import Labelled
from training.recipe.finetuning import FinetuneConfig


@pytest.fixture
def load(shared: Path) -> Callable[..., Labelled]:
    def load(label: str, data: dict[str, Any], **fields: Any) -> Labelled:
        paths = {name: str(shared / "finetune" / path) if name in SETS else path for name, path in data.items()}
        values = {"name": "x", "base": "b", "label": label, "data": paths, **fields}
        return files.load(FinetuneConfig.model_validate(values), 0)

    return load


SETS = ("train", "dev", "test")


def counts(data: Labelled) -> dict[str, int]:
    return {name: getattr(data, name).num_rows for name in SETS}


def totals(data: Labelled) -> dict[str, int]:
    """Rows (of tokens: entities) of each label in all sets."""
    found: dict[str, int] = {}
    for part in data.audit["labels"].values():
        for name, count in part.items():
            found[name] = found.get(name, 0) + count
    return found


def test_sst2(load: Callable[..., Labelled]) -> None:
    data = load("label", {"train": "sst2/train.tsv.gz", "test": "sst2/dev.tsv.gz"}, text="sentence")
    assert counts(data)["test"] == 872
    assert len(data.train) + len(data.dev) == 67_349
    assert data.audit["labels"]["test"] == {"0": 428, "1": 444}
    assert data.audit["near_copies"]["share"] < 0.01
    assert not data.audit["notes"]  # none of its values begins and ends with a quote


def test_cola(load: Callable[..., Labelled]) -> None:
    names = {"train": "in_domain_train", "dev": "in_domain_dev", "test": "out_of_domain_dev"}
    paths = {name: f"cola/{file}.tsv.gz" for name, file in names.items()}
    data = load("label", {**paths, "columns": ["source", "label", "mark", "sentence"]}, text="sentence")
    assert counts(data) == {"train": 8551, "dev": 527, "test": 516}
    assert "The sailors rode the breeze clear of the rocks." in data.dev["text"].to_pylist()


def test_ag_news(load: Callable[..., Labelled]) -> None:
    columns = ["class", "title", "description"]
    data = load("class", {"train": "ag_news_test.csv.gz", "columns": columns}, text="title", pair="description")
    assert totals(data) == {"1": 1900, "2": 1900, "3": 1900, "4": 1900}
    pairs = dict(zip(data.train["text"].to_pylist(), data.train["pair"].to_pylist(), strict=True))
    assert pairs["Fears for T N pension after talks"].startswith("Unions representing workers at Turner   Newall say")


def test_movie_reviews(load: Callable[..., Labelled]) -> None:
    data = load("label", {"train": "movie_reviews.jsonl.gz"})
    assert totals(data) == {"neg": 1000, "pos": 1000}


def test_wnut17(load: Callable[..., Labelled]) -> None:
    paths = {"train": "wnut17/wnut17train.conll.gz", "test": "wnut17/emerging.dev.conll.gz"}
    data = load("tags", paths, task="tokens")
    assert counts(data)["test"] == 1009
    assert len(data.train) + len(data.dev) == 3394
    assert sum(data.audit["labels"]["test"].values()) == 836  # as the shared task counts its development entities
    assert sum(totals(data).values()) == 1975 + 836  # as it counts those for training
    assert data.audit["notes"] == ["tags by IOB2"]


def test_wikiann(load: Callable[..., Labelled]) -> None:
    paths = {"train": "wikiann_en_train.conll.gz", "test": "wikiann_en_dev.conll.gz"}
    data = load("tags", paths, task="tokens")
    assert counts(data)["test"] == 10_000
    assert len(data.train) + len(data.dev) == 20_000
    assert ["Sioux", "Falls", "Arena", "(", "Sioux", "Falls", ",", "South", "Dakota", ")"] in data.test[
        "words"
    ].to_pylist()
    assert not any(word.startswith("en:") for words in data.test["words"].to_pylist() for word in words)
    assert sum("'en:', which is cut off" in note for note in data.audit["notes"]) == 2


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("wnut17/wnut17train.conll.gz", "wnut17/emerging.dev.conll.gz"),
        ("wikiann_en_train.conll.gz", "wikiann_en_dev.conll.gz"),
    ],
)
def test_entities_of_gold_files_are_counted_as_seqeval_counts_them(
    load: Callable[..., Labelled], train: str, test: str
) -> None:
    """Against the gold tags stand the same with a tenth of them drawn from all tags."""
    values = {"name": "x", "base": "b", "label": "tags", "task": "tokens"}
    data = load("tags", {"train": train, "test": test}, task="tokens")
    gold = data.test["tags"].to_pylist()
    draw = np.random.default_rng(0)
    predicted = [[str(draw.choice(data.labels)) if draw.random() < 0.1 else tag for tag in row] for row in gold]
    tokens = Tokens(FinetuneConfig.model_validate({**values, "data": {"train": train}}), data)
    found = {measure.name: measure.score for measure in tokens.measures(predicted, data.test)}
    assert found["entity_f1"] == pytest.approx(metrics.f1_score(gold, predicted))
    assert found["precision"] == pytest.approx(metrics.precision_score(gold, predicted))
    assert found["recall"] == pytest.approx(metrics.recall_score(gold, predicted))
    strict = metrics.f1_score(gold, predicted, mode="strict", scheme=scheme.IOB2)
    assert found["strict_f1"] == pytest.approx(strict)
    assert 0.3 < found["entity_f1"] < 0.95


@pytest.mark.parametrize("language", ["en", "de"])
def test_xquad(load: Callable[..., Labelled], language: str) -> None:
    data = load("answers", {"train": f"xquad/xquad.{language}.json.gz"}, task="answers")
    assert sum(counts(data).values()) == 1190
    contexts = [set(getattr(data, name)["context"].to_pylist()) for name in SETS]
    assert sum(map(len, contexts)) == len(set.union(*contexts)) == 240  # none is in two sets
    for row in pa.concat_tables([data.train, data.dev, data.test]).to_pylist():
        for answer in row["answers"]:
            assert row["context"][answer["start"] :].startswith(answer["text"])


def test_multi30k_as_lines_of_json(load: Callable[..., Labelled], shared: Path, tmp_path: Path) -> None:
    folder, paths = shared / "finetune" / "text2text" / "multi30k", {}
    for name, part in (("train", "train"), ("dev", "val"), ("test", "test_2016_flickr")):
        sides = [gzip.decompress((folder / f"{part}.{language}.gz").read_bytes()).decode() for language in ("en", "de")]
        pairs = zip(*(side.removesuffix("\n").split("\n") for side in sides), strict=True)
        paths[name] = str(tmp_path / f"{name}.jsonl")
        Path(paths[name]).write_bytes(
            b"\n".join(orjson.dumps({"en": english, "de": german}) for english, german in pairs)
        )
    data = load("de", paths, text="en", task="text2text")
    assert counts(data) == {"train": 29_000, "dev": 1014, "test": 1000}
    assert data.audit["near_copies"]["share"] < 0.05


def test_empty_abstracts_are_named(load: Callable[..., Labelled], shared: Path) -> None:
    with pytest.raises(files.WrongRows) as caught:
        load("summary", {"train": "text2text/scisummnet_summaries.jsonl.gz"}, text="abstract", task="text2text")
    path = shared / "finetune" / "text2text" / "scisummnet_summaries.jsonl.gz"
    rows = [orjson.loads(line) for line in gzip.decompress(path.read_bytes()).split(b"\n") if line]
    empty = [number for number, row in enumerate(rows, 1) if not row["abstract"].strip()]
    assert str(caught.value).startswith(f"{path}:{empty[0]}: 'abstract' is empty")
    assert f"and {len(empty) - 1} more rows" in str(caught.value)
