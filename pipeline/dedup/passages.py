"""Exact deduplication of lines, paragraphs (CCNet, Wenzek et al. 2020) or runs of sentences (three in C4, Raffel 2020).

A passage that occurs again is cut wherever it does, except in the document that comes first.
"""

from __future__ import annotations

from pipeline.build import Step
from pipeline.dedup import repeats
from pipeline.dedup.units import Unit


class Config(repeats.Repeats):
    """By default paragraphs; ``minimum`` keeps short ones (a heading, "Yes.") wherever they stand."""

    unit: Unit = "paragraph"
    length: repeats.Length = 1
    minimum: repeats.Minimum = 40


def steps() -> list[Step]:
    return repeats.steps("passages", "Passage deduplication")
