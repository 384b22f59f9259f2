"""Spans against a plain Python oracle that keeps or drops byte by byte."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.text import spans
from pipeline.text.spans import SPANS

TEXTS = st.text(alphabet="ab\n\0éßж漢字😀\u0301", max_size=20)


@st.composite
def ranges_of(draw: st.DrawFn, text: str) -> list[dict[str, int]] | None:
    """Sorted disjoint ranges at character borders, some of them empty or touching; or a null list."""
    if draw(st.integers(0, 5)) == 0:
        return None
    borders = [len(text[:k].encode()) for k in range(len(text) + 1)]
    edges = sorted(draw(st.lists(st.sampled_from(borders), max_size=8)))
    return [{"start": start, "end": end} for start, end in zip(edges[::2], edges[1::2], strict=False)]


def removed(text: str, *many: list[dict[str, int]] | None) -> str:
    """The oracle."""
    gone = {place for ranges in many for one in ranges or [] for place in range(one["start"], one["end"])}
    return bytes(byte for place, byte in enumerate(text.encode()) if place not in gone).decode()


def as_spans(lists: list[list[dict[str, int]] | None]) -> pa.ListArray:
    """Through a slice, as the rows of a larger table come."""
    return pa.array([[{"start": 0, "end": 1}], *lists, None], SPANS).slice(1, len(lists))


def as_texts(texts: list[str]) -> pa.StringArray:
    return pa.array(["é before", *texts, "after"], pa.string()).slice(1, len(texts))


@given(st.data(), st.lists(TEXTS, max_size=5))
def test_cut_removes_exactly_the_bytes_in_the_ranges(data: st.DataObject, texts: list[str]) -> None:
    lists = [data.draw(ranges_of(text)) for text in texts]
    result = spans.cut(as_texts(texts), as_spans(lists))
    result.validate(full=True)
    assert result.to_pylist() == [removed(*pair) for pair in zip(texts, lists, strict=True)]


@given(st.data(), st.lists(TEXTS, max_size=4), st.integers(1, 3))
def test_merge_is_the_union_sorted_disjoint_and_as_short_as_possible(
    data: st.DataObject, texts: list[str], arrays: int
) -> None:
    many = [[data.draw(ranges_of(text)) for text in texts] for _ in range(arrays)]
    merged = spans.merge([as_spans(lists) for lists in many])
    assert merged.type == SPANS
    assert spans.cut(as_texts(texts), merged).to_pylist() == [
        removed(text, *(lists[row] for lists in many)) for row, text in enumerate(texts)
    ]
    for ranges in merged.to_pylist():
        edges = [edge for one in ranges for edge in (one["start"], one["end"])]
        assert edges == sorted(set(edges))


@given(st.data(), st.lists(TEXTS, max_size=4))
def test_lifted_ranges_cut_the_original_as_they_cut_the_edited_text(data: st.DataObject, texts: list[str]) -> None:
    cuts = [data.draw(ranges_of(text)) for text in texts]
    edited = spans.cut(as_texts(texts), as_spans(cuts))
    second = as_spans([data.draw(ranges_of(text)) for text in edited.to_pylist()])
    lifted = spans.lift(second, as_spans(cuts))
    union = spans.merge([as_spans(cuts), lifted])
    assert spans.cut(as_texts(texts), union).equals(spans.cut(edited, second))
    cut_bytes, lifted_bytes, union_bytes = (
        sum(one["end"] - one["start"] for ranges in array.to_pylist() for one in ranges or [])
        for array in (as_spans(cuts), lifted, union)
    )
    assert union_bytes == cut_bytes + lifted_bytes, "a byte is counted for two stages"


def test_a_range_over_a_cut_is_split_there() -> None:
    cuts = pa.array([[{"start": 2, "end": 4}]], SPANS)  # ab[cd]ef -> abef
    lifted = spans.lift(pa.array([[{"start": 1, "end": 3}]], SPANS), cuts)
    assert lifted.to_pylist() == [[{"start": 1, "end": 2}, {"start": 4, "end": 5}]]


def test_nothing_to_cut_leaves_the_texts_as_they_are() -> None:
    texts = pa.array(["漢字", "", "x"])
    assert spans.cut(texts, pa.array([None, [], None], SPANS)) is texts


@pytest.mark.parametrize("ranges", [[(0, 1)], [(0, 9)], [(-3, 3)], [(3, 6), (0, 3)], [(0, 6), (3, 6)], [(3, 0)]])
def test_ranges_that_are_not_whole_characters_in_order_are_refused(ranges: list[tuple[int, int]]) -> None:
    lists = [[], [{"start": start, "end": end} for start, end in ranges]]
    with pytest.raises(ValueError, match="text 1"):
        spans.cut(pa.array(["", "漢字"]), pa.array(lists, SPANS))


def test_arrays_of_other_lengths_are_refused() -> None:
    one, two = pa.array([[]], SPANS), pa.array([[], []], SPANS)
    for call in (
        lambda: spans.cut(pa.array(["x"]), two),
        lambda: spans.merge([one, two]),
        lambda: spans.lift(one, two),
    ):
        with pytest.raises(ValueError, match="do not belong together"):
            call()


def test_ranges_survive_the_way_through_arrow() -> None:
    array = as_spans([[{"start": 1, "end": 3}], None, [], [{"start": 0, "end": 2}, {"start": 4, "end": 5}]])
    assert spans.from_ranges(*spans.to_ranges(array)).to_pylist() == [ranges or [] for ranges in array.to_pylist()]
