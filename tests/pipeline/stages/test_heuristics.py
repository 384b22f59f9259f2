"""Heuristics: every signal by hand and against plain Python over the same definitions."""

from __future__ import annotations

import math
import re
import statistics
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.stage import Batch, Measured
from pipeline.stages import heuristics
from pipeline.stages.heuristics import STOP_WORDS, Config
from pipeline.store import ledger
from pipeline.text import spans, words
from pipeline.text.buffers import text_buffers

ALL: dict[str, Any] = {
    **{"gopher_quality": {}, "gopher_repetition": {}, "c4": {}, "fineweb": {}},
    **{"gopher_quality@dolma": {}, "gopher_repetition@dolma": {}, "refinedweb": {}},
}


def config(**families: Any) -> Config:
    return Config.model_validate(families)


def measure(families: dict[str, Any], *texts: str) -> Measured:
    return heuristics.measure(config(**families), Batch(pa.array(["before", *texts], pa.string()).slice(1)))


def signals(families: dict[str, Any], text: str) -> dict[str, Any]:
    return {name: values[0].as_py() for name, values in measure(families, text).signals.items()}


def dropped_by(families: dict[str, Any], text: str, language: str = "en") -> str | None:
    found = {**measure(families, text).signals, "language": pa.array([language])}
    return ledger.judge(heuristics.rules(config(**families)), found, 1).columns()["dropped_by"][0].as_py()


def cut_text(families: dict[str, Any], text: str) -> str:
    found = measure(families, text)
    assert found.spans is not None
    return spans.cut(pa.array([text]), found.spans)[0].as_py()


# --- by hand: at each published threshold, and just beyond it

FILL = ["of", "and", *(f"w{k:02}" for k in range(96))]  # words that differ and have a letter


def text_of(count: int, *more: str, joint: str = " ") -> str:
    return joint.join([*FILL, *(f"x{k:05}" for k in range(count))][:count] + list(more))


def lines_of(count: int, *more: str) -> str:
    return text_of(count, *more, joint="\n")


QUALITY, REPETITION = {"gopher_quality": {}}, {"gopher_repetition": {}}
DOLMA_QUALITY, DOLMA_REPETITION = {"gopher_quality@dolma": {}}, {"gopher_repetition@dolma": {}}
FINEWEB, C4 = {"fineweb": {}}, {"c4": {}}
FIVE = "One is here. Two is here. Three is here. Four is here. Five is here."


@pytest.mark.parametrize(
    ("families", "kept", "dropped", "rule"),
    [
        (QUALITY, text_of(50), text_of(49), "gopher_quality.min_words"),
        (QUALITY, text_of(50), text_of(49, *",.!?"), "gopher_quality.min_words"),
        (QUALITY, text_of(100_000), text_of(100_001), "gopher_quality.max_words"),
        (QUALITY, "the and " + "abc " * 50, "the and " + "abc " * 50 + "ab", "gopher_quality.min_mean_word_length"),
        (
            QUALITY,
            "to of " + "abcdefghij " * 48 + "a" * 26,
            "to of " + "abcdefghij " * 48 + "a" * 27,
            "gopher_quality.max_mean_word_length",
        ),
        (QUALITY, text_of(90, *["#"] * 10), text_of(89, *["#"] * 10), "gopher_quality.max_hashes_per_word"),
        (
            QUALITY,
            text_of(90, *["...", "…"] * 5),
            text_of(89, *["…", "..."] * 5),
            "gopher_quality.max_ellipses_per_word",
        ),
        (
            QUALITY,
            text_of(60) + "\n- a\n • b" * 9 + "\n- c" * 0,
            text_of(60, joint="\n- ") and "- " + lines_of(60).replace("\n", "\n• "),
            "gopher_quality.max_bullet_lines",
        ),
        (
            QUALITY,
            lines_of(70).replace("w10\n", "w10...\n", 1) and _ellipsis_lines(21),
            _ellipsis_lines(22),
            "gopher_quality.max_ellipsis_lines",
        ),
    ],
)
def test_placeholder(families: Any, kept: str, dropped: str, rule: str) -> None: ...
