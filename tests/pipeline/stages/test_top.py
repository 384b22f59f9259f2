"""The best share stays, whatever the shards are; documents without a value, and languages without a share, stay."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import MillError
from pipeline.build.build import Build
from pipeline.curation import recipe as recipes
from pipeline.stages import top
from tests.helpers import small_build


class Recipe(small_build.SmallRecipe):
    quality: dict | None = {}
    top: Any = None


def run(
    root: Path, scores: Sequence[float | None], languages: Sequence[str | None], shard_size: int, keep: Any
) -> Build:
    """A build of documents with these quality scores, of which the second one was dropped by the stage before."""
    build = Build(str(root), Recipe(top=top.Config(keep=keep)))  # type: ignore[arg-type]
    documents = [small_build.document(row, f"text {row}") for row in range(len(scores))]
    small_build.write_documents(build, documents, shard_size)
    signals = {"quality_score": pa.array(scores, pa.float32()), "language": pa.array(languages, pa.string())}
    small_build.write_ledger(build, "quality", signals, dropped={1: ("quality.minimum", 0, 0)})
    for step in top.steps():
        for item in step.items(build):
            step.work(build, item)
    return build


def kept(build: Build) -> list[int]:
    dropped = [value for shard in build.shards() for value in build.ledger("top", shard)["dropped_by"].to_pylist()]
    assert {*dropped} <= {None, "top.share"}
    return [row for row, rule in enumerate(dropped) if rule is None and row != 1]


SCORES = st.one_of(st.none(), st.sampled_from([0.0, 0.25, 0.25000003, 0.5, 1.0]), st.floats(0, 1, width=32))


@given(st.lists(SCORES, min_size=3, max_size=20), st.sampled_from([0.01, 0.1, 0.3, 0.5, 1.0]), st.integers(1, 7))
def test_what_stays_is_what_sorting_all_of_them_would_keep(tmp_path_factory, scores, share, shard_size):
    build = run(tmp_path_factory.mktemp("top"), scores, [None] * len(scores), shard_size, share)
    values = np.array([score for row, score in enumerate(scores) if score is not None and row != 1], np.float32)
    places = max(1, -(-round(share * 100) * len(values) // 100))  # of 30 the tenth are 3
    lowest = np.sort(values)[::-1][places - 1] if len(values) else 0
    alive = [(row, score) for row, score in enumerate(scores) if row != 1]
    assert kept(build) == [row for row, score in alive if score is None or np.float32(score) >= lowest]


def test_each_language_has_its_own_share_and_another_stays(tmp_path):
    scores = [0.9, 0.8, 0.7, 0.6, 0.2, 0.1, 0.05, 0.01]
    languages = ["en", "en", "en", "en", "de", "de", "fr", None]
    build = run(tmp_path, scores, languages, 3, {"en": 0.5, "de": 0.5})
    assert kept(build) == [0, 2, 4, 6, 7]
    row = build.ledger("top", build.shards()[1]).to_pylist()[0]
    assert (row["value"], row["threshold"]) == pytest.approx((0.6, 0.7))


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ("top: {keep: 0.1}", "no stage before measures as a score; there is none yet: add a `quality` section"),
        ("language: {}\ntop: {keep: 0.1}", "one of language_score"),
        ("quality: {model: m.bin, label: hq}\ntop: {keep: {en: 0.1}}", "by language: add a `language` section"),
        ("quality: {model: m.bin, label: hq}\ntop: {keep: 0}", "greater than 0"),
    ],
)
def test_what_cannot_be_ranked_is_refused_before_work(sections, message):
    text = f"name: x\nsources: [{{name: a, kind: jsonl, path: a.jsonl}}]\n{sections}\n"
    with pytest.raises(MillError, match=message):
        recipes.parse(text, recipes.Recipe)
