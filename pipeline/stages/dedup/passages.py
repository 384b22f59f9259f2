"""Exact deduplication of lines, paragraphs (CCNet, Wenzek et al. 2020) or runs of sentences (three in C4, Raffel 2020).

A passage that occurs again is cut wherever it does, except in the document that comes first.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from pipeline.build.build import Step
from pipeline.build.stage import Stage
from pipeline.stages.dedup import canaries, repeats
from pipeline.text.units import Unit


class Config(repeats.Repeats):
    """By default paragraphs; ``minimum`` keeps short ones (a heading, "Yes.") wherever they stand."""

    unit: Annotated[Unit, Field(description="unit that passages are made of; CCNet: paragraphs, C4: sentences")] = (
        "paragraph"
    )
    length: Annotated[repeats.Length, Field(description="units in a passage; C4: 3 sentences")] = 1
    minimum: Annotated[
        repeats.Minimum, Field(description="characters, whitespace aside, below which a passage is never cut")
    ] = 40


def steps() -> list[Step]:
    return repeats.steps("passages", "Repeated passages")


STAGE = Stage(
    name="passages",
    title="Repeated passages",
    about="cut repeated lines, paragraphs or sentences",
    config=Config,
    steps=steps,
    compares=True,
    canaries=canaries.shared_passages("passages", "repeated passages"),
)
