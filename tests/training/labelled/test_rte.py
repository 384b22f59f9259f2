"""Pairs of a text and a hypothesis, as the challenges of textual entailment wrote them."""

from __future__ import annotations

import gzip
import time
from pathlib import Path

import pytest

from training.labelled import files
from training.labelled.rows import Labelled, WrongRows
from training.recipe.finetuning import FinetuneConfig

FIRST = """<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE entailment-corpus SYSTEM "rte.dtd">
<entailment-corpus challenge="1">
{pairs}</entailment-corpus>
"""
PAIR = """<pair id="{n}" {label} task="IR">
\t<t>
{text} {n} &amp; more
</t>
\t<h>it&apos;s bold {n}</h>
</pair>
"""


def pairs(attribute: str, labels: tuple[str, str], start: int = 0) -> str:
    rows = (
        PAIR.format(n=n, label=f'{attribute}="{labels[n % 2]}"', text=("Wasser 🙂", "Stein")[n % 2])
        for n in range(start, start + 40)
    )
    return FIRST.format(pairs="".join(rows))


def load(path: Path | str, **changed: object) -> Labelled:
    values = {"name": "x", "base": "b", "label": "entailment", "text": "t", "pair": "h", "data": {"train": str(path)}}
    return files.load(FinetuneConfig.model_validate({**values, **changed}), 0)


def test_both_ways_of_writing_the_label_are_one(tmp_path: Path) -> None:
    (tmp_path / "rte1.xml").write_text(pairs("value", ("FALSE", "TRUE")))
    (tmp_path / "rte3.xml.gz").write_bytes(gzip.compress(pairs("entailment", ("NO", "YES"), 40).encode()))
    data = load(tmp_path / "rte*")
    rows = [row for table in (data.train, data.dev, data.test) for row in table.to_pylist()]
    assert len(rows) == 80
    assert data.labels == ["NO", "YES"]
    for row in rows:
        number = int(row["text"].split()[-3])
        assert row["text"] == f"{('Wasser 🙂', 'Stein')[number % 2]} {number} & more"
        assert row["pair"] == f"it's bold {number}"
        assert row["label"] == ("NO", "YES")[number % 2]
        assert row["place"].endswith(f":{4 + 6 * (number % 40)}")
    assert any("are read as `entailment` YES and NO" in note for note in data.audit["notes"])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("<a>\n<pair id='1'>\n<t>x</t>", r"a.xml:3: invalid XML \(no element found\); take the whole file again"),
        ("<a><b/></a>", "a.xml: has no element <pair>"),
        ('<!DOCTYPE a [<!ENTITY x "y">]>\n<a><pair><t>&x;</t></pair></a>', "a.xml:1: declares an entity"),
    ],
)
def test_what_is_no_such_file_is_refused(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "a.xml").write_text(content)
    with pytest.raises(WrongRows, match=said):
        load(tmp_path / "a.xml")


def test_time_grows_with_the_lines_of_a_text(tmp_path: Path) -> None:
    lines = "\n" * 1_000_000
    (tmp_path / "a.xml").write_text(pairs("value", ("FALSE", "TRUE")).replace("<t>", f"<t>{lines}", 1))
    start = time.process_time()
    load(tmp_path / "a.xml")
    assert time.process_time() - start < 3


def test_a_column_that_it_has_not_is_named_with_those_it_has(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text(pairs("value", ("FALSE", "TRUE")))
    with pytest.raises(WrongRows, match="no column 'text', which `text` names; there is id, task, t, h, entailment"):
        load(tmp_path / "a.xml", text="text")
