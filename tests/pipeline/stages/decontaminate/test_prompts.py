from __future__ import annotations

import time

import pytest

from pipeline.stages.decontaminate import prompts


@pytest.mark.parametrize(
    "item", ["one two three " + "x" * 60_000, " " * 60_000, "\n" * 60_000 + "x", "A: " * 20_000, "a" * 60_000]
)
def test_time_is_bounded_on_a_hostile_item(item):
    start = time.process_time()
    prompts.parts([item, item])
    assert time.process_time() - start < 2
