"""The labelled sets of the acceptance data, each as the section `finetune` of a recipe reads it."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

#: Makes the field `data`: of the folder of the acceptance data, and a folder that files may be written to.
Data = Callable[[Path, Path], dict[str, Any]]


@dataclass(frozen=True)
class LabelledSet:
    """``fields`` are those of a recipe's `finetune` that say what the rows are; a fixed sample where rows are many."""

    name: str
    data: Data
    fields: dict[str, Any] = field(default_factory=dict)


def _paths(**names: Any) -> Data:
    def data(shared: Path, _folder: Path) -> dict[str, Any]:
        return {
            name: str(shared / "finetune" / value) if isinstance(value, str) and "." in value else value
            for name, value in names.items()
        }

    return data


def entailment(shared: Path, folder: Path) -> dict[str, str]:
    """RTE-1 and RTE-2 with the test of RTE-3's development part."""
    rows: dict[str, list[dict[str, str]]] = {"train": [], "test": []}
    for path in sorted((shared / "finetune" / "rte").glob("*.xml.gz")):
        text = gzip.decompress(path.read_bytes()).decode("utf-8", "replace")
        for attributes, first, second in re.findall(r"<pair ([^>]*)>\s*<t>(.*?)</t>\s*<h>(.*?)</h>", text, re.DOTALL):
            yes = re.search(r'(?:value|entailment)="(TRUE|YES)"', attributes) is not None
            side = "test" if path.name == "rte3_dev.xml.gz" else "train"
            rows[side].append({"text": first, "pair": second, "label": "yes" if yes else "no"})
    return {side: _written(folder / f"rte-{side}.jsonl", part) for side, part in rows.items()}


def translation(shared: Path, folder: Path, train: int = 29_000, dev: int = 100, test: int = 400) -> dict[str, str]:
    """The first rows of Multi30k, English and German."""
    parts = {"train": ("train", train), "dev": ("val", dev), "test": ("test_2016_flickr", test)}
    return {
        side: _written(
            folder / f"multi30k-{side}.jsonl",
            [{"en": english, "de": german} for english, german in captions(shared, name)[:count]],
        )
        for side, (name, count) in parts.items()
    }


def captions(shared: Path, part: str) -> list[tuple[str, str]]:
    """Captions of a part of Multi30k, English and German."""
    folder = shared / "finetune" / "text2text" / "multi30k"
    sides = [gzip.decompress((folder / f"{part}.{language}.gz").read_bytes()).decode() for language in ("en", "de")]
    return list(zip(*(side.removesuffix("\n").split("\n") for side in sides), strict=True))


def _written(path: Path, rows: list[dict[str, str]]) -> str:
    path.write_text("\n".join(json.dumps(row) for row in rows), "utf-8")
    return str(path)


SETS = (
    LabelledSet(
        "SST-2", _paths(train="sst2/train.tsv.gz", test="sst2/dev.tsv.gz"),
        {"text": "sentence", "label": "label", "documents": 5_000},
    ),
    LabelledSet(
        "CoLA",
        _paths(
            train="cola/in_domain_train.tsv.gz", dev="cola/in_domain_dev.tsv.gz", test="cola/out_of_domain_dev.tsv.gz",
            columns=["source", "label", "mark", "sentence"],
        ),
        {"text": "sentence", "label": "label"},
    ),
    LabelledSet("RTE", entailment, {"pair": "pair", "label": "label", "allow_near_copies": True}),
    LabelledSet(
        "AG News", _paths(train="ag_news_test.csv.gz", columns=["class", "title", "description"]),
        {"text": "title", "pair": "description", "label": "class"},
    ),
    LabelledSet(
        "WNUT-17", _paths(train="wnut17/wnut17train.conll.gz", test="wnut17/emerging.dev.conll.gz"),
        {"task": "tokens", "label": "tags"},
    ),
    LabelledSet(
        "WikiANN", _paths(train="wikiann_en_train.conll.gz", test="wikiann_en_dev.conll.gz"),
        {"task": "tokens", "label": "tags", "documents": 5_000, "allow_near_copies": True},
    ),
    LabelledSet("XQuAD (en)", _paths(train="xquad/xquad.en.json.gz"), {"task": "answers", "label": "answers"}),
    LabelledSet("movie reviews", _paths(train="movie_reviews.jsonl.gz"), {"label": "label"}),
    LabelledSet(
        "Multi30k", translation,
        {"task": "text2text", "text": "en", "label": "de", "documents": 5_000, "allow_near_copies": True},
    ),
)  # fmt: skip
