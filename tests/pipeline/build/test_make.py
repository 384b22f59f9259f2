"""What is current stays, and what is not is made aside and takes its place whole."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest

from pipeline.build.build import Made, Outcome, make
from pipeline.store import files, shards


class Maker:
    """Makes a table and an object of ``value``, and counts how often it was called."""

    def __init__(self, value: int):
        self.value, self.calls = value, 0

    def table(self) -> Made:
        self.calls += 1
        return Outcome(1, 8), pa.table({"value": [self.value]})

    def json(self) -> Made:
        self.calls += 1
        return Outcome(1, 8), {"value": self.value}

    def both(self) -> Made:
        return (*self.table(), {"value": self.value})


def contents(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.mark.parametrize(("name", "kind"), [("a.arrow", "table"), ("part-0", "table"), ("a.json", "json")])
def test_what_is_current_is_not_made_and_what_is_not_is_replaced(tmp_path, name, kind):
    path, first, second = str(tmp_path / name), Maker(1), Maker(2)
    assert make(path, "one", getattr(first, kind)) == Outcome(1, 8)
    before = contents(tmp_path)
    assert make(path, "one", getattr(second, kind)) == Outcome(reused=True)
    assert (second.calls, contents(tmp_path)) == (0, before)
    assert make(path, "two", getattr(second, kind)) == Outcome(1, 8)
    if kind == "table":
        assert (shards.read_fingerprint(path), shards.read_table(path)["value"].to_pylist()) == ("two", [2])
    else:
        assert files.read_json(path) == {"fingerprint": "two", "value": 2}
    assert list(contents(tmp_path)) == [name], "nothing is left beside it"


@pytest.mark.parametrize(("name", "kind"), [("a.arrow", "table"), ("a.json", "json")])
def test_what_was_there_stays_when_the_maker_fails(tmp_path, name, kind):
    def failing() -> Made:
        raise KeyboardInterrupt

    path = str(tmp_path / name)
    make(path, "one", getattr(Maker(1), kind))
    before = contents(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        make(path, "two", failing)
    assert contents(tmp_path) == before
    assert make(path, "one", failing).reused


@pytest.mark.parametrize(("name", "kind"), [("a.arrow", "table"), ("a.json", "json")])
def test_a_look_finds_out_without_the_work(tmp_path, name, kind):
    path, maker = str(tmp_path / name), Maker(1)
    with files.looking(), pytest.raises(files.NotCurrent):
        make(path, "one", getattr(maker, kind))
    assert (maker.calls, contents(tmp_path)) == (0, {})
    make(path, "one", getattr(maker, kind))
    with files.looking():
        assert make(path, "one", getattr(maker, kind)).reused


def test_of_several_files_only_those_that_lack_are_written(tmp_path):
    table, note = (str(tmp_path / name) for name in ("a.arrow", "a.json"))
    make([table, note], "one", Maker(1).both)
    before = files.stamp(table)
    files.remove(note)
    assert not make([table, note], "one", Maker(1).both).reused
    assert files.stamp(table) == before
    assert files.read_json(note) == {"fingerprint": "one", "value": 1}
    assert make([table, note], "one", Maker(1).both).reused
    with pytest.raises(ValueError):
        make([table, note], "two", Maker(2).table)  # a maker must give as many contents as there are files


def test_an_object_is_made_again_where_what_it_names_is_not_there(tmp_path):
    path, maker = str(tmp_path / "a.json"), Maker(1)
    make(path, "one", maker.json)
    assert make(path, "one", maker.json, complete=lambda content: content["value"] == 1).reused
    assert not make(path, "one", maker.json, complete=lambda content: content["value"] == 2).reused


def test_a_table_without_a_readable_head_is_made_again(tmp_path):
    path = tmp_path / "a.arrow"
    make(str(path), "one", Maker(1).table)
    path.write_bytes(b"\xff" * 40)
    assert not make(str(path), "one", Maker(1).table).reused
    assert shards.read_table(str(path))["value"].to_pylist() == [1]


def test_a_damaged_object_is_named(tmp_path):
    path = tmp_path / "a.json"
    make(str(path), "one", Maker(1).json)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(files.DamagedFile, match=r"a\.json"):
        make(str(path), "one", Maker(1).json)


def test_an_object_of_another_program_is_replaced(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"value": 1}))
    assert not make(str(path), "one", Maker(2).json).reused
    assert files.read_json(str(path))["value"] == 2
