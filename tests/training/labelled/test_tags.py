from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.labelled import files
from training.labelled.rows import WrongRows
from training.labelled.tags import is_known, scheme, to_iob2
from training.recipe.finetuning import FinetuneConfig

#: Entities as (type, length), type None for words outside.
SPANS = st.lists(st.tuples(st.sampled_from([None, "PER", "LOC"]), st.integers(1, 3)), min_size=1, max_size=8)


def written(spans: list[tuple[str | None, int]], kind: str) -> list[str]:
    """The spans in a scheme, from its definition."""
    tags: list[str] = []
    before = None
    for entity, length in spans:
        marks = ["O"] * length
        if entity is not None:
            first = "I" if kind == "IOB1" and before != entity else "B"
            marks = [first, *["I"] * (length - 1)]
            if kind in ("BIOES", "BILOU"):
                single, last = ("S", "E") if kind == "BIOES" else ("U", "L")
                marks = [single] if length == 1 else ["B", *["I"] * (length - 2), last]
        tags += [mark if entity is None else f"{mark}-{entity}" for mark in marks]
        before = entity
    return tags


@pytest.mark.parametrize("kind", ["IOB1", "IOB2", "BIOES", "BILOU"])
@given(spans=SPANS)
def test_every_scheme_gives_the_same_iob2(kind: str, spans: list[tuple[str | None, int]]) -> None:
    made, _ = to_iob2(written(spans, kind))
    assert made == written(spans, "IOB2")


@given(SPANS)
def test_iob2_stays_as_it_is(spans: list[tuple[str | None, int]]) -> None:
    tags = written(spans, "IOB2")
    assert to_iob2(tags) == (tags, 0)


def test_the_scheme_is_read_off_the_tags() -> None:
    spans: list[tuple[str | None, int]] = [("PER", 2), ("PER", 1), (None, 1), ("LOC", 3)]
    assert [scheme([written(spans, kind)]) for kind in ("IOB1", "IOB2", "BIOES", "BILOU")] == [
        *("IOB1", "IOB2", "BIOES", "BIOES")
    ]
    assert scheme([["O", "I-PER", "B-LOC"]]) == "IOB2"  # a mistake in it, not another scheme


def test_what_is_no_tag_of_any_scheme() -> None:
    assert [tag for tag in ("O", "B-LOC", "I-creative-work", "NOUN", "B-", "X-LOC", "o") if not is_known(tag)] == [
        *("NOUN", "B-", "X-LOC", "o")
    ]


CONLLU = """# newdoc
# sent_id = 1
# text = Vámonos al mar
1-2\tVámonos\t_\t_\t_\t_\t_\t_\t_\t_
1\tVamos\tir\tVERB\t_\t_\t0\troot\t_\t_
2\tnos\tnosotros\tPRON\t_\t_\t1\tobj\t_\t_
3-4\tal\t_\t_\t_\t_\t_\t_\t_\t_
3\ta\ta\tADP\t_\t_\t5\tcase\t_\t_
4\tel\tel\tDET\t_\t_\t5\tdet\t_\t_
5\tmar {n}\tmar\tNOUN\t_\t_\t1\tobl\t_\t_
5.1\t\u00d8\t_\tX\t_\t_\t_\t_\t_\t_

"""


def test_parts_of_speech_of_universal_dependencies_are_tags_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "es.conllu"
    path.write_text("".join(CONLLU.format(n=n) for n in range(40)))
    values = {"name": "x", "base": "b", "label": "tags", "task": "tokens", "data": {"train": str(path)}}
    data = files.load(FinetuneConfig.model_validate(values), 0)
    assert data.labels == ["ADP", "DET", "NOUN", "PRON", "VERB"]
    for row in data.train.to_pylist():
        assert [word.split()[0] for word in row["words"]] == ["Vamos", "nos", "a", "el", "mar"]
        assert row["tags"] == ["VERB", "PRON", "ADP", "DET", "NOUN"]
    assert data.audit["passed_over"]["lines of CoNLL-U for several words or for none"]["rows"] == 120
    assert data.audit["labels"]["test"]["NOUN"] == len(data.test)
    named = FinetuneConfig.model_validate({**values, "label": "8"})
    assert "root" in files.load(named, 0).labels


def test_a_tag_that_marks_nothing_is_a_fault_among_tags_that_do(tmp_path: Path) -> None:
    path = tmp_path / "a.conll"
    path.write_text("".join(f"a{n} NOUN\nb VERB\n\n" for n in range(40)) + "c B-LOC\n")
    values = {"name": "x", "base": "b", "label": "tags", "task": "tokens", "data": {"train": str(path)}}
    with pytest.raises(
        WrongRows, match=r"a\.conll:1: unknown tag 'NOUN' of 'a0'.*\(and 39 more rows with this fault\)"
    ):
        files.load(FinetuneConfig.model_validate(values), 0)
