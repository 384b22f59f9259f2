from __future__ import annotations

import pytest

from pipeline import MillError
from pipeline.store import files


@pytest.mark.parametrize("content", [b'{"a": 1', b'{"a": "\xff"}', b"", b"\x00" * 10])
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
