"""What the report says of a build's canaries: how many of what was planted each stage caught."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.build.build import Build
from pipeline.curation.canaries import of_stage, recall
from pipeline.stages.titles import title
from pipeline.text.formats import count


def canaries(build: Build) -> dict[str, Any] | None:
    """Rows, one a stage, warnings, and what was missed; None if the recipe plants none."""
    result = recall(build)
    if result is None or not result["stages"]:
        return None
    # The order of the stages is the build's: JSON keeps its keys sorted.
    order = [name for name in build.stages if name in result["stages"]]
    return {
        "planted": result["planted"],
        "rows": [_row(build, name, result["stages"][name]) for name in order],
        "warnings": result["warnings"],
        "missed": [(title(name), entry["missed"]) for name in order if (entry := result["stages"][name])["missed"]],
    }


def _row(build: Build, name: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    own = of_stage(build, name)
    return {
        "stage": title(name),
        "planted": f"{count(entry['planted'])} {own.kind}" if own and entry["planted"] else "nothing to plant",
        **{key: entry[key] for key in ("reached", "caught", "recall", "expected")},
    }
