"""The inputs of the fuzzer's corpus, among them all that have failed: `make fuzz` makes up others."""

from __future__ import annotations

import pytest

from tests.fuzz.corpus import inputs
from tests.fuzz.targets import TARGETS


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_the_corpus_holds_the_guarantees(name):
    assert len(inputs(name)) >= 2
    for data in inputs(name):
        TARGETS[name](data)
