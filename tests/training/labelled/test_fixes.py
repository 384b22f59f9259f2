from __future__ import annotations

import json
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


def test_a_decision_for_the_label_that_is_there_changes_nothing_and_counts_as_nothing(tmp_path: Path) -> None:
    (tmp_path / "pets.csv").write_text("text,label\nmeows,dog\nbarks,dog\n")
    (found,) = fixes.apply(decide(tmp_path, "pets.csv", (2, "dog", "cat"), (3, "dog", "dog")), "label")
    assert (found.relabelled, found.removed) == (1, 0)
    assert found.copy.read_text() == "text,label\nmeows,cat\nbarks,dog\n"


def test_labels_are_compared_as_they_are_read_and_written_as_they_stand(tmp_path: Path) -> None:
    """pandas writes 1.0 for a whole number beside gaps; a truth value stays one; spaces around a label do not count."""
    values = ("1.0", "true", "0", '{"b": 2}', "1.5")
    (tmp_path / "pets.jsonl").write_text("".join(f'{{"text": "x", "a": {value}}}\n' for value in values))
    decided = decide(tmp_path, "pets.jsonl", (1, "1", "0"), (2, "True", "False"), (3, "0", "nan"), (5, "1.5", "2.5"))
    (found,) = fixes.apply(decided, "a")
    made = [json.loads(line)["a"] for line in found.copy.read_text().splitlines()]
    assert [repr(value) for value in made] == ["0", "False", "'nan'", "{'b': 2}", "2.5"]
    (found,) = fixes.apply(decide(tmp_path, "pets.jsonl", (4, "2", "7")), "a.b")
    assert json.loads(found.copy.read_text().splitlines()[3]) == {"text": "x", "a": {"b": 7}}
    (tmp_path / "pets.csv").write_text("text;label\nmeows; dog \nbarks,;dog\n")
    (found,) = fixes.apply(decide(tmp_path, "pets.csv", (2, "dog", "cat")), "label")
    assert found.copy.read_text() == "text;label\nmeows;cat\nbarks,;dog\n"


def test_a_table_without_a_header_is_corrected_from_its_first_row_on(tmp_path: Path) -> None:
    (tmp_path / "pets.csv").write_text("meows,dog\nbarks,dog\n")
    decided = decide(tmp_path, "pets.csv", (1, "dog", "cat"))
    (made,) = fixes.apply(decided, "label", ("text", "label"))
    assert made.copy.read_text() == "meows,cat\nbarks,dog\n"
    with pytest.raises(WrongFix, match=r"no column 'label'; .* by --columns those of a table without a header"):
        fixes.apply(decided, "label")
    (tmp_path / "pets.jsonl").write_text('{"text": "meows", "label": "dog"}\n')
    with pytest.raises(WrongFix, match=r"pets\.jsonl: it names its fields itself; leave out --columns"):
        fixes.apply(decide(tmp_path, "pets.jsonl", (1, "dog", "cat")), "label", ("text", "label"))


def test_a_line_that_is_no_object_any_more_is_named(tmp_path: Path) -> None:
    (tmp_path / "pets.jsonl").write_text('{"text": "x", "label"\n')
    with pytest.raises(WrongFix, match=r"pets\.jsonl:1: no JSON object"):
        fixes.apply(decide(tmp_path, "pets.jsonl", (1, "dog", "cat")), "label")


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
