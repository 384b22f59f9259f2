from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from pipeline import MillError
from pipeline.sources import guess, jsonl
from pipeline.sources.base import File
from pipeline.store import checksums, files, model_files


@pytest.mark.parametrize("content", [b'{"a": 1', b'{"a": "\xff"}', b"", b"\x00" * 10, b"[" * 100_000], ids=range(5))
def test_damaged_json_is_named_with_the_place_and_the_remedy(tmp_path, content):
    path = tmp_path / "manifest.json"
    path.write_bytes(content)
    with pytest.raises(MillError, match=r"manifest\.json: not readable as JSON \(.*\)\. Delete it and run"):
        files.read_json(str(path))


def test_a_folder_is_whole_if_each_stated_file_has_its_size(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    stated = files.sizes(str(tmp_path), ["a", "b"])
    assert stated == {"a": 1, "b": 1}
    assert files.are_there(str(tmp_path), stated)
    (tmp_path / "a").write_text("longer")
    assert not files.are_there(str(tmp_path), stated)
    (tmp_path / "a").unlink()
    assert not files.are_there(str(tmp_path), stated)


def test_a_list_that_no_run_makes_again_is_there_before_it_is_noted(tmp_path, monkeypatch):
    """Else whoever reads in between, or after a kill there, is told that it was lost."""
    path, seen, note = str(tmp_path / "forgotten.json"), [], checksums.note

    def noting(target, content):
        seen.append(target.exists())
        note(target, content)

    monkeypatch.setattr(checksums, "note", noting)
    for value in ({"a": 1}, {"b": 2}):
        files.write_json(path, value)
        assert files.read_json(path) == value
        assert files.is_noted(path)
    assert seen == [True, True]


def test_a_pipe_is_refused_wherever_a_recipe_or_a_command_may_name_a_file(tmp_path):
    pipe = tmp_path / "config.json"
    os.mkfifo(pipe)
    readers: list[Callable[[], object]] = [
        lambda: files.read_json(str(pipe)),
        lambda: model_files.locate(str(pipe), str(tmp_path)),
        lambda: files.check_folder(str(tmp_path)),
        lambda: guess.sources([pipe]),
        lambda: list(jsonl.read(jsonl.Jsonl(name="a", path=[str(pipe)]), File(str(pipe), "a", 1))),
    ]
    for read in readers:
        with pytest.raises(files.NotRegular, match=r"config\.json: a pipe, a device or a socket"):
            read()
