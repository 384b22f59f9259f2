"""Runs in windows, beside a regular expression over the same bytes as letters."""

import re

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.text import runs

WINDOWS = st.text("m. a", max_size=runs.WINDOW)


def bits(window: str, letter: str) -> np.uint64:
    return np.uint64(sum(1 << place for place, other in enumerate(window) if other == letter))


def places(word: np.uint64) -> list[int]:
    return [place for place in range(64) if int(word) >> place & 1]


@given(WINDOWS, st.booleans(), st.integers(0, 2**64 - 1))
def test_the_runs_of_a_window_are_those_of_a_regular_expression(window: str, closed: bool, beyond: int) -> None:
    """Members are m, runs by themselves a; what bits beyond the window say changes nothing."""
    more = np.uint64(beyond >> len(window) << len(window))
    spans = [match.span() for match in re.finditer("m+|a", window)]
    ended = [span for span in spans if closed or span[1] < len(window)]
    starts, ends, rest = runs.edges(bits(window, "m") | more, bits(window, "a") | more, len(window), closed)
    assert list(zip(places(starts), places(ends), strict=False)) == ended
    assert places(ends) == [end for _, end in ended]
    assert rest == (len(window) if ended == spans else spans[-1][0])
