from __future__ import annotations

from pathlib import Path

import pytest

from training.labelled import fixes
from training.labelled.fixes import WrongFix


def decide(folder: Path, name: str, *rows: tuple[int, str, str]) -> Path:
    """A file of decisions on ``name``: (line, label, decision) each; cats are suggested."""
    path = folder / "suspects.csv"
    lines = [f"{folder / name}:{line},{label},cat,{decision}\n" for line, label, decision in rows]
    path.write_text("place,label,suggested,decision\n" + "".join(lines))
    return path


def test_a_table_keeps_all_other_rows_byte_for_byte(tmp_path: Path) -> None:
    table = 'text,label,note\r\n"it, says ""meow""",dog,1\r\n"two\nlines",cat,"2"\r\n"barks" ,cat,3\r\nlast,cow,4'
    (tmp_path / "pets.csv").write_bytes(table.encode())
    (found,) = fixes.apply(
        decide(
            tmp_path, "pets.csv", (2, "dog", "suggested"), (3, "cat", "keep"), (5, "cat", "dog"), (6, "cow", "remove")
        ),
        "label",
    )
    assert (found.relabelled, found.removed) == (2, 1)
    assert found.copy == tmp_path / "pets.fixed.csv"
    expected = 'text,label,note\r\n"it, says ""meow""",cat,1\r\n"two\nlines",cat,"2"\r\nbarks ,dog,3\r\n'
    assert found.copy.read_bytes().decode() == expected
    assert (tmp_path / "pets.csv").read_bytes().decode() == table


def test_tabs_and_json_lines(tmp_path: Path) -> None:
    (tmp_path / "pets.tsv").write_text('text\tlabel\nsays "meow"\tdog\nbarks\tdog\n')
    (found,) = fixes.apply(decide(tmp_path, "pets.tsv", (2, "dog", "cat")), "label")
    assert found.copy.read_text() == 'text\tlabel\nsays "meow"\tcat\nbarks\tdog\n'
    (tmp_path / "pets.jsonl").write_text('{"text": "a\u2028b", "label": 1}\n{"text":"c","label":0}\n')
    (found,) = fixes.apply(decide(tmp_path, "pets.jsonl", (1, "1", "0"), (2, "0", "remove")), "label")
    assert found.copy.read_text() == '{"text": "a\u2028b", "label": 0}\n'


@pytest.mark.parametrize(
    ("line", "label", "decision", "message"),
    [
        (2, "cow", "cat", "was 'cow' when it was audited"),
        (9, "dog", "cat", "no row begins in line 9"),
    ],
)
def test_a_file_that_has_changed_is_left_alone(
    tmp_path: Path, line: int, label: str, decision: str, message: str
) -> None:
    (tmp_path / "pets.csv").write_text("text,label\nmeows,dog\n")
    with pytest.raises(WrongFix, match=message):
        fixes.apply(decide(tmp_path, "pets.csv", (line, label, decision)), "label")
    assert not (tmp_path / "pets.fixed.csv").exists()


def test_what_cannot_be_corrected_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "pets.csv").write_text("text,label\nmeows,dog\n")
    with pytest.raises(WrongFix, match="--label"):
        fixes.apply(decide(tmp_path, "pets.csv", (2, "dog", "cat")), "topic")
    (tmp_path / "pets.parquet").write_bytes(b"PAR1")
    with pytest.raises(WrongFix, match=r"\.csv, \.tsv and \.jsonl"):
        fixes.apply(decide(tmp_path, "pets.parquet", (2, "dog", "cat")), "label")
    with pytest.raises(WrongFix, match="label audit"):
        fixes.apply(tmp_path / "pets.csv", "label")
