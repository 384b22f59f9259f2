"""One stage on texts gives what a build of them measured and decided."""

from __future__ import annotations

import pyarrow as pa
import pytest

import corpusmill
from corpusmill import MillError, run_stage
from corpusmill import texts as given
from pipeline.build.build import texts_before
from pipeline.store import ledger

STAGES = ["urls", "language", "heuristics"]


def test_stages_one_after_another_measure_and_decide_as_the_build_did(built):
    for shard in built.shards():
        table = built.documents(shard)
        for stage in STAGES:
            config = built.section(stage).model_dump(exclude_none=True, by_alias=False)
            table = run_stage(stage, config, table)
            expected = built.ledger(stage, shard)
            alive = ledger.alive([built.ledger(name, shard) for name in built.stages_before(stage)], len(table))
            for name in set(expected.column_names) - {*ledger.EDIT_COLUMNS}:
                assert _rows(table, name, alive) == _rows(expected, name, alive), (stage, name)
        rows = alive.nonzero()[0].tolist()
        after = texts_before(built, shard, rows, "exact")
        assert table["text"].take(rows).to_pylist() == after.to_pylist()


def _rows(table: pa.Table, name: str, mask) -> list:
    return table[name].filter(pa.array(mask)).to_pylist()


@pytest.mark.slow
def test_blocks_change_nothing(built, monkeypatch):
    table = pa.concat_tables(built.documents(shard) for shard in built.shards())
    whole = run_stage("heuristics", {}, table)
    texts = table["text"].to_pylist()
    monkeypatch.setattr(given, "BLOCK", 5000)
    monkeypatch.setattr(given, "_STRINGS", 7)
    assert len(list(given.blocks(texts))) > 50
    assert run_stage("heuristics", {}, table).equals(whole)
    by_text = run_stage("heuristics", {}, iter(texts))
    assert by_text.equals(whole.select(by_text.column_names))


@pytest.mark.parametrize(
    "texts", [["ä", "b"], pa.array(["ä", "b"], pa.large_string()), pa.chunked_array([["ä"], ["b"]])], ids=str
)
def test_texts_come_as_strings_or_arrow(texts):
    assert run_stage("pii", {}, texts)["text"].to_pylist() == ["ä", "b"]


def test_no_text_gives_no_row_with_the_same_columns():
    columns = run_stage("heuristics", {}, ["a"]).schema
    assert run_stage("heuristics", {}, []).schema.equals(columns)


def test_own_rules_read_the_columns_of_the_table():
    table = pa.table({"text": ["a", "bcd"], "stars": [1, 5]})
    found = run_stage("rules", {"few_stars": "stars < 3 and characters < 9"}, table)
    assert found["dropped_by"].to_pylist() == ["rules.few_stars", None]
    with pytest.raises(MillError, match="sters"):
        run_stage("rules", {"few_stars": "sters < 3"}, table)


def test_a_stage_of_ones_own_whose_signal_is_not_measured_names_it():
    stage = corpusmill.Stage(
        "own",
        "Own",
        corpusmill.Config,
        rules=lambda _config: [corpusmill.Rule("own.most", "stars", maximum=3)],
        measure=lambda _config, _batch: corpusmill.Measured({}),
    )
    with pytest.raises(MillError, match="own: its rules read stars"):
        run_stage(stage, {}, ["a"])
    assert run_stage(stage, {}, pa.table({"text": ["a", "b"], "stars": [1, 5]}))["kept"].to_pylist() == [True, False]


@pytest.mark.parametrize(
    ("stage", "config", "texts", "message"),
    [
        ("heuristcs", {}, ["a"], "no such stage; there are urls, language"),
        ("minhash", {}, ["a"], "compares documents with each other"),
        ("heuristics", {"gopher_qualty": {}}, ["a"], "did you mean `gopher_quality`"),
        ("heuristics", {"gopher_quality": {"min_words": {"de": 3}}}, ["a"], "`language`"),
        ("bad_words", {"lists": {"en": "en.txt"}}, ["a"], "`language`"),
        ("bad_words", {"lists": {"*": "nowhere.txt"}}, ["a"], "nowhere.txt"),
        ("quality", {}, ["a"], "quality"),
        ("pii", {}, "a", "give \\[text\\]"),
        ("pii", {}, ["a", None], "text 1 is NoneType"),
        ("pii", {}, ["a", "b\ud800"], "text 1 holds half of a character"),
        ("pii", {}, pa.array(["a", None]), "text 1 is null"),
        ("pii", {}, pa.array([1]), "int64, not strings"),
        ("pii", {}, pa.table({"content": ["a"]}), "no column `text`; it has content"),
    ],
)
def test_mistakes_are_named(stage, config, texts, message):
    with pytest.raises(MillError, match=message):
        run_stage(stage, config, texts)
