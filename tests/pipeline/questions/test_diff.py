"""What differs between two builds, and why."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.build import row_numbers
from pipeline.build.build import Build
from pipeline.questions.diff import Difference, diff
from tests.helpers import asking, building


@pytest.fixture(scope="module")
def builds(tmp_path_factory: pytest.TempPathFactory) -> tuple[Build, Build]:
    """A build, and another of an input with a document less, one changed and one more, under another policy."""
    root = tmp_path_factory.mktemp("diff")
    values = asking.values(root)
    first = asking.make(values, root / "first")
    path = root / "topics.jsonl"
    lines = path.read_text("utf-8").split("\n")
    lines[3] = json.dumps({"text": json.loads(lines[3])["text"] + " One more sentence, added at the end of it."})
    path.write_text("\n".join([*lines, json.dumps({"text": asking.TOPICS["class"] + " Seen again."})]), "utf-8")
    quality = {"min_words": 200, "min_words_with_letter": 0.5}
    values["heuristics"] = {
        **values["heuristics"],
        "gopher_quality": quality,
        "gopher_repetition": None,
        "c4": {**values["heuristics"]["c4"], "min_words_per_line": 2},
    }
    values["shard_bytes"] = "40KiB"
    return first, asking.make(values, root / "second")


def test_every_document_that_differs_is_counted_once(builds):
    first, second = (building.curated(build) for build in builds)
    found = diff(*builds)
    assert sum(entry.documents for entry in found if entry.state == "added") == len(second.keys() - first.keys()) > 0
    assert sum(entry.documents for entry in found if entry.state == "removed") == len(first.keys() - second.keys()) > 0
    edited = [name for name in first.keys() & second.keys() if first[name][0] != second[name][0]]
    assert sum(entry.documents for entry in found if entry.state == "edited") == len(edited) > 0


def causes(found: list[Difference]) -> dict[tuple[str, str | None], str]:
    return {(entry.state, entry.rule): entry.cause for entry in found if entry.stage != "ingest"}


def test_each_cause_is_the_change_that_was_made(builds):
    found = causes(diff(*builds))
    assert found["removed", "gopher_quality.min_words"] == "threshold 50 → 200"
    assert {cause for (_, rule), cause in found.items() if (rule or "").startswith("gopher_repetition")} == {
        "the rule is gone"
    }
    assert "c4.min_words_per_line 3 → 2" in found["edited", None]
    assert {entry.cause for entry in diff(*builds) if entry.stage == "ingest"} <= {
        "only the second build read it",
        "its text in the input changed",
    }


def test_the_other_way_round_says_the_opposite(builds):
    found = causes(diff(*reversed(builds)))
    assert found["added", "gopher_quality.min_words"] == "threshold 200 → 50"


def test_partitions_change_nothing(builds, monkeypatch):
    whole = diff(*builds)
    monkeypatch.setattr(row_numbers, "PARTITION_ROWS", 10)
    assert diff(*builds) == whole


def test_a_build_does_not_differ_from_itself(builds):
    assert diff(builds[0], builds[0]) == []


def test_another_shard_size_is_no_difference(builds, tmp_path: Path):
    again = asking.make(json.loads(builds[1].recipe.model_dump_json()) | {"shard_bytes": 64 << 10}, tmp_path / "again")
    assert diff(builds[1], again) == []
