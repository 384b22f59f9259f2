"""Exact substring deduplication (Lee et al. 2022): what stands twice, however long the texts around it, stays once.

Every run of ``length`` tokens that occurs again, in the same document or another, is cut: at the places where a suffix
array over the tokens shows a common prefix of ``length`` or more with an earlier one. Tokens are whole characters, so
no cut splits one; the whitespace between two tokens takes no part in the comparison.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from pipeline.build.build import Step
from pipeline.build.stage import Stage
from pipeline.stages.dedup import canaries, repeats
from pipeline.text.units import Unit


class Config(repeats.Repeats):
    """The default length is the paper's, 50 tokens; its are byte pairs, ours words and signs, a little longer."""

    unit: Annotated[Unit, Field(description="unit that passages are made of: whole words and signs as tokens")] = (
        "token"
    )
    length: Annotated[
        repeats.Length,
        Field(description="tokens from which on a repeated run is cut; 50 as in Lee 2022, where tokens are byte pairs"),
    ] = 50
    minimum: Annotated[
        repeats.Minimum, Field(description="characters, whitespace aside, below which a run is never cut")
    ] = 0


def steps() -> list[Step]:
    return repeats.steps("substring", "Duplicate substrings")


STAGE = Stage(
    name="substring",
    title="Duplicate substrings",
    about="cut repeated runs of tokens (Lee 2022)",
    config=Config,
    steps=steps,
    compares=True,
    canaries=canaries.shared_passages("substring", "repeated substrings"),
)
