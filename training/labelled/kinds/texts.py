"""Rows of a text, or of a pair: with a class, several classes, a score, or a text to write."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from pipeline.sources.base import kind_of
from training.labelled.findings import Findings
from training.labelled.formats import Record
from training.labelled.kinds.base import Kind, Names
from training.recipe.finetuning import FinetuneConfig


class Classes(Kind):
    name = "classify"
    columns = {"text": pa.string(), "label": pa.string()}
    label = "label"
    pairs = True
    fewest = 2

    def labelled(
        self, _config: FinetuneConfig, at: Names, record: Record, label: Any, _: Mapping[str, str], findings: Findings
    ) -> dict[str, Any] | None:
        if isinstance(label, list | dict):
            findings.fault(
                "label",
                record.place,
                f"{at.label!r} is {str(label)[:60]}, and a label is one text, number or truth value; of several labels"
                " say `task: multi_label`",
            )
            return None
        return {"label": name_of(label)}


def name_of(label: Any) -> str:
    """A label as text: 1 and 1.0 (as pandas makes of whole numbers beside gaps) are both ``1``."""
    if isinstance(label, float) and label.is_integer():
        label = int(label)
    return str(label).strip()


class SeveralClasses(Kind):
    name = "multi_label"
    columns = {"text": pa.string(), "labels": pa.list_(pa.string())}
    label = "labels"
    empty = True
    fewest = 1

    def labelled(
        self, config: FinetuneConfig, at: Names, record: Record, label: Any, _: Mapping[str, str], findings: Findings
    ) -> dict[str, Any] | None:
        separator = "," if config.data is None else config.data.separator
        listed = label if isinstance(label, list) else name_of(label).split(separator)
        if isinstance(label, dict) or any(isinstance(entry, list | dict) or entry is None for entry in listed):
            findings.fault(
                "labels",
                record.place,
                f"{at.label!r} is {str(label)[:60]}; write a list of texts, or one text with {separator!r}",
            )
            return None
        return {"labels": sorted({name for entry in listed if (name := name_of(entry))})}

    def classes(self, label: Any) -> list[str]:
        return label


class Scores(Kind):
    name = "regression"
    columns = {"text": pa.string(), "score": pa.float64()}
    label = "score"
    pairs = True

    def labelled(
        self, _config: FinetuneConfig, at: Names, record: Record, label: Any, _: Mapping[str, str], findings: Findings
    ) -> dict[str, Any] | None:
        try:
            score = float(label)
        except (TypeError, ValueError):
            score = math.nan
        if not math.isfinite(score):
            findings.fault("score", record.place, f"{at.label!r} is {str(label)[:60]!r}, no number; correct the row")
            return None
        return {"score": score}

    def counts(self, table: pa.Table) -> dict[str, Any]:
        values = table["score"].to_numpy()
        return {"smallest": values.min(), "mean": values.mean(), "largest": values.max()}


class Likenesses(Scores):
    """From 0 to 1: how alike two texts are."""

    name = "similarity"
    columns = {"text": pa.string(), "pair": pa.string(), "score": pa.float64()}
    pairs = False

    def labelled(
        self,
        config: FinetuneConfig,
        at: Names,
        record: Record,
        label: Any,
        texts: Mapping[str, str],
        findings: Findings,
    ) -> dict[str, Any] | None:
        made = super().labelled(config, at, record, label, texts, findings)
        if made is None or 0 <= made["score"] <= 1:
            return made
        what = f"{at.label!r} is {made['score']:g}, not from 0 to 1; divide by the highest score"
        findings.fault("score", record.place, what)
        return None


class Targets(Kind):
    name = "text2text"
    columns = {"text": pa.string(), "target": pa.string()}
    label = "target"
    empty = True

    def labelled(
        self, _config: FinetuneConfig, at: Names, record: Record, label: Any, _: Mapping[str, str], findings: Findings
    ) -> dict[str, Any] | None:
        if not isinstance(label, str) or not label.strip():
            what = "is empty" if isinstance(label, str) else f"is {kind_of(label)}, not a text"
            findings.fault("target", record.place, f"{at.label!r} {what}; correct the row, or leave it out")
            return None
        return {"target": label}

    def counts(self, _table: pa.Table) -> None:
        return None
