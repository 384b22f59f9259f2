from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.labelled.tags import is_known, scheme, to_iob2

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
