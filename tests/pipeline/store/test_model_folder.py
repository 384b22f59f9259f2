from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from pipeline.store import model_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "tokenizer.json").write_text("{}")
    save_file({"a": np.ones(3), "b": np.zeros(0)}, tmp_path / "model.safetensors", {"format": "pt"})
    return tmp_path


def test_a_whole_model_has_no_problem(folder: Path) -> None:
    assert model_folder.problem(str(folder)) is None
    (folder / "model.safetensors").rename(folder / "part.safetensors")
    index = {"metadata": {}, "weight_map": {"a": "part.safetensors", "b": "part.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert model_folder.problem(str(folder)) is None


@pytest.mark.parametrize(
    "change",
    [
        lambda _whole: b"",
        lambda whole: whole[:-1],
        lambda whole: whole + b"\0",
        lambda whole: struct.pack("<Q", 10 << 30) + whole[8:],
        lambda whole: struct.pack("<Q", 2**64 - 1) + whole[8:],
        lambda whole: whole[:8] + b"[" + whole[9:],
        lambda _whole: struct.pack("<Q", 50_000) + b"[" * 50_000,
        lambda _whole: b"\x80\x04\x95" + bytes(40),
    ],
    ids=["empty", "cut", "longer", "10 GB", "16 EB", "no JSON", "deep", "pickle"],
)
def test_weights_that_are_not_whole_are_named_before_they_are_opened(folder: Path, change) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(change(path.read_bytes()))
    assert "model.safetensors is damaged, cut off, or not in safetensors" in str(model_folder.problem(str(folder)))


@pytest.mark.parametrize("named", ["weights.bin", "../other.safetensors", "/other.safetensors", "no.safetensors", 1])
def test_an_index_of_weights_leads_to_nothing_but_safetensors_of_the_folder(folder: Path, named: object) -> None:
    (folder / "weights.bin").write_bytes(b"")
    index = {"weight_map": {"a": "model.safetensors", "b": named}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    problem = str(model_folder.problem(str(folder)))
    assert f"names {str(named)!r}, which is no safetensors file in the folder" in problem
