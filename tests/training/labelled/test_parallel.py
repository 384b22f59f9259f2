"""Files whose lines belong together."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from training.labelled import files
from training.labelled.rows import Labelled, WrongRows
from training.recipe.finetuning import FinetuneConfig

LINES = [f"line {n} 🙂\u2028still {n}" for n in range(40)]
OTHER = [f"Zeile {n}" for n in range(40)]


def load(path: Path, text: str, label: str, **data: str) -> Labelled:
    values = {"name": "x", "base": "b", "task": "text2text", "text": text, "label": label}
    return files.load(FinetuneConfig.model_validate({**values, "data": {"train": str(path), **data}}), 0)


def rows(data: Labelled) -> list[tuple[str, str]]:
    tables = (data.train, data.dev, data.test)
    found = [row for table in tables for row in table.select(["place", "text", "target"]).to_pylist()]
    found.sort(key=lambda row: int(row["place"].rpartition(":")[2]))
    return [(row["text"], row["target"]) for row in found]


def test_equal_lines_of_files_with_endings_are_rows(tmp_path: Path) -> None:
    (tmp_path / "train.en.gz").write_bytes(gzip.compress("\n".join(LINES).encode()))
    (tmp_path / "train.de").write_text("\r\n".join(OTHER) + "\r\n", "utf-8", newline="")
    (tmp_path / "train.fr").write_text("".join(f"ligne {n}\n" for n in range(40)))
    (tmp_path / "valid.en").write_text("no part of it\n")
    expected = list(zip(LINES, OTHER, strict=True))
    assert rows(load(tmp_path / "train", "en", "de")) == expected
    assert rows(load(tmp_path / "train", "de", "en")) == [(b, a) for a, b in expected]


def test_a_folder_of_texts_is_read_where_it_is_said(tmp_path: Path) -> None:
    (tmp_path / "source.txt").write_text("\n".join(LINES))
    (tmp_path / "target.txt").write_text("\n".join(OTHER))
    assert rows(load(tmp_path, "source", "target", format="parallel")) == list(zip(LINES, OTHER, strict=True))
    with pytest.raises(WrongRows, match="no column 'goal', which `label` names; there is source, target"):
        load(tmp_path, "source", "goal", format="parallel")


def test_files_of_unequal_length_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.en").write_text("\n".join(LINES))
    (tmp_path / "a.de").write_text("\n".join(OTHER[:30]) + "\n")
    with pytest.raises(WrongRows, match=r"a\.de: ends after 30 lines, and .*a\.en goes on"):
        load(tmp_path / "a", "en", "de")


def test_a_blank_line_keeps_its_place_and_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "a.en").write_text("\n".join([*LINES[:5], "", "", *LINES[7:]]))
    (tmp_path / "a.de").write_text("\n".join(OTHER))
    with pytest.raises(WrongRows, match=r"a:6: 'en' is empty; .*\(and 1 more row with this fault\)"):
        load(tmp_path / "a", "en", "de")


def test_files_that_are_not_there_or_not_text_are_named(tmp_path: Path) -> None:
    with pytest.raises(WrongRows, match="no two files of this name with an ending"):
        load(tmp_path / "none", "en", "de", format="parallel")
    with pytest.raises(WrongRows, match="no file"):
        load(tmp_path / "none", "en", "de")
    (tmp_path / "a.en").write_bytes(b"one\ncaf\xe9\n")
    (tmp_path / "a.de").write_bytes(b"eins\nzwei\n")
    with pytest.raises(WrongRows, match=r"a\.en:2: invalid UTF-8"):
        load(tmp_path / "a", "en", "de")
    (tmp_path / "a.en.gz").write_bytes(gzip.compress(b"one\n"))
    with pytest.raises(WrongRows, match=r"both the column 'en'"):
        load(tmp_path / "a", "en", "de")
