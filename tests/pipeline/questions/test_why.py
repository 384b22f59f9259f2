"""Asking a build about a document, and a folder about its builds."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.build import find_documents
from pipeline.build.build import Build, edited
from pipeline.build.record import runs
from pipeline.questions import why
from pipeline.stages import language
from pipeline.store.ledger import Rule
from tests.helpers import small_build
from tests.helpers.small_build import document
from tests.pipeline.text.test_spans import TEXTS, as_spans, ranges_of


@pytest.fixture
def build(tmp_path: Path) -> Build:
    """Five documents in three shards: language drops 3, an edit cuts 1, and 2 is a near-duplicate of 0."""
    made = small_build.open_small(
        tmp_path / "small", language=language.Config(keep={"en": 0.65, "de": 0.5}), exact={}, minhash={}
    )
    texts = ["first text", "größer: mail me@x.org now", "first text!", "ein Text", "another one"]
    small_build.write_documents(made, [document(number, text) for number, text in enumerate(texts)], 2)
    signals = {
        "language": pa.array(["en", "en", "en", "de", "de"]),
        "language_score": pa.array([0.9, 0.8, 0.7, 0.4, 0.5]),
    }
    small_build.write_ledger(made, "language", signals, language.rules(made.recipe.language))  # type: ignore[arg-type]
    start = len("größer: mail ".encode())
    cuts = [[], [{"start": start, "end": start + len("me@x.org")}], [], [], []]
    small_build.write_ledger(made, "exact", {"share": pa.array([0.0] * 5)}, spans=cuts)
    survivor = pa.array([None, None, "web/page.jsonl#0", None, None], pa.string())
    small_build.write_ledger(made, "minhash", {"duplicate_of": survivor}, dropped={2: ("near_duplicate", 0.91, 0.8)})
    small_build.close(made)
    return made


def test_a_kept_document_shows_every_rule_with_its_margin(build: Build):
    found = why.why(build, "web/page.jsonl#4")
    assert (found.shard, found.row, found.dropped_by, found.missing) == ("web-00000-002.arrow", 0, None, [])
    assert found.text == found.corpus_text == "another one"
    low = next(check for check in found.passages[0].checks if check.rule == "language.low_score")
    assert (low.value, low.threshold, low.group, low.margin, low.passed) == (0.5, 0.5, "de", 0.0, True)


def test_a_dropped_document_ends_with_the_rule_its_value_and_threshold(build: Build):
    found = why.why(build, "web/page.jsonl#3")
    assert [passage.stage for passage in found.passages] == ["language"]
    assert (found.dropped_by, found.passages[0].value, found.passages[0].threshold) == ("language.low_score", 0.4, 0.5)
    failed = [check for check in found.passages[0].checks if not check.passed]
    assert [(check.rule, round(check.margin or 0, 9)) for check in failed] == [("language.low_score", -0.1)]
    assert found.corpus_text is None


def test_a_duplicate_names_its_survivor_with_text_and_similarity(build: Build):
    found = why.why(build, "web/page.jsonl#2")
    assert found.dropped_by == "near_duplicate"
    assert found.survivor == why.Survivor("web/page.jsonl#0", 0.91, "first text")


def test_an_edit_is_shown_as_what_it_cut_and_what_is_left(build: Build):
    found = why.why(build, "web/page.jsonl#1")
    assert [passage.cuts for passage in found.passages] == [[], ["me@x.org"], []]
    assert found.text == "größer: mail me@x.org now"
    assert found.corpus_text == "größer: mail  now"


@given(st.data(), TEXTS, st.integers(0, 3))
def test_one_text_is_edited_as_a_column_of_texts_is(data: st.DataObject, text: str, stages: int):
    entries = []
    for _ in range(stages):
        ranges = data.draw(ranges_of(text))
        size = sum(part["end"] - part["start"] for part in ranges or [])
        fill = data.draw(st.text(alphabet="01", min_size=size, max_size=size))
        entries.append({"overwrites": ranges, "overwritten_with": fill, "spans": data.draw(ranges_of(text))})
    columns = [
        {name: pa.array([value]) if isinstance(value, str) else as_spans([value]) for name, value in entry.items()}
        for entry in entries
    ]
    (expected,) = edited(pa.array([text]), [pa.table(entry) for entry in columns])[0].to_pylist()
    assert why._edited(text, entries) == expected


def test_a_build_that_is_under_way_says_which_stages_are_missing(build: Build):
    for shard in build.shards():
        Path(build.ledger_path("minhash", shard)).unlink()
    found = why.why(build, "web/page.jsonl#0")
    assert (found.missing, found.dropped_by, found.corpus_text) == (["minhash"], None, None)


def test_every_document_is_found_where_it_lies(build: Build):
    ids = [f"web/page.jsonl#{number}" for number in range(5)]
    found = find_documents.locate(build, [*ids, "web/page.jsonl#99"])
    assert [build.documents(shard)["id"][row].as_py() for shard, row in (found[name] for name in ids)] == ids
    assert set(found) == set(ids)


@pytest.mark.parametrize(
    ("wanted", "offered"),
    [
        ("web/page.jsonl#11", "web/page.jsonl#1"),
        ("web/pages.jsonl#3", "web/page.jsonl#3"),
        ("news/page.jsonl#1", "here: web"),
    ],
)
def test_an_unknown_id_is_answered_with_the_nearest(build: Build, wanted: str, offered: str):
    with pytest.raises(find_documents.UnknownDocument, match=wanted) as error:
        why.why(build, wanted)
    assert offered in str(error.value)


def test_a_rule_with_groups_uses_the_group_then_the_star_then_nothing():
    rule = Rule("r", "perplexity", maximum={"en": 100.0, "*": 300.0}, by="language")
    alone = Rule("r", "perplexity", maximum={"en": 100.0}, by="language")

    def threshold(of: Rule, group: str | None) -> float | None:
        return why._checks(of, {"perplexity": 200.0, "language": group})[0].threshold

    assert [threshold(rule, group) for group in ("en", "de", None)] == [100.0, 300.0, 300.0]
    assert [threshold(alone, group) for group in ("en", "de", None)] == [100.0, None, None]


def record(root: Path, name: str, started: str, **more: object) -> None:
    run = {"started": started, "ended": None, "state": "completed", "process": os.getpid(), "error": None, **more}
    (root / name).mkdir()
    (root / name / "build.json").write_text(json.dumps({"recipe": f"{name}.yaml", "runs": [run]}))


def test_runs_lists_builds_the_latest_first_with_what_they_kept(build: Build):
    folder = Path(build.root).parent
    record(folder, "older", "2026-01-01T00:00:00+00:00", ended="2026-01-01T00:01:30+00:00")
    run = {"started": "2026-01-02T00:00:00+00:00", "ended": None, "state": "failed", "error": "ValueError: no"}
    (folder / "small" / "build.json").write_text(json.dumps({"recipe": "small.yaml", "runs": [run, run]}))
    rows = runs(str(folder))
    assert [(row.name, row.state, row.runs, row.seconds) for row in rows] == [
        ("small", "failed", 2, None),
        ("older", "completed", 1, 90.0),
    ]
    assert (rows[0].documents, rows[0].kept_documents, rows[0].error) == (5, 3, "ValueError: no")
    assert rows[1].documents is None


def test_a_run_whose_process_is_gone_is_called_killed(tmp_path: Path):
    record(tmp_path, "alive", "2026-01-01T00:00:00+00:00", state="running")
    gone = os.spawnlp(os.P_NOWAIT, "true", "true")
    os.waitpid(gone, 0)
    record(tmp_path, "gone", "2026-01-02T00:00:00+00:00", state="running", process=gone)
    assert {row.name: row.state for row in runs(str(tmp_path))} == {"alive": "running", "gone": "killed"}


def test_a_folder_without_builds_has_no_runs(tmp_path: Path):
    assert runs(str(tmp_path / "nothing")) == []
